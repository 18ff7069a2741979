/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The head cache: on a connection that is kept, the next request very often has the head of the last one, byte by
 * byte, and so has the answer within one second (Date). To compare is a fraction of the work of parsing, and what was
 * parsed is still in the parser. The head is kept in the buffer for carried lines, which is empty between messages; every
 * other code that reads a start line, or uses that buffer, invalidates it.
 */
#pragma once

#include "protocol/http1/http1_exchange.h"

#define HTTP1_CACHE_MIN 32 /* one step of the comparison */
#define HTTP1_CACHE_TRIES 3 /* heads in a row that are kept though each was a miss; then every sixteenth */

/* Do 32 bytes differ? */
static __always_inline u64 http1_differ(const u8 *a, const u8 *b)
{
	return (http1_word_of(a) ^ http1_word_of(b)) | (http1_word_of(a + 8) ^ http1_word_of(b + 8)) |
	       (http1_word_of(a + 16) ^ http1_word_of(b + 16)) | (http1_word_of(a + 24) ^ http1_word_of(b + 24));
}

/* The window begins with the head that was kept: the parser stands behind it then, as http1_head() would leave it. */
static __always_inline int http1_cached_head(struct http1_direction *direction, struct http1_window *window)
{
	u32 length = direction->kept, at, last;

	if (!length || length > window->length)
		return 0;
	for (at = 0; at < HTTP1_LINE_SEEN; at += 32) {
		if (at + 32 > length)
			break;
		if (http1_differ(&window->bytes[at], &direction->carry[at]))
			return 0;
	}
	last = (length - 32) & (HTTP1_LINE_SEEN - 1);
	if (last > HTTP1_LINE_SEEN - 32 || http1_differ(&window->bytes[last], &direction->carry[last]))
		return 0;
	direction->parser.remaining = direction->parser.body = 0;
	direction->parser.state = HTTP1_UNDECIDED;
	window->path_start = direction->kept_path_start;
	window->path_length = direction->kept_path_length;
	window->position = length;
	direction->cache_misses = 0;
	return 1;
}

/* Keeps the head that http1_head() has just used up. */
static __always_inline void http1_keep_head(struct http1_direction *direction, struct http1_window *window)
{
	u32 length = window->position;

	direction->kept = 0;
	if (++direction->cache_misses > HTTP1_CACHE_TRIES && (direction->cache_misses & 15))
		return;
	STREAM_KEEP(length);
	if (length < HTTP1_CACHE_MIN || length > HTTP1_LINE_SEEN)
		return;
	stream_copy(direction->carry, length, window->bytes);
	direction->kept_path_start = window->path_start;
	direction->kept_path_length = window->path_length;
	direction->kept = length;
}
