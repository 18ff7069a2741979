/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the events of the two parsers mean to the exchanges of a connection (http1_exchange.h): a request
 * begins and ends, an answer begins and ends. Called by the drive in http1_conn.h.
 */
#pragma once

#include "http1_exchange.h"

/*
 * Requests.
 */

/* The request line is complete. */
static __always_inline int http_request_begun(struct http_conn *conn, struct http_direction *direction)
{
	struct http_exchange *exchange = http_exchange_of(conn, direction->number), *head;
	u64 message_ns = direction->message_ns;
	u32 flags;

	head = http_exchange_of(conn, conn->directions[HTTP_RESPONSES].number);
	if (!(conn->flags & HTTP_JOINING) && conn->ignored_ns && head != exchange &&
	    (head->flags & (EXCHANGE_KNOWN | EXCHANGE_ANSWERED)) == EXCHANGE_KNOWN &&
	    conn->ignored_ns > head->start_ns)
		http_lose(conn, direction, HTTP_LOST_UNMATCHED); /* its answer was passed over while joining */
	if (conn->flags & HTTP_JOINING) {
		if (conn->ignored_ns > message_ns) {
			direction->parser.state = HTTP1_START;
			return 0; /* answered already: take the next one */
		}
		http_join(conn, direction);
		direction->parser.state = HTTP1_HEADERS;
		direction->message_ns = message_ns;
	}
	http_prove(conn);
	flags = exchange->flags;
	if (flags & EXCHANGE_KNOWN) {
		http_lose(conn, direction, HTTP_LOST_PIPELINE);
		return 0;
	}
	if ((flags & EXCHANGE_ANSWERED) && exchange->response_number != direction->number) {
		http_count(HTTP_LOST_UNMATCHED, 1); /* an answer that nobody had asked for */
		__sync_lock_test_and_set(&exchange->flags, 0);
	}
	exchange->request_number = direction->number;
	exchange->method = direction->parser.method;
	exchange->minor = direction->parser.minor;
	exchange->path_hash = direction->parser.path_hash;
	exchange->route = direction->route;
	exchange->start_ns = direction->message_ns;
	return 1;
}

static __always_inline bool http_is_tunnel(u8 method, u16 status)
{
	return status == 101 || (method == HTTP1_CONNECT && status / 100 == 2);
}

static __always_inline void http_enter_tunnel(struct http_conn *conn, u16 status)
{
	if (!(__sync_fetch_and_or(&conn->flags, HTTP_TUNNEL) & HTTP_TUNNEL))
		http_count(status == 101 ? HTTP_UPGRADED : HTTP_CONNECTED, 1);
}

/* The answer waited for its request to know whether a body follows. Now it does; nothing of a body was seen. */
static __always_inline void http_settle_deferred(struct http_conn *conn, struct http_call *call,
						 struct http_exchange *exchange)
{
	if (exchange->method != HTTP1_HEAD && !http_is_tunnel(exchange->method, exchange->status))
		return;
	if (__sync_fetch_and_or(&exchange->flags, EXCHANGE_CLAIMED) & EXCHANGE_CLAIMED)
		return;
	call->end.error = HTTP_NO_ERROR;
	http_finish(conn, &call->end, exchange);
	if (exchange->method != HTTP1_HEAD)
		http_enter_tunnel(conn, exchange->status);
	__sync_lock_test_and_set(&exchange->flags, EXCHANGE_SETTLED_EARLY);
}

static __always_inline int http_request_headers_end(struct http_conn *conn, struct http_call *call)
{
	struct http_direction *direction = &conn->directions[HTTP_REQUESTS];
	struct http_exchange *exchange = http_exchange_of(conn, direction->number);
	u32 add = EXCHANGE_KNOWN, before;
	int event;

	event = http1_begin_body(&direction->parser, false);
	if (event == HTTP1_MALFORMED)
		return http_lose(conn, direction, HTTP_LOST_MALFORMED);
	exchange->request_body = direction->parser.body;
	call->end.exchange = direction->number;
	http_on_request(conn, call);
	if (direction->parser.state != HTTP1_CHUNK_SIZE)
		add |= EXCHANGE_REQUEST_DONE;
	if (event == HTTP1_MESSAGE_END) {
		direction->number++;
		direction->message_ns = 0;
	}
	before = __sync_fetch_and_or(&exchange->flags, add);
	if (before & EXCHANGE_DEFERRED) {
		http_settle_deferred(conn, call, exchange);
	} else if ((before & EXCHANGE_RESPONSE_DONE) && (add & EXCHANGE_REQUEST_DONE)) {
		call->end.error = HTTP_NO_ERROR;
		http_settle(conn, &call->end);
	}
	return 1;
}

