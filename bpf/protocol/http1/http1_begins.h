/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Could a connection that begins with these bytes be HTTP/1? For the classification of connections
 * (stream/classify.h), so it needs to be cheap, and right only where it says no: the parser decides.
 */
#ifdef STREAM_PROTOCOL
STREAM_PROTOCOL(STREAM_HTTP1, http1)
#elif !defined(HTTP1_BEGINS_H)
#define HTTP1_BEGINS_H

#include "stream/base.h"

#define HTTP1_BEGINS_LOOK 64 /* bytes that can be read, of which `length` are there */

/* What a method is made of (RFC 9110, 5.6.2: a token). A table: a loop that branches on each byte is too much for the
 * verifier. */
static const u8 http1_tokens[256] = {
	['!'] = 1, ['#' ... '\''] = 1, ['*' ... '+'] = 1, ['-' ... '.'] = 1, ['0' ... '9'] = 1,
	['A' ... 'Z'] = 1, ['^' ... 'z'] = 1, ['|'] = 1, ['~'] = 1,
};

/* The first bytes, and how many there are. Functions of their own: what one finds out of `length` is nothing to the other,
 * and the verifier would go through the second for each way out of the first. */
struct http1_look {
	u8 bytes[HTTP1_BEGINS_LOOK];
};

/* May they begin with a method? Of a word without its end, '*' in front is taken for Redis's. */
STREAM_FUNCTION int http1_begins_method(const struct http1_look *look, u32 length)
{
	if (!look || look->bytes[0] == ' ')
		return false;
	for (u32 i = 0; i < HTTP1_BEGINS_LOOK; i++) {
		if (i >= length)
			return look->bytes[0] != '*';
		if (look->bytes[i] == ' ')
			return true;
		if (!http1_tokens[look->bytes[i]])
			return false;
	}
	return true;
}

/* Where a request line ends in view, is its version in front of that? */
STREAM_FUNCTION int http1_begins_line(const struct http1_look *look, u32 length)
{
	if (!look)
		return false;
	for (u32 i = 9; i < HTTP1_BEGINS_LOOK; i++) {
		const u8 *version = look->bytes[i - 1] == '\r' ? &look->bytes[i - 9] : &look->bytes[i - 8];

		if (i >= length)
			return true;
		if (look->bytes[i] == '\n')
			return version[0] == 'H' && version[1] == 'T' && version[2] == 'T' && version[3] == 'P' &&
			       version[4] == '/' && version[5] == '1' && version[6] == '.';
	}
	return true;
}

static __always_inline bool http1_begins(const u8 *bytes, u32 length, bool is_answer)
{
	const struct http1_look *look = (const void *)bytes;
	const char version[] = "HTTP/1.";

	if (!length || bytes[0] == '\r' || bytes[0] == '\n')
		return length; /* an empty line in front (RFC 9112, 2.2) */
	if (is_answer) {
		for (u32 i = 0; i < sizeof(version) - 1; i++)
			if (i < length && bytes[i] != version[i])
				return false;
		return true;
	}
	return http1_begins_method(look, length) && http1_begins_line(look, length);
}
#endif
