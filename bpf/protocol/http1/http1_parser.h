/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * HTTP/1 (RFC 9112), one direction of one connection: an incremental parser that is given a window of
 * bytes at a time and answers with events. http1_conn.h steps it. It reads start lines and the few header
 * fields that matter for framing and tracing; bodies are stepped over by arithmetic and never read.
 *
 * Compiles for BPF and for user mode, where it is fuzzed and compared with another parser. Everything that
 * changes lives in memory that the BPF verifier does not follow, so that its loops are looked at once.
 */
#pragma once

#include "protocol/http1/http1_start.h"

/*
 * Header fields.
 */

static __always_inline bool http1_is_blank(u8 byte)
{
	return byte == ' ' || byte == '\t';
}

STREAM_FUNCTION u32 http1_skip_blanks(struct http1_window *window, u32 at, u32 end)
{
	if (!window)
		return end;
	for (u32 i = 0; i < HTTP1_LINE_SEEN; i++)
		if (at + i >= end || !http1_is_blank(HTTP1_BYTE(window, at + i)))
			return at + i;
	return at;
}

/* Digits between `start` and `end` with blanks around them. */
STREAM_FUNCTION int http1_content_length(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end)
{
	u64 value = 0;
	u32 at, digits;

	if (!parser || !window)
		return HTTP1_MALFORMED;
	at = http1_skip_blanks(window, start, end);
	for (digits = 0; digits < 19; digits++) {
		u8 byte = HTTP1_BYTE(window, at + digits);

		if (at + digits >= end || !(http1_classes[byte] & CLASS_DIGIT))
			break;
		value = value * 10 + (byte - '0');
	}
	at = http1_skip_blanks(window, at + digits, end);
	if (at < end && HTTP1_BYTE(window, at) == '\r')
		at++;
	if (at < end || digits == 19)
		return HTTP1_MALFORMED;
	if (!digits || ((parser->flags & HTTP1_HAS_LENGTH) && parser->length != value))
		return HTTP1_MALFORMED;
	parser->flags |= HTTP1_HAS_LENGTH;
	parser->length = value;
	return HTTP1_AGAIN;
}

/* Drops blanks and a CR from the end of a value. */
static __always_inline u32 http1_trim_end(struct http1_window *window, u32 start, u32 end)
{
	for (u32 i = 0; i < 8; i++) {
		u8 byte = end > start ? HTTP1_BYTE(window, end - 1) : 0;
		if (!http1_is_blank(byte) && byte != '\r')
			break;
		end--;
	}
	return end;
}

/* Is "chunked" the last coding? A line says so for all lines before it. Answers the flags as they are then. */
STREAM_FUNCTION u32 http1_coding_flags(struct http1_window *window, u32 start, u32 end, u32 flags)
{
	u8 before;

	if (!window)
		return flags;
	end = http1_trim_end(window, start, end);
	flags = (flags | HTTP1_HAS_CODING) & ~HTTP1_CHUNKED;
	if (end < start + 7)
		return flags;
	before = HTTP1_BYTE(window, end - 8);
	if (((http1_word(window, end - 7) | HTTP1_LOWER) & 0xffffffffffffffULL) ==
		    HTTP1_WORD('c', 'h', 'u', 'n', 'k', 'e', 'd', 0) &&
	    (before == ':' || before == ',' || http1_is_blank(before)))
		flags |= HTTP1_CHUNKED;
	return flags;
}

static __always_inline int http1_trace_field(struct http1_window *window, u32 start, u32 end, int event)
{
	for (u32 i = 0; i < 8 && start < end && http1_is_blank(HTTP1_BYTE(window, start)); i++)
		start++;
	end = http1_trim_end(window, start, end);
	window->value_start = start;
	window->value_length = end - start;
	return event;
}

