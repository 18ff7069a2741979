/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The short way through a call that carries one message from its first byte on, as nearly every call does, and the
 * door to both ways: http_take(). The short way does to the connection what the drive (http1_conn.h) does in several
 * steps; test/fuzz/http1_fuzz.c holds one against the other.
 */
#pragma once

#include "http1_conn.h"
#include "http1_again.h"
#include "http1_head.h"

/* The whole head of a request was used at once. */
static __always_inline int http_request_head(struct http_conn *conn, struct http_call *call,
					     struct http_direction *direction)
{
	http_on_target(conn, call, direction);
	if (!http_request_begun(conn, direction))
		return 0;
	direction->parser.state = HTTP1_UNDECIDED; /* it may have been lost and taken up again */
	return http_request_headers_end(conn, call);
}

static __always_inline int http_answer_head(struct http_conn *conn, struct http_call *call,
					    struct http_direction *direction)
{
	return http_response_begun(conn, direction) && http_response_headers_end(conn, call);
}

#define HTTP_ASKED (EXCHANGE_KNOWN | EXCHANGE_REQUEST_DONE)
#define HTTP_ALL (HTTP_ASKED | EXCHANGE_ANSWERED | EXCHANGE_RESPONSE_DONE | EXCHANGE_CLAIMED)
/*
 * The head of an answer was used at once, and what it answers is known and waits for nothing else. Where all of the
 * answer is here, the exchange goes from asked to concluded in one atomic step: each of them waits for everything that
 * was stored before it.
 */
static __always_inline int http_answer_at_once(struct http_conn *conn, struct http_call *call,
					       struct http_direction *direction, struct http_exchange *exchange)
{
	struct http1_parser *parser = &direction->parser;
	struct http1_window *window = &call->window;
	u32 status = parser->status;
	u64 used;

	http_prove(conn);
	exchange->response_number = direction->number;
	exchange->status = status;
	exchange->first_byte_ns = call->begin_ns;
	http1_begin_body(parser, exchange->method == HTTP1_HEAD || status == 204 || status == 304);
	if (parser->state == HTTP1_BODY || parser->state == HTTP1_BODY_TO_CLOSE)
		window->position += http1_skip(parser, window->length - window->position);
	if (parser->state == HTTP1_BODY || parser->state == HTTP1_BODY_TO_CLOSE) {
		used = http1_skip(parser, call->total);
		call->skip += used;
		call->total -= used;
	}
	if (parser->state != HTTP1_START) {
		direction->message_ns = call->begin_ns;
		__sync_fetch_and_or(&exchange->flags, EXCHANGE_ANSWERED);
		return 1;
	}
	exchange->end_ns = call->end.now_ns;
	exchange->response_body = parser->body;
	call->end.exchange = direction->number++;
	call->end.error = HTTP_NO_ERROR;
	if (__sync_val_compare_and_swap(&exchange->flags, HTTP_ASKED, HTTP_ALL) == HTTP_ASKED)
		http_conclude(conn, &call->end);
	else if (__sync_fetch_and_or(&exchange->flags, EXCHANGE_ANSWERED | EXCHANGE_RESPONSE_DONE) &
		 EXCHANGE_REQUEST_DONE)
		http_settle(conn, &call->end);
	return 1;
}

/* The head of a message was used at once. Says whether to go on. */
static __always_inline int http_on_head(struct http_conn *conn, struct http_call *call,
					struct http_direction *direction)
{
	struct http_exchange *exchange = http_exchange_of(conn, direction->number);
	int more;

	if ((call->direction & 1) && exchange->flags == HTTP_ASKED && exchange->method != HTTP1_CONNECT &&
	    direction->parser.status >= 200 && exchange->request_number == direction->number)
		return http_answer_at_once(conn, call, direction, exchange);
	direction->message_ns = call->begin_ns;
	more = call->direction & 1 ? http_answer_head(conn, call, direction) : http_request_head(conn, call, direction);
	if (more && (direction->parser.state == HTTP1_BODY || direction->parser.state == HTTP1_BODY_TO_CLOSE))
		more = http_step_over(conn, call, direction);
	return more;
}

