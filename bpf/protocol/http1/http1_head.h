/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The fast path through a head that is wholly in view and of the usual form, in one pass over its words. Part of the
 * parser (http1_parser.h): what it makes of such a head is what http1_start() and http1_headers() make of it, step by
 * step; anything else is left to them. test/fuzz/http1_fuzz.c holds one against the other.
 */
#pragma once

#include "protocol/http1/http1_parser.h"

/* Hashes the path that starts at `start`, as http1_hash_path() does; says where it ends, or 0 if it is too long. What
 * lasts from one segment to the next is in memory, for the verifier. */
STREAM_FUNCTION u32 http1_usual_path(struct http1_window *window, u32 start)
{
	u64 hash = HTTP1_FNV_BASIS, seen = 0;
	struct http1_found *found;

	if (!window)
		return 0;
	found = &window->found;
	found->path_hash = hash;
	found->segment = start;
	for (u32 i = 0; i < HTTP1_PATH; i++) {
		u32 at = start + i;
		u8 byte = HTTP1_BYTE(window, at), class = http1_classes[byte];

		if (!(class & (CLASS_STOP | CLASS_SLASH))) {
			hash = http1_fnv(hash, byte);
			seen |= class;
			continue;
		}
		STREAM_FORGET();
		hash = http1_end_segment(hash, found->path_hash, seen, at - found->segment);
		if (class & CLASS_SLASH)
			hash = http1_fnv(hash, byte);
		found->path_hash = hash;
		if (class & CLASS_STOP)
			return at;
		found->segment = at + 1;
		seen = 0;
	}
	return 0;
}

/* Method and path; says where the path ends, or 0. */
static __always_inline u32 http1_usual_request(struct http1_window *window, u32 start, struct http1_found *found)
{
	u32 target = http1_known_method(http1_word(window, start), &found->method), end;

	if (!target || found->method == HTTP1_CONNECT)
		return 0;
	target += start;
	if (HTTP1_BYTE(window, target) != '/')
		return 0;
	end = http1_usual_path(window, target);
	window->path_start = target;
	window->path_length = end - target;
	return end;
}

/* "HTTP/1.x NNN" */
static __always_inline bool http1_usual_answer(struct http1_window *window, u32 start, u32 end,
					       struct http1_found *found)
{
	u64 word = http1_word(window, start), code = http1_word(window, start + 8);
	u32 a = (u8)(code >> 8) - '0', b = (u8)(code >> 16) - '0', c = (u8)(code >> 24) - '0';

	found->minor = word >> 56;
	if (end - start < 12 || (word & 0xffffffffffffffULL) != HTTP1_WORD('H', 'T', 'T', 'P', '/', '1', '.', 0) ||
	    (found->minor != '0' && found->minor != '1'))
		return false;
	found->status = a * 100 + b * 10 + c;
	return (u8)code == ' ' && a >= 1 && a <= 9 && b <= 9 && c <= 9;
}

/* Digits, at most one blank before them and a CR behind them. */
STREAM_FUNCTION int http1_usual_length(struct http1_window *window, u32 at, u32 end)
{
	struct http1_found *found;
	u64 value = 0;
	u32 i;

	if (!window)
		return 0;
	found = &window->found;

	if (HTTP1_BYTE(window, at) == ' ')
		at++;
	for (i = 0; i < 19; i++) {
		u8 digit = HTTP1_BYTE(window, at) - '0';

		if (digit > 9)
			break;
		value = value * 10 + digit;
		at++;
	}
	if (!i || i == 19 || ((found->flags & HTTP1_HAS_LENGTH) && found->length != value))
		return false;
	found->flags |= HTTP1_HAS_LENGTH;
	found->length = value;
	if (HTTP1_BYTE(window, at) == '\r')
		at++;
	return at == end;
}

/* A header line. False: not of the usual form, so it is left to http1_headers(). */
static __always_inline bool http1_usual_field(struct http1_window *window, u32 start, u32 end, bool traces,
					      struct http1_found *found)
{
	u64 first = http1_word(window, start) | HTTP1_LOWER, second;

