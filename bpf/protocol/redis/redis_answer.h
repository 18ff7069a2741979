/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Answers of Redis: elements within elements. `open` counts those that still have to come; only what is around an
 * aggregate of unknown length has to be remembered. Part of the parser (redis_parser.h).
 */
#pragma once

#include "protocol/redis/redis_request.h"

static __always_inline void redis_answer_begun(struct redis_parser *parser)
{
	parser->command = REDIS_COMMAND_NONE;
	parser->status = REDIS_STATUS_OK;
	parser->shape = REDIS_PLAIN;
	parser->index = 0;
	parser->number = REDIS_NOT_A_NUMBER;
	parser->flags = REDIS_OUTERMOST;
}

/* An element is complete. */
static __always_inline int redis_element_end(struct redis_parser *parser)
{
	parser->state = REDIS_START;
	parser->open--;
	if (parser->open || parser->streams)
		return REDIS_AGAIN;
	return REDIS_MESSAGE;
}

/* "." ends an aggregate of unknown length. */
static __always_inline int redis_stream_end(struct redis_parser *parser)
{
	u64 depth = (u8)(parser->streams - 1);

	STREAM_KEEP(depth);
	if (depth >= REDIS_STREAMS)
		return REDIS_MALFORMED; /* unreachable; bounds the index for the verifier */
	parser->streams = depth;
	parser->open = parser->outside[depth];
	parser->state = REDIS_START;
	return parser->open || depth ? REDIS_AGAIN : REDIS_MESSAGE;
}

static __always_inline bool redis_is_error(u8 type)
{
	return type == '-' || type == '!';
}

/* Is the beginning of the current element, `length` bytes long, of interest? */
static __always_inline bool redis_element_matters(const struct redis_parser *parser, u64 length)
{
	if (redis_is_error(parser->type))
		return parser->status == REDIS_STATUS_OK; /* the first one */
	if (parser->flags & REDIS_OUTER)
		return parser->type == '+';
	if (!(parser->flags & REDIS_FIRST_LEVEL))
		return false;
	/* "message" to "punsubscribe"; and the number behind that and the channel */
	return parser->index == 1 ? (parser->type == '$' || parser->type == '+') && length >= 7 && length <= 12
				  : parser->index == 3 && parser->type == ':';
}

/* The first string of a list: does it tell of a subscription? */
static __always_inline void redis_kind(struct redis_parser *parser)
{
	u64 first = parser->word.parts[0], second = parser->word.parts[1] | parser->word.parts[2];
	u64 message = REDIS_LETTERS('M', 'E', 'S', 'S', 'A', 'G', 'E', 0);
	u32 command;

	if (!second && (first == message || (first >> 8 == message && ((u8)first == 'P' || (u8)first == 'S')))) {
		parser->shape = REDIS_PUBLISHED;
		return;
	}
	command = redis_find_command(&parser->word);
	if (redis_is_subscription(command))
		parser->command = command;
}

/* The beginning of an element that matters is in `word`. */
STREAM_FUNCTION int redis_element_word(struct redis_parser *parser)
{
	if (!parser)
		return 0;
	if (redis_is_error(parser->type)) {
		parser->status = parser->word_length > REDIS_WORD ? REDIS_STATUS_OTHER : redis_find_error(&parser->word);
		if (parser->flags & REDIS_OUTER)
			parser->shape = REDIS_ERROR;
	} else if (parser->flags & REDIS_OUTER) {
		if (redis_is(parser, REDIS_LETTERS('Q', 'U', 'E', 'U', 'E', 'D', 0, 0)))
			parser->status = REDIS_STATUS_QUEUED;
		else if ((u8)(parser->word.bytes[0] - '0') <= 9)
			parser->shape = REDIS_MONITORED;
	} else if (parser->type == ':') {
		parser->number = redis_number(parser);
		if (parser->command && parser->number != REDIS_NOT_A_NUMBER)
			parser->shape = REDIS_CONFIRMED;
	} else {
		redis_kind(parser);
	}
	return 0;
}

/* An aggregate with `elements` elements begins. */
static __always_inline int redis_aggregate(struct redis_parser *parser, u64 elements)
{
	parser->state = REDIS_START;
	if (parser->flags & REDIS_UNKNOWN) {
		u64 depth = parser->streams;

		STREAM_KEEP(depth);
		if (depth >= REDIS_STREAMS || parser->type == '|' || parser->type == '>')
			return REDIS_MALFORMED;
		parser->outside[depth] = parser->open - 1;
		parser->streams = depth + 1;
		parser->open = 0;
		parser->flags &= ~(REDIS_UNKNOWN | REDIS_OUTER);
		return REDIS_AGAIN;
	}
	if (parser->type == '|') { /* what it is an attribute of follows */
		parser->open += elements;
		return REDIS_AGAIN;
	}
	if (parser->flags & REDIS_OUTER) {
		if (parser->type == '>')
			parser->flags |= REDIS_PUSHED;
		if (parser->type == '*' || parser->type == '>')
			parser->flags |= REDIS_FIRST_LEVEL;
	}
	parser->open += elements;
	return redis_element_end(parser);
}

