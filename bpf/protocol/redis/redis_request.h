/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Requests of Redis: lists of strings, the first of which is the command, or words of a line. Part of the parser
 * (redis_parser.h).
 */
#pragma once

#include "protocol/redis/redis_scan.h"

#define REDIS_LETTERS(a, b, c, d, e, f, g, h)                                                                  \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 | (u64)(f) << 40 |        \
	 (u64)(g) << 48 | (u64)(h) << 56)

/* Is the word the one that `letters` holds? */
static __always_inline bool redis_is(const struct redis_parser *parser, u64 letters)
{
	return parser->word.parts[0] == letters && !parser->word.parts[1];
}

/* The digits of the word. REDIS_NOT_A_NUMBER for anything else. */
#define REDIS_NOT_A_NUMBER (~0ULL)
STREAM_FUNCTION u64 redis_number(const struct redis_parser *parser)
{
	u64 value = 0;
	u32 i;

	if (!parser || !parser->word_length || parser->word_length > REDIS_DIGITS)
		return REDIS_NOT_A_NUMBER;
	for (i = 0; i < REDIS_DIGITS && i < parser->word_length; i++) {
		u8 digit = parser->word.bytes[i] - '0';

		if (digit > 9)
			return REDIS_NOT_A_NUMBER;
		value = value * 10 + digit;
	}
	return value;
}

#define REDIS_ARGUMENTS 0x7fffffff /* more are refused by Redis */

/* Does argument `index` say something? */
static __always_inline bool redis_argument_matters(const struct redis_parser *parser)
{
	if (!parser->index)
		return true;
	if (parser->index == 1)
		return parser->command == REDIS_COMMAND_SELECT || parser->command == REDIS_COMMAND_CLIENT;
	return parser->index == 2 && parser->detail == REDIS_REPLY;
}

/* An argument that matters is in `word`. */
STREAM_FUNCTION int redis_argument(struct redis_parser *parser)
{
	u64 last;

	if (!parser)
		return 0;
	if (!parser->index) {
		last = (u8)(parser->word_length - 1);
		STREAM_KEEP(last);
		/* a name that ends with a zero byte would look like the one without */
		if ((parser->flags & REDIS_QUOTED) || last >= REDIS_WORD || !parser->word.bytes[last])
			parser->command = REDIS_COMMAND_OTHER;
		else
			parser->command = redis_find_command(&parser->word);
		return 0;
	}
	if (parser->command == REDIS_COMMAND_SELECT) {
		parser->number = redis_number(parser);
		if (parser->number != REDIS_NOT_A_NUMBER)
			parser->detail = REDIS_DATABASE;
	} else if (parser->index == 1) {
		if (redis_is(parser, REDIS_LETTERS('R', 'E', 'P', 'L', 'Y', 0, 0, 0)))
			parser->detail = REDIS_REPLY;
	} else if (redis_is(parser, REDIS_LETTERS('O', 'N', 0, 0, 0, 0, 0, 0))) {
		parser->detail = REDIS_REPLY_ON;
	} else if (redis_is(parser, REDIS_LETTERS('O', 'F', 'F', 0, 0, 0, 0, 0))) {
		parser->detail = REDIS_REPLY_OFF;
	} else if (redis_is(parser, REDIS_LETTERS('S', 'K', 'I', 'P', 0, 0, 0, 0))) {
		parser->detail = REDIS_REPLY_SKIP;
	}
	return 0;
}

static __always_inline void redis_request_begun(struct redis_parser *parser)
{
	parser->command = REDIS_COMMAND_OTHER;
	parser->detail = REDIS_NO_DETAIL;
	parser->index = 0;
	parser->number = 0;
	parser->open = 0;
	parser->flags = 0;
}

/* The length behind '*' or '$' is known. */
static __always_inline int redis_request_length(struct redis_parser *parser)
{
	if (parser->flags & REDIS_UNKNOWN)
		return REDIS_MALFORMED;
	parser->state = REDIS_START;
	if (parser->type == '*') {
		if (parser->value > REDIS_ARGUMENTS)
			return REDIS_MALFORMED;
		if (!(parser->flags & REDIS_NEGATIVE) && parser->value) { /* else: nothing is asked, nothing answered */
			parser->open = parser->value;
			parser->count = parser->value - 1;
		}
		return REDIS_AGAIN;
	}
	if (parser->flags & REDIS_NEGATIVE)
		return REDIS_MALFORMED;
	parser->skip = parser->value + 2;
	parser->state = REDIS_BULK;
	if (redis_argument_matters(parser)) {
		redis_no_word(parser);
		parser->wanted = parser->value;
		if (parser->value && parser->value <= REDIS_WORD)
			parser->state = REDIS_BULK_WORD;
		else
			redis_argument(parser); /* longer than any that is known */
	}
	return REDIS_AGAIN;
}

/* One byte of an inline request (sdssplitargs() of Redis). `wanted`: in a word. */
static __always_inline int redis_inline_byte(struct redis_parser *parser, u8 byte)
{
	if (byte == '\n') {
		if (parser->wanted && redis_argument_matters(parser))
			redis_argument(parser);
		parser->count = parser->index + parser->wanted;
		parser->state = REDIS_START;
		if (parser->quote)
			return REDIS_MALFORMED; /* Redis closes the connection */
		if (!parser->count)
			return REDIS_AGAIN; /* an empty line */
		parser->count--;
		return REDIS_MESSAGE;
	}
	if (!parser->quote && (byte == ' ' || (byte >= '\t' && byte <= '\r'))) {
		if (parser->wanted && redis_argument_matters(parser))
			redis_argument(parser);
		parser->index += parser->wanted;
		parser->wanted = 0;
		return REDIS_AGAIN;
	}
	if (!parser->wanted)
		redis_no_word(parser);
	parser->wanted = 1;
	if (!parser->quote && (byte == '"' || byte == '\'')) {
		parser->quote = byte;
	} else if (parser->quote == '\\' || parser->quote == '/') { /* behind a backslash, within "" or '' */
		parser->quote = parser->quote == '\\' ? '"' : '\'';
		parser->flags |= REDIS_QUOTED;
	} else if (parser->quote && byte == '\\') {
		parser->quote = parser->quote == '"' ? '\\' : '/';
	} else if (parser->quote == byte) {
		parser->quote = 0;
	} else {
		redis_add(parser, byte);
	}
	return REDIS_AGAIN;
}

STREAM_FUNCTION int redis_inline(struct redis_parser *parser, struct redis_window *window)
{
	int event = REDIS_AGAIN;

	if (!parser || !window)
		return REDIS_MALFORMED;
	for (u32 i = 0; i < 64 && event == REDIS_AGAIN && parser->state == REDIS_INLINE; i++) {
		if (window->position >= window->length)
			break;
		event = redis_inline_byte(parser, REDIS_BYTE(window, window->position));
		window->position++;
		STREAM_FORGET();
	}
	return event;
}