/* A header line that begins like one that matters. Its first word, in lower case, is `first`. */
STREAM_FUNCTION int http1_field(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end, u64 first)
{
	u64 second;

	if (!parser || !window)
		return HTTP1_MALFORMED;
	second = http1_word(window, start + 8) | HTTP1_LOWER;

	switch (first) {
	case HTTP1_WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-'):
		if ((second & 0xffffffffffffffULL) == HTTP1_WORD('l', 'e', 'n', 'g', 't', 'h', ':', 0))
			return http1_content_length(parser, window, start + 15, end);
		break;
	case HTTP1_WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r'):
		if (second == HTTP1_WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') &&
		    (HTTP1_BYTE(window, start + 16) | 0x20) == 'g' && HTTP1_BYTE(window, start + 17) == ':')
			parser->flags = http1_coding_flags(window, start + 18, end, parser->flags);
		break;
	case HTTP1_WORD('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r'):
		if (!parser->is_response && (u32)second == (u32)HTTP1_WORD('e', 'n', 't', ':', 0, 0, 0, 0))
			return http1_trace_field(window, start + 12, end, HTTP1_TRACEPARENT);
		break;
	case HTTP1_WORD('t', 'r', 'a', 'c', 'e', 's', 't', 'a'):
		if (!parser->is_response && (second & 0xffffff) == HTTP1_WORD('t', 'e', ':', 0, 0, 0, 0, 0))
			return http1_trace_field(window, start + 11, end, HTTP1_TRACESTATE);
		break;
	}
	return HTTP1_AGAIN;
}

static __always_inline bool http1_field_matters(u64 first)
{
	return first == HTTP1_WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-') ||
	       first == HTTP1_WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') ||
	       first == HTTP1_WORD('t', 'r', 'a', 'c', 'e', 'p', 'a', 'r') ||
	       first == HTTP1_WORD('t', 'r', 'a', 'c', 'e', 's', 't', 'a');
}

static __always_inline int http1_cut_field(struct http1_parser *parser, struct http1_window *window, u32 start)
{
	u64 first = http1_word(window, start) | HTTP1_LOWER;

	return http1_field_matters(first) ? http1_field(parser, window, start, start + HTTP1_LINE_SEEN, first) : HTTP1_AGAIN;
}

/* What is left of the window holds no line end. The lines before it have been used. */
STREAM_FUNCTION int http1_no_line_end(struct http1_parser *parser, struct http1_window *window)
{
	u32 start;

	if (!parser || !window)
		return HTTP1_MALFORMED;
	start = window->position;
	if (parser->state == HTTP1_HEADER_REST || parser->state == HTTP1_TRAILER_REST) {
		window->position = window->length;
		return HTTP1_NEED_DATA;
	}
	if (start + HTTP1_LINE_SEEN > window->length)
		return HTTP1_NEED_DATA;
	/* a line longer than what is looked at: use its beginning, then step over the rest */
	window->position = window->length;
	if (parser->state == HTTP1_TRAILERS) {
		parser->state = HTTP1_TRAILER_REST;
		return HTTP1_AGAIN;
	}
	parser->state = HTTP1_HEADER_REST;
	return http1_cut_field(parser, window, start);
}

#define HTTP1_LINES 64 /* gone through at once */
/*
 * Goes through header lines until one matters. In the rest of a long line and in trailers
 * nothing matters but the empty line at the end.
 */
STREAM_FUNCTION int http1_headers(struct http1_parser *parser, struct http1_window *window)
{
	u32 start, end = 0, i;
	u64 word = 0;

	if (!parser || !window)
		return HTTP1_MALFORMED;
	start = window->position;
	for (i = 0; i < HTTP1_LINES; i++) {
		end = http1_find_line_end(window, start);
		if (!(end & HTTP1_COMPLETE)) {
			window->position = start;
			return http1_no_line_end(parser, window);
		}
		end &= ~HTTP1_COMPLETE;
		word = http1_word(window, start);
		if (end - start < 2 || parser->state != HTTP1_HEADERS || http1_field_matters(word | HTTP1_LOWER))
			break;
		start = end + 1;
	}
	if (i == HTTP1_LINES) {
		window->position = start;
		return HTTP1_AGAIN; /* many short lines */
	}
	window->position = end + 1;
	if (parser->state == HTTP1_HEADER_REST || parser->state == HTTP1_TRAILER_REST) {
		parser->state = parser->state == HTTP1_HEADER_REST ? HTTP1_HEADERS : HTTP1_TRAILERS;
		return HTTP1_AGAIN;
	}
	if (end == start || (end == start + 1 && (u8)word == '\r')) {
		if (parser->state == HTTP1_TRAILERS) {
			parser->state = HTTP1_START;
			return HTTP1_MESSAGE_END;
		}
		parser->state = HTTP1_UNDECIDED;
		return HTTP1_HEADERS_END;
	}
	if (parser->state != HTTP1_HEADERS || !http1_field_matters(word | HTTP1_LOWER))
		return HTTP1_AGAIN;
	if (end - start > HTTP1_LINE_SEEN)
		end = start + HTTP1_LINE_SEEN;
	return http1_field(parser, window, start, end, word | HTTP1_LOWER);
}

