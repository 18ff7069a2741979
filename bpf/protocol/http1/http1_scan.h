/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the HTTP/1 parser (http1_parser.h) builds on: its state and its window of bytes, words
 * looked at eight bytes at a time, and the hash of paths.
 */
#pragma once

#include "stream/base.h"

#define HTTP1_WINDOW 512 /* bytes looked at at once; a power of two */
#define HTTP1_LINE_SEEN 256 /* what is looked at of one line; the rest is stepped over */
#define HTTP1_PATH 192	 /* what is looked at of a path */
#define HTTP1_METHOD 64	 /* a longer method is taken for none */
#define HTTP1_SMALL_CHUNK 256 /* bytes; the window holds several smaller ones */
#define HTTP1_TAIL 16	 /* what is kept of a long request line, for the version at its end */

enum http1_method {
	HTTP1_METHOD_NONE,
	HTTP1_GET,
	HTTP1_HEAD,
	HTTP1_POST,
	HTTP1_PUT,
	HTTP1_DELETE,
	HTTP1_CONNECT,
	HTTP1_OPTIONS,
	HTTP1_TRACE,
	HTTP1_PATCH,
	HTTP1_METHOD_OTHER,
};

enum http1_state {
	HTTP1_START,	    /* at the first byte of a message, or in its start line */
	HTTP1_START_REST,   /* in a start line whose beginning has been understood */
	HTTP1_HEADERS,
	HTTP1_HEADER_REST,  /* in a header line longer than HTTP1_LINE_SEEN */
	HTTP1_UNDECIDED,    /* behind the headers, waiting to be told whether a body follows */
	HTTP1_BODY,	    /* `remaining` bytes to step over */
	HTTP1_BODY_TO_CLOSE,
	HTTP1_CHUNK_SIZE,
	HTTP1_CHUNK,	    /* `remaining` bytes to step over, the line end behind the chunk included */
	HTTP1_TRAILERS,
	HTTP1_TRAILER_REST,
};

enum http1_event {
	HTTP1_NEED_DATA,   /* the window holds nothing more that can be used; keep what is unread */
	HTTP1_AGAIN,	   /* nothing to tell: take the next step */
	HTTP1_TARGET,	   /* method and path known; path_* say where in the window it stands */
	HTTP1_LINE_END,	   /* the start line is complete and valid */
	HTTP1_LINE,	   /* both at once: a request line that is wholly in view */
	HTTP1_TRACEPARENT, /* value_* say where in the window the value stands */
	HTTP1_TRACESTATE,
	HTTP1_HEADERS_END, /* now http1_begin_body() */
	HTTP1_MESSAGE_END,
	HTTP1_SKIP,	   /* in a body: step over with http1_skip() */
	HTTP1_MALFORMED,
};

enum http1_flags {
	HTTP1_HAS_LENGTH = 1,
	HTTP1_HAS_CODING = 2, /* Transfer-Encoding is there */
	HTTP1_CHUNKED = 4,    /* and its last coding is chunked */
	HTTP1_PATH_CUT = 8,   /* longer than HTTP1_PATH */
};

struct http1_parser {
	u8 state; /* enum http1_state */
	u8 is_response;
	u8 method;
	u8 minor; /* of the version: '0' or '1' */
	u16 status;
	u8 flags;
	u8 small_chunks; /* was the last one smaller than HTTP1_SMALL_CHUNK? */
	u64 remaining;
	u64 length; /* Content-Length */
	u64 body;   /* bytes of body so far, as announced by length or chunk sizes */
	u64 path_hash;
};

/* What the fast path (http1_head.h) has found out, before anything of it is kept. In memory, for the verifier. */
struct http1_found {
	u64 length;
	u64 path_hash;
	u32 line; /* where the current line starts */
	u32 at;	  /* up to here it has no end */
	u32 start_line_end;
	u32 segment; /* where the current one of the path starts */
	u16 status;
	u8 method;
	u8 minor;
	u32 flags;
};

