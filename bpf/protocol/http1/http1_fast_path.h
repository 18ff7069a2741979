/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The fast path through a call that carries one message from its first byte on, as nearly every call does, and the
 * entry point for all calls: http1_bytes(). The fast path does to the connection what the step loop (http1_conn.h) does in several
 * steps; test/fuzz/http1_fuzz.c holds one against the other.
 */
#pragma once

#include "protocol/http1/http1_conn.h"
#include "protocol/http1/http1_head_cache.h"
#include "protocol/http1/http1_head.h"

/* The whole head of a request was used at once. */
static __always_inline int http1_request_head(struct http1_conn *conn, struct http1_call *call,
					     struct http1_direction *direction)
{
	http1_on_target(conn, call, direction);
	if (!http1_request_begun(conn, direction))
		return 0;
	direction->parser.state = HTTP1_UNDECIDED; /* a resync, if that was one, has set it to HTTP1_HEADERS */
	return http1_request_headers_end(conn, call);
}

static __always_inline int http1_answer_head(struct http1_conn *conn, struct http1_call *call,
					    struct http1_direction *direction)
{
	return http1_response_begun(conn, direction) && http1_response_headers_end(conn, call);
}

#define HTTP1_ASKED (EXCHANGE_KNOWN | EXCHANGE_REQUEST_DONE)
#define HTTP1_ALL (HTTP1_ASKED | EXCHANGE_ANSWERED | EXCHANGE_RESPONSE_DONE | EXCHANGE_CLAIMED)
/*
 * The head of an answer was used at once, and what it answers is known and waits for nothing else. Where all of the
 * answer is here, the exchange goes from asked to concluded in one atomic step: each of them waits for everything that
 * was stored before it.
 */
static __always_inline int http1_answer_at_once(struct http1_conn *conn, struct http1_call *call,
					       struct http1_direction *direction, struct request *exchange)
{
	struct http1_parser *parser = &direction->parser;
	struct http1_window *window = &call->window;
	u32 status = parser->status, before;
	u64 used;

	http1_prove(conn);
	exchange->answer_number = direction->number;
	exchange->status = status;
	exchange->first_byte_ns = call->io.begin_ns;
	http1_begin_body(parser, exchange->operation == HTTP1_HEAD || status == 204 || status == 304);
	if (parser->state == HTTP1_BODY || parser->state == HTTP1_BODY_TO_CLOSE)
		window->position += http1_skip(parser, window->length - window->position);
	if (parser->state == HTTP1_BODY || parser->state == HTTP1_BODY_TO_CLOSE) {
		used = http1_skip(parser, call->io.total);
		stream_step_over(&call->io, used);
	}
	if (parser->state != HTTP1_START) {
		direction->message_ns = call->io.begin_ns;
		__sync_fetch_and_or(&exchange->flags, EXCHANGE_ANSWERED);
		return 1;
	}
	exchange->end_ns = call->io.end_ns;
	exchange->response_bytes = parser->body;
	call->end.number = direction->number++;
	call->end.error = REQUEST_NO_ERROR;
	if (__sync_val_compare_and_swap(&exchange->flags, HTTP1_ASKED, HTTP1_ALL) == HTTP1_ASKED) {
		http1_conclude(conn, &call->end);
		return 1;
	}
	before = __sync_fetch_and_or(&exchange->flags, EXCHANGE_ANSWERED | EXCHANGE_RESPONSE_DONE);
	if (before & EXCHANGE_REQUEST_DONE)
		http1_finish(conn, &call->end, before);
	return 1;
}

/* The head of a message was used at once. Says whether to go on. */
static __always_inline int http1_on_head(struct http1_conn *conn, struct http1_call *call,
					struct http1_direction *direction)
{
	struct request *exchange = http1_exchange_of(conn, direction->number);
	int more;

	if ((call->io.direction & 1) && exchange->flags == HTTP1_ASKED && exchange->operation != HTTP1_CONNECT &&
	    direction->parser.status >= 200 && exchange->number == direction->number)
		return http1_answer_at_once(conn, call, direction, exchange);
	direction->message_ns = call->io.begin_ns;
	more = call->io.direction & 1 ? http1_answer_head(conn, call, direction) : http1_request_head(conn, call, direction);
	if (more && (direction->parser.state == HTTP1_BODY || direction->parser.state == HTTP1_BODY_TO_CLOSE))
		more = http1_step_over(conn, call, direction);
	return more;
}

