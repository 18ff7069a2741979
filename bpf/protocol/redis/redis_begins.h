/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Do the first bytes of a connection look like Redis? Asked before anything is known of it (bpf/stream/classify.h). */
#ifdef STREAM_PROTOCOL
STREAM_PROTOCOL(STREAM_REDIS, redis)
#elif !defined(REDIS_BEGINS_H)
#define REDIS_BEGINS_H

#include "stream/base.h"

/* "*N\r\n$", as far as it goes: how every client library begins, and how a list of strings is answered. */
static __always_inline bool redis_looks_like_list(const u8 *bytes, u32 length)
{
	u32 i, digits = 0;

	for (i = 1; i < 9 && i < length && (u8)(bytes[i] - '0') <= 9; i++)
		digits++;
	if (digits > 7 || (digits && bytes[1] == '0' && digits > 1))
		return false;
	if (i < length && (!digits || bytes[i] != '\r'))
		return false;
	i++;
	if (i < length && bytes[i] != '\n')
		return false;
	i++;
	return i >= length || bytes[i] == '$';
}

/* What commands are written with. A table: a loop that branches on each byte is too much for the verifier. */
static const u8 redis_letters[256] = {['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['_'] = 1};

/* An inline request: a word of letters, then the end of a line or more of them. Whether it is a command of Redis is found
 * out when it is complete, and an answer has to confirm it. */
static __always_inline bool redis_looks_inline(const u8 *bytes, u32 length)
{
	u32 i;

	for (i = 0; i < 16 && i < length; i++)
		if (!redis_letters[bytes[i]])
			break;
	return i >= 3 ? i == length || i == 16 || bytes[i] == ' ' || bytes[i] == '\r' || bytes[i] == '\n' : i == length;
}

/* A server that speaks first is not one of Redis. What is seen first is an answer all the same where the request's call
 * was seen to return later. */
static __always_inline bool redis_looks_like_answer(const u8 *bytes, u32 length)
{
	switch (bytes[0]) {
	case '*':
		return redis_looks_like_list(bytes, length) || length < 3 || bytes[2] == '\r';
	case '%': /* HELLO */
	case '$':
		return length < 2 || (u8)(bytes[1] - '0') <= 9 || bytes[1] == '-';
	case ':':
		return length < 2 || (u8)(bytes[1] - '0') <= 9 || bytes[1] == '-';
	case '+': /* "+OK ready" is POP3 */
		return length < 4 || (bytes[1] == 'O' && bytes[2] == 'K' && bytes[3] == '\r') ||
		       (bytes[1] == 'P' && bytes[2] == 'O' && bytes[3] == 'N');
	case '-':
		return length < 2 || (bytes[1] >= 'A' && bytes[1] <= 'Z');
	}
	return false;
}

/* True as well while it may still become one. */
static __always_inline bool redis_begins(const u8 *bytes, u32 length, bool is_answer)
{
	if (!length)
		return true;
	if (is_answer)
		return redis_looks_like_answer(bytes, length);
	if (bytes[0] == '*')
		return redis_looks_like_list(bytes, length);
	return redis_looks_inline(bytes, length);
}
#endif