static __always_inline void http_request_ended(struct http_conn *conn, struct http_call *call,
					       struct http_direction *direction)
{
	struct http_exchange *exchange = http_exchange_of(conn, direction->number);
	u32 before;

	direction->message_ns = 0;
	call->end.exchange = direction->number++;
	if (!(direction->parser.flags & HTTP1_CHUNKED))
		return; /* all was known behind the headers */
	exchange->request_body = direction->parser.body;
	before = __sync_fetch_and_or(&exchange->flags, EXCHANGE_REQUEST_DONE);
	if (before & EXCHANGE_RESPONSE_DONE) {
		call->end.error = HTTP_NO_ERROR;
		http_settle(conn, &call->end);
	}
}

/*
 * Answers.
 */

static __always_inline int http_response_begun(struct http_conn *conn, struct http_direction *direction)
{
	struct http_exchange *exchange = http_exchange_of(conn, direction->number);
	u32 flags = exchange->flags;

	http_prove(conn);
	if (direction->parser.status < 200 && direction->parser.status != 101)
		return 1; /* interim */
	if (flags & EXCHANGE_ANSWERED) {
		http_lose(conn, direction, HTTP_LOST_UNMATCHED); /* more answers than requests */
		return 0;
	}
	exchange->response_number = direction->number;
	exchange->status = direction->parser.status;
	exchange->first_byte_ns = direction->message_ns;
	__sync_fetch_and_or(&exchange->flags, EXCHANGE_ANSWERED);
	return 1;
}

static __always_inline void http_response_ended(struct http_conn *conn, struct http_call *call,
						struct http_direction *direction)
{
	struct http_exchange *exchange = http_exchange_of(conn, direction->number);
	u32 before;

	direction->message_ns = 0;
	exchange->end_ns = call->end.now_ns;
	exchange->response_body = direction->parser.body;
	call->end.exchange = direction->number++;
	before = __sync_fetch_and_or(&exchange->flags, EXCHANGE_RESPONSE_DONE);
	if (before & EXCHANGE_REQUEST_DONE) {
		call->end.error = HTTP_NO_ERROR;
		http_settle(conn, &call->end);
	}
}

HTTP_FUNCTION http_response_headers_end(struct http_conn *conn, struct http_call *call)
{
	struct http_direction *direction;
	struct http_exchange *exchange;
	struct http1_parser *parser;
	bool no_body;
	u32 flags;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[HTTP_RESPONSES];
	parser = &direction->parser;
	exchange = http_exchange_of(conn, direction->number);
	if (parser->status < 200 && parser->status != 101) {
		http1_begin_body(parser, true);
		direction->message_ns = 0;
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
	no_body = parser->status == 204 || parser->status == 304 || parser->status == 101;
	if (!no_body && !(flags & EXCHANGE_KNOWN)) {
		/* Nobody knows yet whether it answers a HEAD. Where more follows at once, it does not: only a
		 * pipelined HEAD that was answered before it was seen would be taken wrongly. */
		if (call->window.position == call->window.length && !call->total &&
		    (parser->length || !(parser->flags & HTTP1_HAS_LENGTH))) {
			exchange->end_ns = call->end.now_ns;
			exchange->response_body = 0;
			flags = __sync_fetch_and_or(&exchange->flags, EXCHANGE_DEFERRED);
			if (!(flags & EXCHANGE_KNOWN))
				return 0; /* asked again when more comes */
			__sync_fetch_and_and(&exchange->flags, ~EXCHANGE_DEFERRED);
		}
	}
	if (flags & EXCHANGE_KNOWN) {
		no_body |= exchange->method == HTTP1_HEAD;
		if (http_is_tunnel(exchange->method, parser->status)) {
			http_enter_tunnel(conn, parser->status);
			no_body = true;
		}
	} else if (parser->status == 101) {
		http_enter_tunnel(conn, parser->status);
	}
	if (http1_begin_body(parser, no_body) == HTTP1_MESSAGE_END)
		http_response_ended(conn, call, direction);
	return 1;
}
