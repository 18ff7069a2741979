/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Start lines of HTTP/1: method, target and version of a request, version and status of an answer. Part of the
 * parser (http1_parser.h).
 */
#pragma once

#include "protocol/http1/http1_begins.h"
#include "protocol/http1/http1_scan.h"

/* Bytes of "METHOD " and the method in *method; 0 for anything else. */
static __always_inline u32 http1_known_method(u64 word, u8 *method)
{
	if ((u32)word == (u32)HTTP1_WORD('G', 'E', 'T', ' ', 0, 0, 0, 0)) {
		*method = HTTP1_GET;
		return 4;
	}
	if ((u32)word == (u32)HTTP1_WORD('P', 'U', 'T', ' ', 0, 0, 0, 0)) {
		*method = HTTP1_PUT;
		return 4;
	}
	if ((word & 0xffffffffffULL) == HTTP1_WORD('P', 'O', 'S', 'T', ' ', 0, 0, 0)) {
		*method = HTTP1_POST;
		return 5;
	}
	if ((word & 0xffffffffffULL) == HTTP1_WORD('H', 'E', 'A', 'D', ' ', 0, 0, 0)) {
		*method = HTTP1_HEAD;
		return 5;
	}
	if ((word & 0xffffffffffffULL) == HTTP1_WORD('P', 'A', 'T', 'C', 'H', ' ', 0, 0)) {
		*method = HTTP1_PATCH;
		return 6;
	}
	if ((word & 0xffffffffffffULL) == HTTP1_WORD('T', 'R', 'A', 'C', 'E', ' ', 0, 0)) {
		*method = HTTP1_TRACE;
		return 6;
	}
	if ((word & 0xffffffffffffffULL) == HTTP1_WORD('D', 'E', 'L', 'E', 'T', 'E', ' ', 0)) {
		*method = HTTP1_DELETE;
		return 7;
	}
	if (word == HTTP1_WORD('O', 'P', 'T', 'I', 'O', 'N', 'S', ' ')) {
		*method = HTTP1_OPTIONS;
		return 8;
	}
	if (word == HTTP1_WORD('C', 'O', 'N', 'N', 'E', 'C', 'T', ' ')) {
		*method = HTTP1_CONNECT;
		return 8;
	}
	return 0;
}

#define HTTP1_METHOD_CUT 0xffffu
/*
 * A method of another standard (WebDAV, ...), or of none: any token (RFC 9110, 9.1), at most HTTP1_METHOD long, then a
 * space. Bytes of it and the space; 0: it is none; HTTP1_METHOD_CUT: what is in view may go on as one.
 */
STREAM_FUNCTION u32 http1_other_method(struct http1_window *window, u32 start, u32 end)
{
	if (!window)
		return 0;
	for (u32 i = 0; i <= HTTP1_METHOD; i++) {
		u8 byte = HTTP1_BYTE(window, start + i);

		if (start + i >= end)
			return HTTP1_METHOD_CUT;
		if (byte == ' ')
			return i ? i + 1 : 0;
		if (!http1_tokens[byte])
			return 0;
	}
	return 0;
}

/* May what is in view of an incomplete line become a request line? Other protocols are not waited for. */
static __always_inline bool http1_may_become_request(struct http1_window *window, u32 start, u32 end)
{
	u8 method, target;
	u32 skip;

	if (http1_known_method(http1_word(window, start), &method))
		return true;
	skip = http1_other_method(window, start, end);
	if (!skip || skip == HTTP1_METHOD_CUT || start + skip >= end)
		return skip;
	target = HTTP1_BYTE(window, start + skip);
	return target == '/' || target == '*' || (target | 0x20) == 'h' /* "http://host/path" */;
}

/* "HTTP/1.x" in front of `end` (behind it a CR may stand); says x as a digit, or 0. */
static __always_inline u8 http1_version_before(struct http1_window *window, u32 start, u32 end)
{
	u64 word;

	if (end > start && HTTP1_BYTE(window, end - 1) == '\r')
		end--;
	if (end < start + 9 || HTTP1_BYTE(window, end - 9) != ' ')
		return 0;
	word = http1_word(window, end - 8);
	if (word == HTTP1_WORD('H', 'T', 'T', 'P', '/', '1', '.', '1'))
		return '1';
	return word == HTTP1_WORD('H', 'T', 'T', 'P', '/', '1', '.', '0') ? '0' : 0;
}

/* The request line's method and target. `end`: where the line ends, or what is in view of it. */
STREAM_FUNCTION int http1_request_line(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end,
				      u32 complete)
{
	u32 skip, target, sure = 1;
	u8 method = 0;

	if (!parser || !window)
		return HTTP1_MALFORMED;
	skip = http1_known_method(http1_word(window, start), &method);
	if (!skip) {
		skip = http1_other_method(window, start, end);
		if (!skip || skip == HTTP1_METHOD_CUT)
			return HTTP1_MALFORMED;
		method = HTTP1_METHOD_OTHER;
		sure = complete; /* without its version in view, such a line has to have a path */
	}
	parser->method = method;
	parser->flags = 0;
	target = start + skip;
	if (method == HTTP1_CONNECT) {
		window->path_start = target;
		window->path_length = 0;
		parser->path_hash = HTTP1_FNV_BASIS;
	} else {
		if (HTTP1_BYTE(window, target) != '/' && (HTTP1_BYTE(window, target) != '*' || !sure)) {
			target = http1_path_of_absolute(window, target, end);
			if (target >= end && !sure)
				return HTTP1_MALFORMED;
			if (target >= end) { /* the path of "http://host" is "/" */
				window->path_start = HTTP1_ROOT;
				window->path_length = 1;
				window->bytes[HTTP1_ROOT] = '/';
				parser->path_hash = http1_fnv(HTTP1_FNV_BASIS, '/');
				return HTTP1_TARGET;
			}
		}
		http1_hash_path(parser, window, target, end);
	}
	return HTTP1_TARGET;
}