/* "1a2b[;extension]" (RFC 9112, 7.1) */
STREAM_FUNCTION int http1_chunk_size(struct http1_parser *parser, struct http1_window *window)
{
	u32 start, end, complete;
	u64 value = 0, digits = 0;

	if (!parser || !window)
		return HTTP1_MALFORMED;
	start = window->position;
	end = http1_find_line_end(window, start);
	complete = end & HTTP1_COMPLETE;
	end &= ~HTTP1_COMPLETE;
	if (!complete)
		return end - start < HTTP1_LINE_SEEN ? HTTP1_NEED_DATA : HTTP1_MALFORMED;
	for (u32 i = 0; i < 17; i++) {
		u8 byte = HTTP1_BYTE(window, start + i), class = http1_classes[byte], letter = byte | 0x20;

		if (start + i >= end || byte == ';' || byte == '\r' || http1_is_blank(byte))
			break;
		if (class & CLASS_DIGIT)
			value = value << 4 | (byte - '0');
		else if (letter >= 'a' && letter <= 'f')
			value = value << 4 | (letter - 'a' + 10);
		else
			return HTTP1_MALFORMED;
		digits++;
	}
	if (!digits || digits > 15)
		return HTTP1_MALFORMED;
	window->position = end + 1;
	parser->body += value;
	parser->remaining = value + 2;
	parser->small_chunks = value < HTTP1_SMALL_CHUNK;
	parser->state = value ? HTTP1_CHUNK : HTTP1_TRAILERS;
	return HTTP1_AGAIN;
}

/* Uses up what the window holds, to the next event. Bounded work: at most one window. */
static __always_inline int http1_step(struct http1_parser *parser, struct http1_window *window)
{
	switch (parser->state) {
	case HTTP1_START:
		return http1_start(parser, window);
	case HTTP1_START_REST:
		return http1_start_rest(parser, window);
	case HTTP1_HEADERS:
	case HTTP1_HEADER_REST:
	case HTTP1_TRAILERS:
	case HTTP1_TRAILER_REST:
		return http1_headers(parser, window);
	case HTTP1_CHUNK_SIZE:
		return http1_chunk_size(parser, window);
	case HTTP1_UNDECIDED:
		return HTTP1_HEADERS_END;
	default:
		return HTTP1_SKIP;
	}
}

/*
 * To be called at HTTP1_HEADERS_END. `no_body`: none follows, even if fields announce one (the answer to HEAD,
 * 1xx, 204, 304). Answers HTTP1_MESSAGE_END, HTTP1_AGAIN, or HTTP1_MALFORMED. RFC 9112, 6.3.
 */
static __always_inline int http1_begin_body(struct http1_parser *parser, bool no_body)
{
	if (!no_body) {
		if (parser->flags & HTTP1_CHUNKED) {
			parser->state = HTTP1_CHUNK_SIZE;
			return HTTP1_AGAIN;
		}
		if (parser->flags & HTTP1_HAS_CODING) {
			if (!parser->is_response)
				return HTTP1_MALFORMED;
			parser->state = HTTP1_BODY_TO_CLOSE;
			return HTTP1_AGAIN;
		}
		if (parser->flags & HTTP1_HAS_LENGTH ? parser->length != 0 : parser->is_response != 0) {
			parser->remaining = parser->body = parser->length;
			parser->state = parser->flags & HTTP1_HAS_LENGTH ? HTTP1_BODY : HTTP1_BODY_TO_CLOSE;
			return HTTP1_AGAIN;
		}
	}
	parser->state = HTTP1_START;
	return HTTP1_MESSAGE_END;
}

/* How many of `available` bytes belong to the body; steps over them. At its end the state changes. */
static __always_inline u64 http1_skip(struct http1_parser *parser, u64 available)
{
	if (parser->state == HTTP1_BODY_TO_CLOSE) {
		parser->body += available;
		return available;
	}
	if (available > parser->remaining)
		available = parser->remaining;
	parser->remaining -= available;
	if (!parser->remaining)
		parser->state = parser->state == HTTP1_CHUNK ? HTTP1_CHUNK_SIZE : HTTP1_START;
	return available;
}
