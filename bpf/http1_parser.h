/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * HTTP/1 (RFC 9112), one direction of one connection: an incremental parser that is shown a window of
 * bytes at a time and answers with events. http1_conn.h drives it. It reads start lines and the few header
 * fields that matter for framing and tracing; bodies are stepped over by arithmetic and never read.
 *
 * Compiles for BPF and for user mode, where it is fuzzed and compared with another parser. Everything that
 * changes lives in memory that the BPF verifier does not follow, so that its loops are looked at once.
 */
#pragma once

#ifdef __bpf__
#include "kernel_types.h"
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
#endif

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* Functions of their own for the verifier: looked at once each, with nothing known of their arguments. */
#ifdef __bpf__
#define HTTP1_FUNCTION __attribute__((noinline))
/* Makes the compiler check this very value, instead of one that it works out from it. */
#define HTTP1_KEEP(value) asm volatile("" : "+r"(value))
#else
#define HTTP1_FUNCTION static inline
#define HTTP1_KEEP(value)
#endif

#define HTTP1_WINDOW 512 /* bytes looked at at once; a power of two */
#define HTTP1_LINE_SEEN 256 /* what is looked at of one line; the rest is stepped over */
#define HTTP1_PATH 192	 /* what is looked at of a path */
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
	HTTP1_AGAIN,
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
	HTTP1_CHECKED = 16,   /* the version at the end of the request line was seen */
};

struct http1_parser {
	u8 state; /* enum http1_state */
	u8 is_response;
	u8 method;
	u8 minor; /* of the version: '0' or '1' */
	u16 status;
	u8 flags;
	u8 pad;
	u64 remaining;
	u64 length; /* Content-Length */
	u64 body;   /* bytes of body so far, as announced by length or chunk sizes */
	u64 path_hash;
};

struct http1_window {
	u32 position; /* of the first byte not yet used */
	u32 length;
	u32 path_start, path_length;
	u32 value_start, value_length;
	u8 bytes[HTTP1_WINDOW + HTTP1_LINE_SEEN]; /* what is behind the window is never filled: it spares bounds checks */
};

#define HTTP1_MASK (HTTP1_WINDOW - 1)
#define HTTP1_ROOT (HTTP1_WINDOW + 64) /* where a "/" stands for the path of "http://host" */

/* Positions are masked for the verifier only. */
#define HTTP1_BYTE(window, at) ((window)->bytes[(at) & HTTP1_MASK])

static __always_inline u64 http1_word(const struct http1_window *window, u32 at)
{
#ifdef __bpf__ /* no alignment is asked of map memory */
	return *(const u64 *)&window->bytes[at & HTTP1_MASK];
#else
	u64 word;
	__builtin_memcpy(&word, &window->bytes[at & HTTP1_MASK], sizeof(word));
	return word;
#endif
}

/* Zeroes behind the last byte, for whole words. */
static __always_inline void http1_blank(struct http1_window *window, u32 length)
{
#ifdef __bpf__
	*(u64 *)&window->bytes[length] = 0;
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
const volatile u32 http_fold_identifiers = 1; /* 0: identifiers are hashed as they stand */
#else
static const u32 http_fold_identifiers = 1;
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
	if (!count || !http_fold_identifiers || ((seen & CLASS_NO_DIGIT) && ((seen & CLASS_NO_HEX) || !(seen & CLASS_DIGIT) || count < 16)))
		return hash;
	return http1_fnv(before, HTTP1_MARK_ID);
}

/* Hashes on over one segment: from `start` to a slash, to what ends a path, or to `end`; says where that is. */
HTTP1_FUNCTION u32 http1_hash_segment(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end)
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
HTTP1_FUNCTION int http1_hash_path(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end)
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
HTTP1_FUNCTION u32 http1_path_of_absolute(struct http1_window *window, u32 start, u32 end)
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

