/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the events of the two parsers mean to the exchanges of a connection (http1_exchange.h): a request
 * begins and ends, an answer begins and ends. Called by the step loop in http1_conn.h.
 */
#pragma once

#include "protocol/http1/http1_exchange.h"

/*
 * Requests.
 */

/* Method and path of the current request are in the window. */
static __always_inline void http1_on_target(struct http1_conn *conn, struct http1_call *call,
					    struct http1_direction *direction)
{
	u32 start = call->window.path_start;

	if (start > HTTP1_ROOT)
		start = HTTP1_ROOT; /* unreachable; bounds the index for the verifier */
	direction->name = request_name(&conn->base, call->io.end_ns, direction->parser.path_hash,
				       &call->window.bytes[start], call->window.path_length,
				       direction->parser.flags & HTTP1_PATH_CUT);
}

static __always_inline void http1_on_trace_field(struct http1_conn *conn, struct http1_call *call,
						 struct http1_direction *direction, int event)
{
	request_trace(&conn->base, direction->number,
		      event == HTTP1_TRACEPARENT ? REQUEST_TRACEPARENT : REQUEST_TRACESTATE,
		      &call->window.bytes[call->window.value_start & HTTP1_MASK], call->window.value_length);
}

/* There is no room for a request: it is lost, and only its place is kept. */
STREAM_FUNCTION int http1_pass_over(struct http1_conn *conn, struct http1_direction *direction)
{
	u64 bit;
	u16 depth;

	if (!conn || !direction)
		return 0;
	bit = 1ULL << (direction->number & (HTTP1_HEADS - 1));
	depth = direction->number - http1_next_answer(conn);
	http1_count(REQUEST_LOST_PIPELINE, 1);
	direction->passed_over = 1;
	direction->heads &= ~bit;
	if (direction->parser.method == HTTP1_HEAD)
		direction->heads |= bit;
	if (depth < (direction->parser.method == HTTP1_HEAD ? HTTP1_HEADS : HTTP1_DEPTH) &&
	    direction->parser.method != HTTP1_CONNECT)
		return 1;
	http1_desync_at(conn, direction, REQUEST_LOST_PIPELINE); /* too much to remember, or nobody knows what follows */
	return 0;
}

/* The request line is complete. */
static __always_inline int http1_request_begun(struct http1_conn *conn, struct http1_direction *direction)
{
	struct request *exchange = http1_exchange_of(conn, direction->number), *head;
	u64 message_ns = direction->message_ns;
	u32 flags;

	head = http1_exchange_of(conn, conn->directions[STREAM_ANSWERS].number);
	if (!(conn->base.flags & CONN_RESYNC) && conn->base.unmatched_ns && head != exchange &&
	    (head->flags & (EXCHANGE_KNOWN | EXCHANGE_ANSWERED)) == EXCHANGE_KNOWN &&
	    conn->base.unmatched_ns > head->start_ns)
		http1_desync_at(conn, direction, REQUEST_LOST_UNMATCHED); /* its answer was passed over before the resync */
	if (conn->base.flags & CONN_RESYNC) {
		if (conn->base.unmatched_ns > message_ns) {
			direction->parser.state = HTTP1_START;
			return 0; /* answered already: take the next one */
		}
		http1_resync(conn, direction);
		direction->parser.state = HTTP1_HEADERS;
		direction->message_ns = message_ns;
	}
	http1_prove(conn);
	if ((conn->base.flags & CONN_UNSURE) && direction->number != conn->base.epoch_number &&
	    direction->number == http1_next_answer(conn))
		http1_become_sure(conn);
	flags = exchange->flags;
	direction->passed_over = 0;
	if (flags & EXCHANGE_KNOWN)
		return http1_pass_over(conn, direction);
	if ((flags & EXCHANGE_ANSWERED) && exchange->answer_number != direction->number) {
		http1_count(REQUEST_LOST_UNMATCHED, 1); /* an answer without a request */
		__sync_lock_test_and_set(&exchange->flags, 0);
	}
	exchange->number = direction->number;
	exchange->operation = direction->parser.method;
	exchange->detail = direction->parser.minor;
	exchange->name_hash = direction->parser.path_hash;
	exchange->name = direction->name;
	exchange->start_ns = direction->message_ns;
	return 1;
}

static __always_inline bool http1_is_tunnel(u8 method, u16 status)
{
	return status == 101 || (method == HTTP1_CONNECT && status / 100 == 2);
}