/* The length behind a type is known. */
static __always_inline int redis_answer_length(struct redis_parser *parser)
{
	u64 length = parser->value;

	if ((parser->flags & REDIS_NEGATIVE)) {
		if (length != 1 || (parser->type != '$' && parser->type != '*'))
			return REDIS_MALFORMED;
		if (parser->type == '*' && (parser->flags & REDIS_OUTER))
			parser->shape = REDIS_NULL;
		return redis_element_end(parser);
	}
	switch (parser->type) {
	case '*':
	case '~':
	case '>':
		return redis_aggregate(parser, length);
	case '%':
	case '|':
		return redis_aggregate(parser, 2 * length);
	case ';':
		if (!length) {
			parser->flags &= ~REDIS_IN_STRING;
			return redis_element_end(parser);
		}
		break;
	default:
		if (!(parser->flags & REDIS_UNKNOWN))
			break;
		if (parser->type != '$')
			return REDIS_MALFORMED;
		parser->flags &= ~REDIS_UNKNOWN;
		parser->flags |= REDIS_IN_STRING;
		parser->state = REDIS_START;
		return REDIS_AGAIN;
	}
	parser->skip = length + 2;
	parser->state = REDIS_BULK;
	if (parser->type != ';' && length && redis_element_matters(parser, length)) {
		redis_no_word(parser);
		parser->wanted = length < REDIS_WORD ? length : REDIS_WORD;
		parser->state = REDIS_BULK_WORD;
	}
	return REDIS_AGAIN;
}

/* The first byte of an element. */
static __always_inline int redis_answer_type(struct redis_parser *parser, u8 byte)
{
	bool inside = parser->flags & REDIS_IN_STRING;

	if (inside && byte != ';')
		return REDIS_MALFORMED;
	if (!parser->open && !inside) {
		if (byte == '.' && parser->streams) {
			parser->type = byte;
			parser->state = REDIS_LINE;
			return REDIS_AGAIN;
		}
		if (!parser->streams)
			redis_answer_begun(parser);
		parser->open = 1;
	}
	parser->type = byte;
	parser->flags &= ~REDIS_OUTER;
	if ((parser->flags & REDIS_OUTERMOST) && parser->open == 1 && !parser->streams && byte != '|') {
		parser->flags &= ~REDIS_OUTERMOST;
		parser->flags |= REDIS_OUTER;
	} else if ((parser->flags & REDIS_FIRST_LEVEL) && !inside) {
		parser->index++;
	}
	switch (byte) {
	case ';':
		if (!inside)
			return REDIS_MALFORMED;
		parser->state = REDIS_LENGTH;
		return REDIS_AGAIN;
	case '*':
	case '~':
	case '>':
	case '%':
	case '|':
		parser->flags &= ~REDIS_FIRST_LEVEL;
		parser->state = REDIS_LENGTH;
		return REDIS_AGAIN;
	case '$':
	case '!':
	case '=':
		parser->state = REDIS_LENGTH;
		return REDIS_AGAIN;
	case '+':
	case '-':
	case ':':
	case '_':
	case '#':
	case ',':
	case '(':
		parser->state = REDIS_LINE;
		if (redis_element_matters(parser, 7)) {
			redis_no_word(parser);
			parser->state = REDIS_LINE_WORD;
		}
		return REDIS_AGAIN;
	}
	return REDIS_MALFORMED;
}

/* The first word of a line: up to a space or the line's end. */
static __always_inline void redis_line_word(struct redis_parser *parser, struct redis_window *window)
{
	for (u32 i = 0; i < REDIS_WORD + 1; i++) {
		u8 byte = REDIS_BYTE(window, window->position);

		if (window->position >= window->length)
			return;
		if (byte == ' ' || byte == '\r' || byte == '\n')
			break;
		redis_add(parser, byte);
		window->position++;
		if (parser->word_length > REDIS_WORD)
			break;
		STREAM_FORGET();
	}
	redis_element_word(parser);
	parser->state = REDIS_LINE;
}

/* Steps over a line, up to its end or that of the window. */
static __always_inline int redis_line_rest(struct redis_parser *parser, struct redis_window *window)
{
	u32 at = window->position, i;

	for (i = 0; i < REDIS_WINDOW / 8; i++) {
		u64 x = redis_word_at(window, at & REDIS_MASK) ^ (REDIS_ONES * '\n');

		x = (x - REDIS_ONES) & ~x & REDIS_HIGHS;
		if (x) {
			at += (u32)(((((x - 1) & ~x) & REDIS_ONES) * REDIS_ONES >> 56) - 1);
			break;
		}
		at += 8;
		if (at >= window->length)
			break;
	}
	if (at >= window->length) {
		window->position = window->length;
		return REDIS_AGAIN;
	}
	window->position = at + 1;
	return parser->type == '.' ? redis_stream_end(parser) : redis_element_end(parser);
}

STREAM_FUNCTION int redis_line(struct redis_parser *parser, struct redis_window *window)
{
	if (!parser || !window)
		return REDIS_MALFORMED;
	if (parser->state == REDIS_LINE_WORD)
		redis_line_word(parser, window);
	STREAM_FORGET();
	if (parser->state != REDIS_LINE || window->position >= window->length)
		return REDIS_AGAIN;
	return redis_line_rest(parser, window);
}