/* "HTTP/1.x NNN" */
static __always_inline int http1_status_line(struct http1_parser *parser, struct http1_window *window, u32 start,
					     u32 end)
{
	u64 word = http1_word(window, start);
	u32 a, b, c;

	if (end < start + 12)
		return HTTP1_MALFORMED;
	if (word == HTTP1_WORD('H', 'T', 'T', 'P', '/', '1', '.', '1'))
		parser->minor = '1';
	else if (word == HTTP1_WORD('H', 'T', 'T', 'P', '/', '1', '.', '0'))
		parser->minor = '0';
	else
		return HTTP1_MALFORMED;
	a = HTTP1_BYTE(window, start + 9) - '0';
	b = HTTP1_BYTE(window, start + 10) - '0';
	c = HTTP1_BYTE(window, start + 11) - '0';
	if (HTTP1_BYTE(window, start + 8) != ' ' || a < 1 || a > 9 || b > 9 || c > 9)
		return HTTP1_MALFORMED;
	parser->status = a * 100 + b * 10 + c;
	parser->flags = 0;
	return HTTP1_TARGET;
}

#define HTTP1_COMPLETE 0x80000000u
/* Where the line ends that starts at `start`: the position of its line feed with HTTP1_COMPLETE, or the end of
 * what is in view. */
STREAM_FUNCTION u32 http1_find_line_end(struct http1_window *window, u32 start)
{
	u32 at = start;

	if (!window)
		return 0;
	for (u32 i = 0; i < HTTP1_WINDOW / 8; i++) {
		u64 feeds;

		if (at >= window->length)
			break;
		feeds = http1_line_feeds(http1_word(window, at));
		if (feeds) {
			at += http1_first(feeds);
			if (at < window->length)
				return at | HTTP1_COMPLETE;
			break;
		}
		at += 8;
	}
	return window->length;
}

/* Can a message start with this byte? */
static __always_inline bool http1_may_start(const struct http1_parser *parser, u8 byte)
{
	return parser->is_response ? byte == 'H' : http1_tokens[byte];
}

STREAM_FUNCTION int http1_start(struct http1_parser *parser, struct http1_window *window)
{
	u32 start, end, seen, complete;
	int event;
	u8 first;

	if (!parser || !window)
		return HTTP1_MALFORMED;
	start = window->position;
	if (start >= window->length)
		return HTTP1_NEED_DATA;
	first = HTTP1_BYTE(window, start);
	if (first == '\r' || first == '\n') { /* RFC 9112, 2.2: ignore empty lines before a start line */
		window->position = start + 1;
		return HTTP1_AGAIN;
	}
	if (!http1_may_start(parser, first))
		return HTTP1_MALFORMED;
	end = http1_find_line_end(window, start);
	complete = end & HTTP1_COMPLETE;
	end &= ~HTTP1_COMPLETE;
	if (!complete && end - start < HTTP1_LINE_SEEN) {
		if (parser->is_response
			    ? end - start >= 8 &&
				      (u32)http1_word(window, start) != (u32)HTTP1_WORD('H', 'T', 'T', 'P', 0, 0, 0, 0)
			    : !http1_may_become_request(window, start, end))
			return HTTP1_MALFORMED;
		return HTTP1_NEED_DATA;
	}
	parser->remaining = parser->length = parser->body = 0;
	if (complete && !parser->is_response) {
		parser->minor = http1_version_before(window, start, end);
		if (!parser->minor)
			return HTTP1_MALFORMED;
	}
	seen = end > start + HTTP1_LINE_SEEN ? start + HTTP1_LINE_SEEN : end;
	event = parser->is_response ? http1_status_line(parser, window, start, seen)
				    : http1_request_line(parser, window, start, seen, complete);
	if (event != HTTP1_TARGET)
		return event;
	if (complete) {
		window->position = end + 1;
		parser->state = HTTP1_HEADERS;
		return parser->is_response ? HTTP1_LINE_END : HTTP1_LINE;
	}
	window->position = end > start + HTTP1_TAIL ? end - HTTP1_TAIL : start;
	parser->state = HTTP1_START_REST;
	return HTTP1_TARGET;
}

/* The end of a start line. */
static __always_inline int http1_start_rest(struct http1_parser *parser, struct http1_window *window)
{
	u32 start = window->position, end, complete;

	end = http1_find_line_end(window, start);
	complete = end & HTTP1_COMPLETE;
	end &= ~HTTP1_COMPLETE;
	if (!complete) {
		if (end > start + HTTP1_TAIL)
			window->position = end - HTTP1_TAIL;
		return HTTP1_NEED_DATA;
	}
	if (!parser->is_response) {
		parser->minor = http1_version_before(window, start, end);
		if (!parser->minor)
			return HTTP1_MALFORMED;
	}
	window->position = end + 1;
	parser->state = HTTP1_HEADERS;
	return HTTP1_LINE_END;
}