static __always_inline void http1_enter_tunnel(struct http1_conn *conn, u16 status)
{
	if (!(__sync_fetch_and_or(&conn->base.flags, CONN_LEFT) & CONN_LEFT))
		http1_count(status == 101 ? REQUEST_UPGRADED : REQUEST_CONNECTED, 1);
}

/* The answer waited for its request to know whether a body follows. Now it does; nothing of a body was seen. */
static __always_inline void http1_settle_deferred(struct http1_conn *conn, struct http1_call *call,
						 struct request *exchange)
{
	if (exchange->operation != HTTP1_HEAD && !http1_is_tunnel(exchange->operation, exchange->status))
		return;
	if (__sync_fetch_and_or(&exchange->flags, EXCHANGE_CLAIMED) & EXCHANGE_CLAIMED)
		return;
	call->end.error = REQUEST_NO_ERROR;
	request_ended(&conn->base, exchange, &call->end);
	if (exchange->operation != HTTP1_HEAD)
		http1_enter_tunnel(conn, exchange->status);
	__sync_lock_test_and_set(&exchange->flags, EXCHANGE_SETTLED_EARLY);
}

static __always_inline int http1_request_headers_end(struct http1_conn *conn, struct http1_call *call)
{
	struct http1_direction *direction = &conn->directions[STREAM_REQUESTS];
	struct request *exchange = http1_exchange_of(conn, direction->number);
	u32 add = EXCHANGE_KNOWN, before;
	int event;

	event = http1_begin_body(&direction->parser, false);
	if (event == HTTP1_MALFORMED)
		return http1_desync_at(conn, direction, REQUEST_LOST_MALFORMED);
	if (direction->passed_over) {
		if (event == HTTP1_MESSAGE_END) {
			direction->message_ns = 0;
			direction->number++;
		}
		return 1;
	}
	exchange->request_bytes = direction->parser.body;
	call->end.number = direction->number;
	request_begun(&conn->base, &call->io, exchange);
	if (direction->parser.state != HTTP1_CHUNK_SIZE)
		add |= EXCHANGE_REQUEST_DONE;
	before = __sync_fetch_and_or(&exchange->flags, add);
	if (event == HTTP1_MESSAGE_END) { /* only now: see http1_answers_passed_over() */
		direction->number++;
		direction->message_ns = 0;
	}
	if (before & EXCHANGE_DEFERRED) {
		http1_settle_deferred(conn, call, exchange);
	} else if ((before & EXCHANGE_RESPONSE_DONE) && (add & EXCHANGE_REQUEST_DONE)) {
		http1_finish(conn, &call->end, before);
	}
	return 1;
}

static __always_inline void http1_request_ended(struct http1_conn *conn, struct http1_call *call,
					       struct http1_direction *direction)
{
	struct request *exchange = http1_exchange_of(conn, direction->number);
	u32 before;

	direction->message_ns = 0;
	call->end.number = direction->number++;
	if (!(direction->parser.flags & HTTP1_CHUNKED) || direction->passed_over)
		return; /* all was known behind the headers */
	exchange->request_bytes = direction->parser.body;
	before = __sync_fetch_and_or(&exchange->flags, EXCHANGE_REQUEST_DONE);
	if (before & EXCHANGE_RESPONSE_DONE)
		http1_finish(conn, &call->end, before);
}

/*
 * Answers.
 */

/* Does the answer that begins belong to a request that was passed over? Else that has the answer's slot, or was not seen yet. */
static __always_inline bool http1_answers_passed_over(struct http1_conn *conn, struct http1_direction *direction,
						      struct request *exchange)
{
	struct http1_direction *requests = &conn->directions[STREAM_REQUESTS];
	u16 ahead = *(volatile u16 *)&requests->number - direction->number;
	u32 flags;

	if (ahead >= 0x8000 || (!ahead && !requests->passed_over))
		return false;
	flags = __sync_fetch_and_or(&exchange->flags, 0); /* read after the number, which is written after it */
	return !(flags & (EXCHANGE_KNOWN | EXCHANGE_SETTLED_EARLY)) || exchange->number != direction->number;
}