struct http1_window {
	u32 position; /* of the first byte not yet used */
	u32 length;
	u32 path_start, path_length;
	u32 value_start, value_length;
	struct http1_found found;
	u8 bytes[HTTP1_WINDOW + HTTP1_LINE_SEEN]; /* what is behind the window is never filled: it spares bounds checks */
};

#define HTTP1_MASK (HTTP1_WINDOW - 1)
#define HTTP1_ROOT (HTTP1_WINDOW + 64) /* where a "/" stands for the path of "http://host" */

/* Positions are masked for the verifier only. */
#define HTTP1_BYTE(window, at) ((window)->bytes[(at) & HTTP1_MASK])

static __always_inline u64 http1_word_of(const u8 *bytes)
{
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

/* The word at a position that lies in the window, or little behind it. */
static __always_inline u64 http1_word_at(const struct http1_window *window, u32 at)
{
	return http1_word_of(&window->bytes[at]);
}

static __always_inline u64 http1_word(const struct http1_window *window, u32 at)
{
	return http1_word_at(window, at & HTTP1_MASK);
}

/* Zeroes behind the last byte, for whole words. */
static __always_inline void http1_blank(struct http1_window *window, u32 length)
{
#ifdef __bpf__
	u64 *word = (void *)&window->bytes[length];

	asm("" : "+r"(word));
	*word = 0;
#else
	__builtin_memset(&window->bytes[length], 0, sizeof(u64));
#endif
}

/* Eight letters as they stand in memory, little-endian. */
#define HTTP1_WORD(a, b, c, d, e, f, g, h)                                                                     \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 | (u64)(f) << 40 |        \
	 (u64)(g) << 48 | (u64)(h) << 56)
#define HTTP1_LOWER 0x2020202020202020ULL
#define HTTP1_ONES 0x0101010101010101ULL
#define HTTP1_HIGHS 0x8080808080808080ULL

/* A high bit for the first line feed of a word (and maybe more above it); 0 where there is none. */
static __always_inline u64 http1_line_feeds(u64 word)
{
	u64 x = word ^ (HTTP1_ONES * '\n');
	return (x - HTTP1_ONES) & ~x & HTTP1_HIGHS;
}

/* Index of the byte whose high bit is the lowest one set. */
static __always_inline u32 http1_first(u64 highs)
{
	return (u32)(((((highs - 1) & ~highs) & HTTP1_ONES) * HTTP1_ONES >> 56) - 1);
}

/*
 * Paths. The hash is FNV-1a over the path up to '?', with every segment that is certainly an identifier
 * (all digits; 16 or more hexadecimal digits and dashes, at least one a digit) replaced by one mark:
 * a million user numbers are one path. Routes (exporter/probes/http/routes.ts) replace these and more.
 */
#define HTTP1_FNV_BASIS 0xcbf29ce484222325ULL
#define HTTP1_FNV_PRIME 0x100000001b3ULL
#define HTTP1_MARK_ID 1
#define HTTP1_MARK_CUT 2

#ifdef __bpf__
const volatile u32 http1_fold_identifiers = 1; /* 0: identifiers are hashed as they stand */
#else
static const u32 http1_fold_identifiers = 1;
#endif

enum http1_class {
	CLASS_STOP = 1,	     /* ends a path */
	CLASS_NO_DIGIT = 2,
	CLASS_NO_HEX = 4,    /* neither a hexadecimal digit nor a dash */
	CLASS_SLASH = 8,
	CLASS_DIGIT = 16,
};
#define HTTP1_NAME (CLASS_NO_DIGIT | CLASS_NO_HEX)
#define HTTP1_HEX CLASS_NO_DIGIT
#define HTTP1_NUMBER CLASS_DIGIT