/* A method of another standard (WebDAV, ...): capital letters and dashes, at most 24, then a space. */
HTTP1_FUNCTION u32 http1_other_method(struct http1_window *window, u32 start, u32 end)
{
	if (!window)
		return 0;
	for (u32 i = 0; i < 25; i++) {
		u8 byte = HTTP1_BYTE(window, start + i);

		if (start + i >= end)
			return 0;
		if (byte == ' ')
			return i > 1 ? i + 1 : 0;
		if (byte != '-' && (byte < 'A' || byte > 'Z'))
			return 0;
	}
	return 0;
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
HTTP1_FUNCTION int http1_request_line(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end,
				      u32 complete)
{
	u32 skip, target;
	u8 method = 0;

	if (!parser || !window)
		return HTTP1_MALFORMED;
	skip = http1_known_method(http1_word(window, start), &method);
	if (!skip) {
		skip = http1_other_method(window, start, end);
		/* without its version in view, a line of another standard has to look more like one */
		if (!skip || (!complete && HTTP1_BYTE(window, start + skip) != '/'))
			return HTTP1_MALFORMED;
		method = HTTP1_METHOD_OTHER;
	}
	parser->method = method;
	parser->flags = 0;
	target = start + skip;
	if (method == HTTP1_CONNECT) {
		window->path_start = target;
		window->path_length = 0;
		parser->path_hash = HTTP1_FNV_BASIS;
	} else {
		if (HTTP1_BYTE(window, target) != '/' && HTTP1_BYTE(window, target) != '*') {
			target = http1_path_of_absolute(window, target, end);
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
HTTP1_FUNCTION u32 http1_find_line_end(struct http1_window *window, u32 start)
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
	return parser->is_response ? byte == 'H' : byte >= 'A' && byte <= 'Z';
}

HTTP1_FUNCTION int http1_start(struct http1_parser *parser, struct http1_window *window)
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
		/* Sure by the eighth byte: other protocols are not waited for. */
		u8 method;
		if (end - start >= 8 && !(parser->is_response
					  ? (u32)http1_word(window, start) == (u32)HTTP1_WORD('H', 'T', 'T', 'P', 0, 0, 0, 0)
					  : http1_known_method(http1_word(window, start), &method) ||
						    http1_word(window, start) >> 56 >= 'A'))
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

/*
 * Header fields.
 */

static __always_inline bool http1_is_blank(u8 byte)
{
	return byte == ' ' || byte == '\t';
}

HTTP1_FUNCTION u32 http1_skip_blanks(struct http1_window *window, u32 at, u32 end)
{
	if (!window)
		return end;
	for (u32 i = 0; i < HTTP1_LINE_SEEN; i++)
		if (at + i >= end || !http1_is_blank(HTTP1_BYTE(window, at + i)))
			return at + i;
	return at;
}

/* Digits between `start` and `end` with blanks around them. */
HTTP1_FUNCTION int http1_content_length(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end)
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

/* Is "chunked" the last coding? A line says so for all lines before it. */
static __always_inline int http1_transfer_encoding(struct http1_parser *parser, struct http1_window *window,
						   u32 start, u32 end)
{
	u8 before;

	end = http1_trim_end(window, start, end);
	parser->flags |= HTTP1_HAS_CODING;
	parser->flags &= ~HTTP1_CHUNKED;
	if (end < start + 7)
		return HTTP1_AGAIN;
	before = HTTP1_BYTE(window, end - 8);
	if (((http1_word(window, end - 7) | HTTP1_LOWER) & 0xffffffffffffffULL) ==
		    HTTP1_WORD('c', 'h', 'u', 'n', 'k', 'e', 'd', 0) &&
	    (before == ':' || before == ',' || http1_is_blank(before)))
		parser->flags |= HTTP1_CHUNKED;
	return HTTP1_AGAIN;
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
HTTP1_FUNCTION int http1_field(struct http1_parser *parser, struct http1_window *window, u32 start, u32 end, u64 first)
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
			return http1_transfer_encoding(parser, window, start + 18, end);
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
HTTP1_FUNCTION int http1_no_line_end(struct http1_parser *parser, struct http1_window *window)
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
HTTP1_FUNCTION int http1_headers(struct http1_parser *parser, struct http1_window *window)
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
HTTP1_FUNCTION int http1_chunk_size(struct http1_parser *parser, struct http1_window *window)
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
 * To be called at HTTP1_HEADERS_END. `no_body`: whatever the fields say, none follows (the answer to HEAD,
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