static __always_inline int http1_response_begun(struct http1_conn *conn, struct http1_direction *direction)
{
	struct request *exchange = http1_exchange_of(conn, direction->number);
	u32 flags;

	http1_prove(conn);
	if (direction->parser.status < 200 && direction->parser.status != 101)
		return 1; /* interim */
	direction->passed_over = http1_answers_passed_over(conn, direction, exchange);
	if (direction->passed_over)
		return 1;
	flags = exchange->flags;
	if ((conn->base.flags & CONN_UNSURE) && !(flags & EXCHANGE_KNOWN)) {
		/* of a request before those that are known, or of one that is not seen yet: that is answered, then */
		__sync_lock_test_and_set(&conn->base.unmatched_ns, conn->base.last_ns[STREAM_ANSWERS]);
		http1_desync_at(conn, direction, REQUEST_LOST_UNMATCHED);
		return 0;
	}
	if (flags & EXCHANGE_ANSWERED) {
		http1_desync_at(conn, direction, REQUEST_LOST_UNMATCHED); /* more answers than requests */
		return 0;
	}
	exchange->answer_number = direction->number;
	exchange->status = direction->parser.status;
	exchange->first_byte_ns = direction->message_ns;
	__sync_fetch_and_or(&exchange->flags, EXCHANGE_ANSWERED);
	return 1;
}

static __always_inline void http1_response_ended(struct http1_conn *conn, struct http1_call *call,
						struct http1_direction *direction)
{
	struct request *exchange = http1_exchange_of(conn, direction->number);
	u32 before;

	direction->message_ns = 0;
	if (direction->passed_over) {
		direction->passed_over = 0;
		direction->number++;
		return;
	}
	exchange->end_ns = call->io.end_ns;
	exchange->response_bytes = direction->parser.body;
	call->end.number = direction->number++;
	before = __sync_fetch_and_or(&exchange->flags, EXCHANGE_RESPONSE_DONE);
	if (before & EXCHANGE_REQUEST_DONE)
		http1_finish(conn, &call->end, before);
}

STREAM_FUNCTION int http1_response_headers_end(struct http1_conn *conn, struct http1_call *call)
{
	struct http1_direction *direction;
	struct request *exchange;
	struct http1_parser *parser;
	bool no_body;
	u32 flags;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[STREAM_ANSWERS];
	parser = &direction->parser;
	exchange = http1_exchange_of(conn, direction->number);
	if (parser->status < 200 && parser->status != 101) {
		http1_begin_body(parser, true);
		direction->message_ns = 0;
		return 1;
	}
	no_body = parser->status == 204 || parser->status == 304 || parser->status == 101;
	if (direction->passed_over) {
		no_body |= conn->directions[STREAM_REQUESTS].heads >> (direction->number & (HTTP1_HEADS - 1)) & 1;
		if (parser->status == 101)
			http1_enter_tunnel(conn, parser->status);
		if (http1_begin_body(parser, no_body) == HTTP1_MESSAGE_END)
			http1_response_ended(conn, call, direction);
		return 1;
	}
	flags = exchange->flags;
	if (flags & EXCHANGE_SETTLED_EARLY) {
		__sync_lock_test_and_set(&exchange->flags, 0);
		direction->number++;
		direction->message_ns = 0;
		http1_begin_body(parser, true);
		return 1;
	}
	if (!no_body && !(flags & EXCHANGE_KNOWN)) {
		/* It is not known yet whether it answers a HEAD. Where more follows at once, it does not: only a
		 * pipelined HEAD that was answered before it was seen would be taken wrongly. */
		if (call->window.position == call->window.length && !call->io.total &&
		    (parser->length || !(parser->flags & HTTP1_HAS_LENGTH))) {
			exchange->end_ns = call->io.end_ns;
			exchange->response_bytes = 0;
			flags = __sync_fetch_and_or(&exchange->flags, EXCHANGE_DEFERRED);
			if (!(flags & EXCHANGE_KNOWN))
				return 0; /* decided when more comes */
			__sync_fetch_and_and(&exchange->flags, ~EXCHANGE_DEFERRED);
		}
	}
	if (flags & EXCHANGE_KNOWN) {
		no_body |= exchange->operation == HTTP1_HEAD;
		if (http1_is_tunnel(exchange->operation, parser->status)) {
			http1_enter_tunnel(conn, parser->status);
			no_body = true;
		}
	} else if (parser->status == 101) {
		http1_enter_tunnel(conn, parser->status);
	}
	if (http1_begin_body(parser, no_body) == HTTP1_MESSAGE_END)
		http1_response_ended(conn, call, direction);
	return 1;
}
