/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The ground that the Redis parser (redis_parser.h) stands on: its state, its window of bytes, and words looked at eight
 * bytes at a time.
 */
#pragma once

#include "protocol/redis/redis_names.h"

#define REDIS_WINDOW 512 /* bytes looked at at once; a power of two */
#define REDIS_BEHIND 32	 /* behind the window there are as many more, of no meaning: it spares bounds checks */
#define REDIS_MASK (REDIS_WINDOW - 1)
#define REDIS_STREAMS 4 /* aggregates of unknown length within one another */
#define REDIS_DIGITS 18 /* of a length at most */

enum redis_state {
	REDIS_START,	 /* at the first byte of a request, of an argument, or of an element of an answer */
	REDIS_LENGTH,	 /* in the digits behind it */
	REDIS_LENGTH_END, /* at the line feed behind these */
	REDIS_BULK_WORD, /* in a string whose beginning is looked at; `skip` bytes of it are left, its line end included */
	REDIS_BULK,	 /* in a string: `skip` bytes to step over */
	REDIS_LINE_WORD, /* in the first word of a line */
	REDIS_LINE,	 /* in the rest of one */
	REDIS_INLINE,	 /* in a request without lengths ("PING\r\n") */
};

enum redis_event {
	REDIS_NEED_DATA, /* the window is used up */
	REDIS_AGAIN,
	REDIS_SKIP,	 /* in a string: step over it with redis_skip() */
	REDIS_MESSAGE,	 /* a request, or an answer, is complete */
	REDIS_MALFORMED,
};

/* What a complete answer is. */
enum redis_shape {
	REDIS_PLAIN,
	REDIS_ERROR,
	REDIS_NULL,	 /* of a list: a transaction that was not carried out */
	REDIS_MONITORED, /* a line that tells of another client's request, where it was asked for by MONITOR */
	REDIS_PUBLISHED, /* a message of a channel, where one is subscribed to */
	REDIS_CONFIRMED, /* of one channel's subscription or its end: `command` says of which kind */
};

/* What arguments have said of a request. */
enum redis_detail {
	REDIS_NO_DETAIL,
	REDIS_REPLY,	  /* CLIENT REPLY */
	REDIS_REPLY_ON,
	REDIS_REPLY_OFF,
	REDIS_REPLY_SKIP,
	REDIS_DATABASE,	  /* SELECT: `number` is a number */
};

enum redis_flags {
	REDIS_NEGATIVE = 1,	/* the length has a sign */
	REDIS_UNKNOWN = 2,	/* the length is "?": parts follow until they end */
	REDIS_OUTERMOST = 4,	/* the answer's own element has not begun: at most attributes of it were seen */
	REDIS_OUTER = 8,	/* the current element is it */
	REDIS_FIRST_LEVEL = 16, /* the elements of the outermost one have all been single so far */
	REDIS_IN_STRING = 32,	/* between the parts of a string of unknown length */
	REDIS_PUSHED = 64,	/* the answer is none: the server speaks by itself */
	REDIS_QUOTED = 128,	/* the current word has quotes or escapes */
};

/* One direction of a connection. */
struct redis_parser {
	u8 state; /* enum redis_state */
	u8 is_answer;
	u8 type;  /* the byte that began the current element */
	u8 flags;
	u8 digits;
	u8 word_length; /* how much of `word` is there; REDIS_WORD + 1: it was longer */
	u8 quote;	/* the quotation mark that a word of an inline request is in; '\\': behind one of these */
	u8 streams;	/* how many aggregates of unknown length the current element is in */
	u8 command; /* enum redis_command, of a request; of a confirmation too */
	u8 detail;  /* enum redis_detail */
	u8 status;  /* enum redis_status, of an answer: its own error, or the first one within */
	u8 shape;   /* enum redis_shape */
	u32 index;  /* of the current argument, or of the current element in the outermost one */
	u32 count;  /* arguments of the request behind its name */
	u32 wanted; /* bytes of the current string that belong to `word` */
	u64 value;  /* the length that is being read */
	u64 skip;
	u64 open;   /* elements that still have to come */
	u64 number; /* SELECT: the database; of a confirmation: how many subscriptions there are now */
	struct redis_word word;
	u64 outside[REDIS_STREAMS]; /* `open`, of what is around an aggregate of unknown length */
};

struct redis_window {
	u32 position; /* of the first byte not yet used */
	u32 length;
	u8 bytes[REDIS_WINDOW + REDIS_BEHIND];
};

/* Positions are masked for the verifier only. */
#define REDIS_BYTE(window, at) ((window)->bytes[(at) & REDIS_MASK])

#define REDIS_ONES 0x0101010101010101ULL
#define REDIS_HIGHS 0x8080808080808080ULL

/* The eight bytes at a position that lies in the window, or little behind it. */
static __always_inline u64 redis_word_at(const struct redis_window *window, u32 at)
{
	const u8 *bytes = &window->bytes[at];
#ifdef __bpf__
	/* No alignment is asked of map memory, but a compiler that sees where the pointer comes from loads byte by byte. */
	asm("" : "+r"(bytes));
	return *(const u64 *)bytes;
#else
	u64 word;
	__builtin_memcpy(&word, bytes, sizeof(word));
	return word;
#endif
}

/* Letters become capitals, all eight bytes at once. */
static __always_inline u64 redis_capitals(u64 word)
{
	u64 low = word & ~REDIS_HIGHS;
	u64 from_a = low + REDIS_ONES * (0x80 - 'a'), behind_z = low + REDIS_ONES * (0x80 - 'z' - 1);

	return word - (((from_a & ~behind_z & ~word) & REDIS_HIGHS) >> 2);
}

static __always_inline u8 redis_capital(u8 byte)
{
	return byte >= 'a' && byte <= 'z' ? byte - ('a' - 'A') : byte;
}

/* Puts one more byte behind the word. */
static __always_inline void redis_add(struct redis_parser *parser, u8 byte)
{
	u64 at = parser->word_length;

	STREAM_KEEP(at);
	if (at < REDIS_WORD) {
		parser->word.bytes[at] = redis_capital(byte);
		parser->word_length = at + 1;
	} else {
		parser->word_length = REDIS_WORD + 1;
	}
}

static __always_inline void redis_no_word(struct redis_parser *parser)
{
	parser->word_length = 0;
	parser->flags &= ~REDIS_QUOTED;
	for (u32 i = 0; i < REDIS_WORD / 8; i++)
		parser->word.parts[i] = 0;
}