/* What came of the short way, and what is left to be done. */
enum http_whole {
	HTTP_WHOLE_NOT,	  /* nothing has changed: all of it */
	HTTP_WHOLE_HEAD,  /* the head was taken: http_whole_used() */
	HTTP_WHOLE_BEGUN, /* the pump, then http_end_call() */
	HTTP_WHOLE_OVER,  /* http_end_call() */
	HTTP_WHOLE_DONE,
};
/*
 * The short way, for what nearly every call is: one message whose head begins with the call and is in view. It does to
 * the connection what http_begin_call(), http_pump() and http_end_call() would do in several steps.
 */
HTTP_FUNCTION http_whole(struct http_conn *conn, struct http_call *call)
{
	struct http_direction *direction;
	struct http1_window *window;
	u64 amount;

	if (!conn || !call)
		return HTTP_WHOLE_NOT;
	direction = &conn->directions[call->direction & 1];
	window = &call->window;
	if ((conn->flags & (HTTP_JOINING | HTTP_TUNNEL | HTTP_FINISHED)) || direction->epoch != conn->epoch ||
	    direction->parser.state != HTTP1_START || direction->message_ns || direction->carried || call->skip ||
	    !call->total || (!call->left && (!http_next_piece(call) || !call->left)))
		return HTTP_WHOLE_NOT;
	amount = call->left < call->total ? call->left : call->total;
	if (amount > HTTP1_WINDOW)
		amount = HTTP1_WINDOW;
	HTTP1_KEEP(amount);
	if (amount > HTTP1_WINDOW || http_read_user(window->bytes, amount, call->base))
		return HTTP_WHOLE_NOT;
	call->base += amount;
	call->left -= amount;
	call->total -= amount;
	window->position = 0;
	window->length = amount;
	http1_blank(window, amount);
	direction->last_ns = call->end.now_ns;
	direction->parser.is_response = call->direction & 1;
	HTTP1_FORGET();
	if (http1_head_again(direction, window))
		return HTTP_WHOLE_HEAD;
	if (!http1_head(&direction->parser, window, http_wants_trace_fields()))
		return HTTP_WHOLE_BEGUN;
	http1_keep_head(direction, window);
	return HTTP_WHOLE_HEAD;
}

/* The second half, for the stack's sake: Linux 6.1 adds up what all functions on the way may use, and what the head
 * needed is free by now. */
HTTP_FUNCTION http_whole_used(struct http_conn *conn, struct http_call *call)
{
	struct http_direction *direction;

	if (!conn || !call)
		return HTTP_WHOLE_OVER;
	direction = &conn->directions[call->direction & 1];
	if (!http_on_head(conn, call, direction)) {
		call->window.position = call->window.length;
		return HTTP_WHOLE_OVER;
	}
	return http_used_up(call, direction) ? HTTP_WHOLE_DONE : HTTP_WHOLE_BEGUN;
}

#ifndef HTTP_SHORT_WAY
#define HTTP_SHORT_WAY 1
#endif
/* All bytes of one call, in at most `steps` steps. Not `seen`: nobody can say what they are. */
static __always_inline void http_take(struct http_conn *conn, struct http_call *call, bool seen, u32 steps)
{
	int whole = HTTP_SHORT_WAY && seen ? http_whole(conn, call) : HTTP_WHOLE_NOT;

	if (whole == HTTP_WHOLE_HEAD)
		whole = http_whole_used(conn, call);
	if (whole == HTTP_WHOLE_DONE || (whole == HTTP_WHOLE_NOT && !http_begin_call(conn, call)))
		return;
	if (!seen) {
		http_unseen(conn, call, call->total);
		call->total = 0;
		call->window.position = call->window.length; /* the rest of its line did not come */
	} else if (whole != HTTP_WHOLE_OVER)
		for (u32 i = 0; i < steps; i++)
			if (!http_pump(conn, call))
				break;
	http_end_call(conn, call);
}