	switch (first) {
	case HTTP1_WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-'):
		second = http1_word(window, start + 8) | HTTP1_LOWER;
		if ((second & 0xffffffffffffffULL) == HTTP1_WORD('l', 'e', 'n', 'g', 't', 'h', ':', 0))
			return http1_usual_length(window, start + 15, end);
		return true;
	case HTTP1_WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r'):
		if (end - start > HTTP1_LINE_SEEN)
			return false;
		second = http1_word(window, start + 8) | HTTP1_LOWER;
		if (second == HTTP1_WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') &&
		    (HTTP1_BYTE(window, start + 16) | 0x20) == 'g' && HTTP1_BYTE(window, start + 17) == ':')
			found->flags = http1_coding_flags(window, start + 18, end, found->flags);
		return true;
	case HTTP1_WORD('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r'):
	case HTTP1_WORD('t', 'r', 'a', 'c', 'e', 's', 't', 'a'):
		return !traces;
	}
	return true;
}

/* One line, from found->line to `end`. 0: not of the usual form; 1: go on; 2: it was the empty one. */
static __always_inline int http1_usual_line(struct http1_window *window, u32 end, bool traces)
{
	struct http1_found *found = &window->found;
	u32 start = found->line;

	if (start == window->position) {
		found->start_line_end = end;
		return 1;
	}
	if (end - start < 2 && (end == start || HTTP1_BYTE(window, start) == '\r'))
		return 2;
	return http1_usual_field(window, start, end, traces, found);
}

/* every turn uses up four words or a line; a head of more lines than this is rare */
#define HTTP1_TURNS (HTTP1_WINDOW / 32 + 40)

/* Index of the first line feed among the 32 bytes at `at`, or 32. All four words at once: none waits for another. */
static __always_inline u32 http1_next_feed(struct http1_window *window, u32 at)
{
	u64 a, b, c, d;

	at &= HTTP1_MASK;
	a = http1_line_feeds(http1_word_at(window, at));
	b = http1_line_feeds(http1_word_at(window, at + 8));
	c = http1_line_feeds(http1_word_at(window, at + 16));
	d = http1_line_feeds(http1_word_at(window, at + 24));
	if (a)
		return http1_first(a);
	if (b)
		return 8 + http1_first(b);
	if (c)
		return 16 + http1_first(c);
	return d ? 24 + http1_first(d) : 32;
}

/*
 * Goes through the lines. Says where the head ends, or 0. A function of its own, which at each turn takes up from
 * memory: so a turn is the same to the verifier as the one before, and it need not look at what may follow again.
 */
STREAM_FUNCTION u32 http1_usual_lines(struct http1_window *window, bool traces)
{
	struct http1_found *found;

	if (!window)
		return 0;
	found = &window->found;
	for (u32 i = 0; i < HTTP1_TURNS; i++) {
		u32 end, feed;
		int line;

		STREAM_FORGET();
		end = found->at;
		if (end >= window->length)
			return 0;
		feed = http1_next_feed(window, end);
		end += feed;
		if (feed == 32) {
			found->at = end;
			continue;
		}
		if (end >= window->length)
			return 0;
		line = http1_usual_line(window, end, traces);
		if (line != 1)
			return line ? end + 1 : 0;
		found->line = found->at = end + 1;
	}
	return 0;
}

/*
 * To be called where a message begins. 1: the head was used up, and the parser stands where HTTP1_HEADERS_END finds
 * it; 0: nothing has changed. `traces`: traceparent and tracestate are wanted.
 */
static __always_inline int http1_head(struct http1_parser *parser, struct http1_window *window, bool traces)
{
	struct http1_found *found = &window->found;
	bool is_response = parser->is_response;
	u32 end;

	found->flags = 0;
	found->length = 0;
	found->line = found->at = window->position;
	if (!is_response) {
		found->at = http1_usual_request(window, window->position, found);
		if (!found->at)
			return 0;
	}
	end = http1_usual_lines(window, traces && !is_response);
	if (!end)
		return 0;
	if (is_response) {
		if (!http1_usual_answer(window, window->position, found->start_line_end, found))
			return 0;
		parser->status = found->status;
	} else {
		found->minor = http1_version_before(window, window->position, found->start_line_end);
		if (!found->minor)
			return 0;
		parser->method = found->method;
		parser->path_hash = found->path_hash;
	}
	parser->minor = found->minor;
	parser->flags = found->flags;
	parser->length = found->length;
	parser->remaining = parser->body = 0;
	parser->state = HTTP1_UNDECIDED;
	window->position = end;
	return 1;
}