static const u8 http1_classes[256] = {
	['\0'] = CLASS_STOP, [0x01 ... 0x09] = HTTP1_NAME, ['\n'] = CLASS_STOP, [0x0b ... 0x0c] = HTTP1_NAME,
	['\r'] = CLASS_STOP, [0x0e ... 0x1f] = HTTP1_NAME, [' '] = CLASS_STOP, ['!' ... '"'] = HTTP1_NAME,
	['#'] = CLASS_STOP, ['$' ... ','] = HTTP1_NAME, ['-'] = HTTP1_HEX, ['.'] = HTTP1_NAME,
	['/'] = CLASS_SLASH | CLASS_NO_DIGIT | CLASS_NO_HEX, ['0' ... '9'] = HTTP1_NUMBER, [':' ... '>'] = HTTP1_NAME,
	['?'] = CLASS_STOP, ['@'] = HTTP1_NAME, ['A' ... 'F'] = HTTP1_HEX, ['G' ... '`'] = HTTP1_NAME,
	['a' ... 'f'] = HTTP1_HEX, ['g' ... 255] = HTTP1_NAME,
};

static __always_inline u64 http1_fnv(u64 hash, u8 byte)
{
	return (hash ^ byte) * HTTP1_FNV_PRIME;
}

/* The hash at the end of a segment: `seen` holds the classes of its bytes, `count` how many there were. */
static __always_inline u64 http1_end_segment(u64 hash, u64 before, u64 seen, u32 count)
{
	if (!count || !http1_fold_identifiers || ((seen & CLASS_NO_DIGIT) && ((seen & CLASS_NO_HEX) || !(seen & CLASS_DIGIT) || count < 16)))
		return hash;
	return http1_fnv(before, HTTP1_MARK_ID);
}

/* Hashes on over one segment: from `start` to a slash, to what ends a path, or to `end`; says where that is. */
STREAM_FUNCTION u32 http1_hash_segment(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end)
{
	u64 hash, seen = 0;
	u32 i;

	if (!parser || !window)
		return end;
	hash = parser->path_hash;
	for (i = 0; i < HTTP1_PATH; i++) {
		u8 byte = HTTP1_BYTE(window, start + i), class = http1_classes[byte];

		if (start + i >= end || (class & (CLASS_STOP | CLASS_SLASH)))
			break;
		hash = http1_fnv(hash, byte);
		seen |= class;
	}
	parser->path_hash = http1_end_segment(hash, parser->path_hash, seen, i);
	return start + i;
}

/* Hashes the path that starts at `start` and ends before `end` at the latest. */
STREAM_FUNCTION int http1_hash_path(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end)
{
	u32 at = start, limit = start + HTTP1_PATH;
	u64 before;

	if (!parser || !window)
		return 0;
	if (limit > end)
		limit = end;
	parser->path_hash = HTTP1_FNV_BASIS;
	window->path_start = start;
	for (u32 i = 0; i <= HTTP1_PATH; i++) {
		before = parser->path_hash;
		at = http1_hash_segment(parser, window, at, limit);
		if (at >= limit || HTTP1_BYTE(window, at) != '/')
			break;
		parser->path_hash = http1_fnv(parser->path_hash, '/');
		at++;
	}
	window->path_length = at - start;
	if (at < end && at - start >= HTTP1_PATH && !(http1_classes[HTTP1_BYTE(window, at)] & CLASS_STOP)) {
		parser->flags |= HTTP1_PATH_CUT;
		parser->path_hash = http1_fnv(before, HTTP1_MARK_CUT);
	}
	return 0;
}

/* Where the path of an absolute-form target ("http://host/path") starts; `end` where it has none. */
STREAM_FUNCTION u32 http1_path_of_absolute(struct http1_window *window, u32 start, u32 end)
{
	u64 scheme;

	if (!window)
		return end;
	scheme = http1_word(window, start) | HTTP1_LOWER;
	if ((scheme & 0xffffffffffffffULL) == (HTTP1_WORD('h', 't', 't', 'p', ':', '/', '/', 0) | (HTTP1_LOWER >> 8)))
		start += 7;
	else if (scheme == HTTP1_WORD('h', 't', 't', 'p', 's', ':', '/', '/'))
		start += 8;
	else
		return end;
	for (u32 i = 0; i < HTTP1_LINE_SEEN; i++) {
		u8 class = http1_classes[HTTP1_BYTE(window, start + i)];

		if (start + i >= end || (class & CLASS_STOP))
			break;
		if (class & CLASS_SLASH)
			return start + i;
	}
	return end;
}
