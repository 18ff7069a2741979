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

/*
 * Requests: lists of strings, the first of which is the command.
 */

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

/*
 * Answers: elements within elements. `open` counts those that still have to come; only what is around an aggregate of
 * unknown length has to be remembered.
 */

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

/*
 * Both.
 */

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