/* What came of the fast path, and what is left to be done. */
enum http1_fast {
	HTTP1_FAST_NOT,	  /* nothing has changed: all of it */
	HTTP1_FAST_HEAD,  /* the head was taken: http1_fast_path_used() */
	HTTP1_FAST_BEGUN, /* the step loop, then http1_end_call() */
	HTTP1_FAST_OVER,  /* http1_end_call() */
	HTTP1_FAST_DONE,
};
/*
 * The fast path, for what nearly every call is: one message whose head begins with the call and is in view. It does to
 * the connection what http1_begin_call(), http1_step_call() and http1_end_call() would do in several steps.
 */
STREAM_FUNCTION int http1_fast_path(struct http1_conn *conn, struct http1_call *call)
{
	struct http1_direction *direction;
	struct http1_window *window;
	u64 amount;

	if (!conn || !call)
		return HTTP1_FAST_NOT;
	direction = &conn->directions[call->io.direction & 1];
	window = &call->window;
	if ((conn->base.flags & (CONN_RESYNC | CONN_LEFT | CONN_ENDED | CONN_UNSURE)) ||
	    direction->epoch != conn->base.epoch ||
	    direction->parser.state != HTTP1_START || direction->message_ns || direction->carried || call->io.skip ||
	    !call->io.total || (!call->io.left && (!stream_next_piece(&call->io) || !call->io.left)))
		return HTTP1_FAST_NOT;
	amount = stream_readable(&call->io, HTTP1_WINDOW);
	STREAM_KEEP(amount);
	if (amount > HTTP1_WINDOW || stream_read_user(window->bytes, amount, call->io.base))
		return HTTP1_FAST_NOT;
	stream_used(&call->io, amount);
	window->position = 0;
	window->length = amount;
	http1_blank(window, amount);
	call->end.now_ns = call->io.end_ns;
	direction->parser.is_response = call->io.direction & 1;
	STREAM_FORGET();
	if (http1_cached_head(direction, window))
		return HTTP1_FAST_HEAD;
	if (!http1_head(&direction->parser, window, request_wants_traces()))
		return HTTP1_FAST_BEGUN;
	http1_keep_head(direction, window);
	return HTTP1_FAST_HEAD;
}

/* The second half. A function of its own for the stack's sake: Linux 6.1 adds up what all functions on the way may use, and what the head
 * needed is free by now. */
STREAM_FUNCTION int http1_fast_path_used(struct http1_conn *conn, struct http1_call *call)
{
	struct http1_direction *direction;

	if (!conn || !call)
		return HTTP1_FAST_OVER;
	direction = &conn->directions[call->io.direction & 1];
	if (!http1_on_head(conn, call, direction)) {
		call->window.position = call->window.length;
		return HTTP1_FAST_OVER;
	}
	return http1_used_up(call, direction) ? HTTP1_FAST_DONE : HTTP1_FAST_BEGUN;
}

#ifndef HTTP1_FAST_PATH
#define HTTP1_FAST_PATH 1
#endif
/* All bytes of one call. Says whether the last of them are kept, since their line is incomplete. */
static __always_inline int http1_bytes(struct http1_conn *conn, struct http1_call *call)
{
	int fast = HTTP1_FAST_PATH ? http1_fast_path(conn, call) : HTTP1_FAST_NOT;

	if (fast == HTTP1_FAST_HEAD)
		fast = http1_fast_path_used(conn, call);
	if (fast == HTTP1_FAST_DONE)
		return 0;
	if (fast != HTTP1_FAST_NOT || http1_begin_call(conn, call)) {
		if (fast != HTTP1_FAST_OVER)
			for (u32 i = 0; i < HTTP1_STEPS; i++)
				if (!http1_step_call(conn, call))
					break;
		http1_end_call(conn, call);
	}
	return conn->directions[call->io.direction & 1].carried;
}

/*
 * What else the stream layer asks of a protocol (protocol/README.md).
 */

static __always_inline void http1_desync(struct http1_conn *conn, u32 direction, u32 counter)
{
	http1_desync_at(conn, &conn->directions[direction & 1], counter);
}

/* Does a request begin with this call? */
static __always_inline bool http1_at_request(struct http1_conn *conn, struct stream_call *io)
{
	return io->direction == STREAM_REQUESTS && conn->directions[STREAM_REQUESTS].parser.state == HTTP1_START;
}

static __always_inline struct request *http1_waiting(struct http1_conn *conn, u32 number)
{
	struct request *exchange = http1_exchange_of(conn, number);

	return (exchange->flags & (EXCHANGE_KNOWN | EXCHANGE_RESPONSE_DONE | EXCHANGE_CLAIMED)) == EXCHANGE_KNOWN ? exchange
														 : NULL;
}
