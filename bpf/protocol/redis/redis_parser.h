/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * RESP2 and RESP3 (redis.io, "Redis serialization protocol specification"), one direction of one connection: an
 * incremental parser that is shown a window of bytes at a time and answers with events. redis_conn.h drives it. Of
 * requests it reads the name and the few arguments that decide what is answered, of answers the first bytes; strings are
 * stepped over by their length and never read, and lists within lists are counted, not remembered.
 *
 * Compiles for BPF and for user mode, where it is fuzzed and compared with other parsers. Everything that changes lives
 * in memory that the BPF verifier does not follow, so that its loops are looked at once.
 */
#pragma once

#include "protocol/redis/redis_answer.h"

/* The byte that begins a request, an argument or an element. */
STREAM_FUNCTION int redis_begin(struct redis_parser *parser, struct redis_window *window)
{
	u8 byte;

	if (!parser || !window)
		return REDIS_MALFORMED;
	byte = REDIS_BYTE(window, window->position);
	parser->value = 0;
	parser->digits = 0;
	if (parser->is_answer) {
		parser->flags &= ~REDIS_NEGATIVE;
		window->position++;
		return redis_answer_type(parser, byte);
	}
	if (parser->open) {
		if (byte != '$')
			return REDIS_MALFORMED;
	} else {
		redis_request_begun(parser);
		if (byte != '*') {
			parser->wanted = 0;
			parser->quote = 0;
			parser->type = 0;
			parser->state = REDIS_INLINE;
			return REDIS_AGAIN; /* the byte belongs to a word */
		}
	}
	window->position++;
	parser->type = byte;
	parser->flags = 0;
	parser->state = REDIS_LENGTH;
	return REDIS_AGAIN;
}

/* Digits up to a line's end. */
STREAM_FUNCTION int redis_length(struct redis_parser *parser, struct redis_window *window)
{
	if (!parser || !window)
		return REDIS_MALFORMED;
	for (u32 i = 0; i < REDIS_DIGITS + 4; i++) {
		u8 byte = REDIS_BYTE(window, window->position), digit = byte - '0';

		if (window->position >= window->length)
			return REDIS_AGAIN;
		window->position++;
		if (parser->state == REDIS_LENGTH_END) {
			if (byte != '\n')
				return REDIS_MALFORMED;
			return parser->is_answer ? redis_answer_length(parser) : redis_request_length(parser);
		}
		if (digit <= 9 && parser->digits < REDIS_DIGITS && !(parser->flags & REDIS_UNKNOWN)) {
			parser->value = parser->value * 10 + digit;
			parser->digits++;
		} else if (byte == '-' && !parser->digits && !(parser->flags & (REDIS_NEGATIVE | REDIS_UNKNOWN))) {
			parser->flags |= REDIS_NEGATIVE;
		} else if (byte == '?' && !parser->digits && !(parser->flags & REDIS_NEGATIVE)) {
			parser->flags |= REDIS_UNKNOWN;
			parser->digits = 1;
		} else if (byte == '\r' && parser->digits) {
			parser->state = REDIS_LENGTH_END;
		} else {
			return REDIS_MALFORMED;
		}
		STREAM_FORGET();
	}
	return REDIS_AGAIN;
}

/* The beginning of a string that matters, as far as it is in view. */
STREAM_FUNCTION int redis_bulk_word(struct redis_parser *parser, struct redis_window *window)
{
	if (!parser || !window)
		return REDIS_MALFORMED;
	for (u32 i = 0; i < REDIS_WORD && parser->wanted; i++) {
		u8 byte = REDIS_BYTE(window, window->position);

		if (window->position >= window->length)
			return REDIS_AGAIN;
		if (parser->type == '!' && byte == ' ')
			break;
		redis_add(parser, byte);
		window->position++;
		parser->wanted--;
		parser->skip--;
		STREAM_FORGET();
	}
	parser->state = REDIS_BULK;
	if (parser->is_answer)
		redis_element_word(parser);
	else
		redis_argument(parser);
	return REDIS_AGAIN;
}

/* How many of `available` bytes belong to the string; steps over them. */
static __always_inline u64 redis_skip(struct redis_parser *parser, u64 available)
{
	if (available > parser->skip)
		available = parser->skip;
	parser->skip -= available;
	return available;
}

/* In a string. */
STREAM_FUNCTION int redis_bulk(struct redis_parser *parser, struct redis_window *window)
{
	if (!parser || !window)
		return REDIS_MALFORMED;
	window->position += redis_skip(parser, window->length - window->position);
	if (parser->skip)
		return REDIS_SKIP;
	if (parser->is_answer) {
		if (!(parser->flags & REDIS_IN_STRING))
			return redis_element_end(parser);
		parser->state = REDIS_START;
		return REDIS_AGAIN;
	}
	parser->index++;
	return redis_element_end(parser);
}

/* Uses up some of what the window holds, at most to the end of a request or an answer. */
static __always_inline int redis_token(struct redis_parser *parser, struct redis_window *window)
{
	if (parser->state == REDIS_BULK)
		return redis_bulk(parser, window); /* which may have ended with the last window */
	if (window->position >= window->length)
		return REDIS_NEED_DATA;
	switch (parser->state) {
	case REDIS_START:
		return redis_begin(parser, window);
	case REDIS_LENGTH:
	case REDIS_LENGTH_END:
		return redis_length(parser, window);
	case REDIS_BULK_WORD:
		return redis_bulk_word(parser, window);
	case REDIS_LINE_WORD:
	case REDIS_LINE:
		return redis_line(parser, window);
	}
	return redis_inline(parser, window);
}

#define REDIS_TOKENS 32
/* To the next event. Bounded work: at most one window, and REDIS_TOKENS parts of messages. */
STREAM_FUNCTION int redis_step(struct redis_parser *parser, struct redis_window *window)
{
	int event = REDIS_AGAIN;

	if (!parser || !window)
		return REDIS_MALFORMED;
	for (u32 i = 0; i < REDIS_TOKENS && event == REDIS_AGAIN; i++) {
		event = redis_token(parser, window);
		STREAM_FORGET();
	}
	return event;
}
