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

#define HTTP1_BEGINS_METHOD 24 /* bytes of a method at most */
#define HTTP1_BEGINS_LOOK 64   /* bytes that can be read, of which `length` are there */

/* Where a request line ends in view, is its version in front of that? */
static __always_inline bool http1_begins_line(const u8 *bytes, u32 length)
{
	for (u32 i = 9; i < HTTP1_BEGINS_LOOK; i++) {
		const u8 *version = bytes[i - 1] == '\r' ? &bytes[i - 9] : &bytes[i - 8];

		if (i >= length)
			return true;
		if (bytes[i] == '\n')
			return version[0] == 'H' && version[1] == 'T' && version[2] == 'T' && version[3] == 'P' &&
			       version[4] == '/' && version[5] == '1' && version[6] == '.';
	}
	return true;
}

static __always_inline bool http1_begins(const u8 *bytes, u32 length, bool is_answer)
{
	const char version[] = "HTTP/1.";

	if (!length || bytes[0] == '\r' || bytes[0] == '\n')
		return length; /* an empty line in front (RFC 9112, 2.2) */
	if (is_answer) {
		for (u32 i = 0; i < sizeof(version) - 1; i++)
			if (i < length && bytes[i] != version[i])
				return false;
		return true;
	}
	for (u32 i = 0; i <= HTTP1_BEGINS_METHOD; i++) {
		u8 byte = bytes[i];

		if (i >= length)
			return true;
		if (byte == ' ')
			return i > 1 && http1_begins_line(bytes, length);
		if (byte != '-' && (byte < 'A' || byte > 'Z'))
			return false;
	}
	return false;
}
#endif
