/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * One HTTP/1 connection: drives a parser per direction over the bytes that sockio hands in, and matches
 * answers with requests. http.bpf.c includes it for the kernel, test/fuzz/http1_user.h for user mode;
 * the includer says how to read memory and what to do with a finished exchange (see "the includer" in
 * http1_exchange.h).
 */
#pragma once

#include "http1_messages.h"

/*
 * The drive.
 */

/* Moves on to the next piece of the call. 0: there is none, or it cannot be read. */
static __always_inline int http_next_piece(struct http_call *call)
{
	struct {
		u64 base, length;
	} piece;

	if (!call->iov_left || (call->iov_in_kernel ? http_copy(&piece, sizeof(piece), (const void *)call->iov)
						    : http_read_user(&piece, sizeof(piece), call->iov)))
		return 0;
	call->iov_left--;
	call->iov += sizeof(piece);
	call->base = piece.base;
	call->left = piece.length;
	return 1;
}

/* Bytes that no hook showed: fine inside a body, else the place is lost. */
HTTP_FUNCTION http_unseen(struct http_conn *conn, struct http_call *call, u64 bytes)
{
	struct http_direction *direction;
	struct http1_parser *parser;
	u64 used;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[call->direction & 1];
	parser = &direction->parser;
	if (conn->flags & (HTTP_JOINING | HTTP_TUNNEL))
		return 1;
	if (parser->state == HTTP1_UNDECIDED && (call->direction & 1)) {
		call->total = bytes; /* a body follows, then */
		http_response_headers_end(conn, call);
		call->total = 0;
	}
	if (parser->state != HTTP1_BODY && parser->state != HTTP1_BODY_TO_CLOSE && parser->state != HTTP1_CHUNK) {
		http_lose(conn, direction, HTTP_LOST_UNSEEN);
		return 0;
	}
	used = http1_skip(parser, bytes);
	if (parser->state == HTTP1_START) {
		if (parser->is_response)
			http_response_ended(conn, call, direction);
		else
			http_request_ended(conn, call, direction);
	}
	if (used == bytes)
		return 1;
	http_lose(conn, direction, HTTP_LOST_UNSEEN);
	return 0;
}

/* Puts more bytes behind those of the window that are still unread. Says whether to go on. */
static __always_inline int http_refill(struct http_conn *conn, struct http_call *call,
				       struct http_direction *direction)
{
	struct http1_window *window = &call->window;
	u64 unread = window->length - window->position, room, amount;

	if (!call->left) {
		if (http_next_piece(call))
			return 1;
		amount = call->total;
		call->total = 0;
		/* a page that is not there, or a buffer that only the kernel sees (splice) */
		http_unseen(conn, call, amount);
		return 0;
	}
	if (call->skip) {
		amount = call->skip < call->left ? call->skip : call->left;
		call->skip -= amount;
		call->base += amount;
		call->left -= amount;
		return 1;
	}
	HTTP1_KEEP(unread);
	if (unread > HTTP1_LINE_SEEN) {
		http_lose(conn, direction, HTTP_LOST_MALFORMED); /* cannot be: said for the verifier */
		return 0;
	}
	if (window->position)
		http_copy(window->bytes, unread, &window->bytes[window->position & HTTP1_MASK]);
	room = direction->parser.state == HTTP1_CHUNK_SIZE ? 64 : HTTP1_WINDOW - HTTP1_LINE_SEEN;
	if (!unread && room > 64)
		room = HTTP1_WINDOW;
	amount = call->left < call->total ? call->left : call->total;
	if (amount > room)
		amount = room;
	HTTP1_KEEP(amount);
	if (amount > HTTP1_WINDOW)
		return 0;
	if (http_read_user(&window->bytes[unread], amount, call->base)) {
		http_lose(conn, direction, HTTP_LOST_UNREADABLE);
		return 0;
	}
	call->base += amount;
	call->left -= amount;
	call->total -= amount;
	window->position = 0;
	unread += amount;
	HTTP1_KEEP(unread);
	if (unread > HTTP1_WINDOW)
		return 0;
	window->length = unread;
	http1_blank(window, unread);
	return 1;
}

/* In a body: steps over what is in the window, then over what was not even read. */
static __always_inline int http_step_over(struct http_conn *conn, struct http_call *call,
					  struct http_direction *direction)
{
	struct http1_window *window = &call->window;
	u64 used = http1_skip(&direction->parser, window->length - window->position);

	window->position += used;
	if (direction->parser.state == HTTP1_BODY || direction->parser.state == HTTP1_CHUNK ||
	    direction->parser.state == HTTP1_BODY_TO_CLOSE) {
		used = http1_skip(&direction->parser, call->total);
		call->skip += used;
		call->total -= used;
	}
	if (direction->parser.state == HTTP1_START) {
		if (call->direction & 1)
			http_response_ended(conn, call, direction);
		else
			http_request_ended(conn, call, direction);
	}
	return call->total || window->position < window->length;
}

/* Bytes behind a CONNECT whose answer is not seen yet. */
static __always_inline bool http_awaits_tunnel(struct http_conn *conn, struct http_direction *direction)
{
	struct http_exchange *last = http_exchange_of(conn, direction->number - 1);

	if (last->method != HTTP1_CONNECT || !(last->flags & EXCHANGE_KNOWN))
		return false;
	direction->parser.state = HTTP1_START;
	return true;
}

static __always_inline int http_on_event(struct http_conn *conn, struct http_call *call,
					 struct http_direction *direction, int event)
{
	switch (event) {
	case HTTP1_TARGET:
		if (!direction->parser.is_response)
			http_on_target(conn, call, direction);
		return 1;
	case HTTP1_LINE:
		http_on_target(conn, call, direction);
		return http_request_begun(conn, direction);
	case HTTP1_LINE_END:
		return direction->parser.is_response ? http_response_begun(conn, direction)
						     : http_request_begun(conn, direction);
	case HTTP1_TRACEPARENT:
	case HTTP1_TRACESTATE:
		http_on_trace_field(conn, call, direction, event);
		return 1;
	case HTTP1_HEADERS_END:
		return direction->parser.is_response ? http_response_headers_end(conn, call)
						     : http_request_headers_end(conn, call);
	case HTTP1_MESSAGE_END: /* of a chunked body */
		if (direction->parser.is_response)
			http_response_ended(conn, call, direction);
		else
			http_request_ended(conn, call, direction);
		return 1;
	case HTTP1_SKIP:
		return http_step_over(conn, call, direction);
	case HTTP1_MALFORMED:
		if (direction->parser.is_response || !http_awaits_tunnel(conn, direction))
			http_lose(conn, direction, HTTP_LOST_MALFORMED);
		return 0;
	}
	return 1;
}

/* Is nothing left to be done with the bytes of the call? Whether a body follows may be asked again without any. */
static __always_inline bool http_used_up(struct http_call *call, struct http_direction *direction)
{
	return !call->total && call->window.position >= call->window.length &&
	       direction->parser.state != HTTP1_UNDECIDED;
}

/* One step through the bytes of a call. Says whether to go on. */
HTTP_FUNCTION http_pump(struct http_conn *conn, struct http_call *call)
{
	struct http_direction *direction;
	int event, more;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[call->direction & 1];
	if (direction->parser.state == HTTP1_START)
		direction->kept = 0;
	event = http1_step(&direction->parser, &call->window);
	if (event == HTTP1_NEED_DATA) {
		if (!call->total)
			return 0; /* http_end_call() keeps what is unread */
		more = http_refill(conn, call, direction);
	} else {
		if (!direction->message_ns)
			direction->message_ns = call->begin_ns;
		more = http_on_event(conn, call, direction, event);
		if (more && http_used_up(call, direction))
			return 0;
	}
	if (!more)
		call->window.position = call->window.length; /* whatever it was, it is of no use */
	return more;
}

/* Before the pump: takes up where the last call of this direction ended. Says whether there is anything to do. */
HTTP_FUNCTION http_begin_call(struct http_conn *conn, struct http_call *call)
{
	struct http_direction *direction;
	u64 carried;

	if (!conn || !call || (conn->flags & (HTTP_TUNNEL | HTTP_FINISHED)))
		return 0;
	direction = &conn->directions[call->direction & 1];
	direction->last_ns = call->end.now_ns;
	if (direction->epoch != conn->epoch) {
		direction->epoch = conn->epoch;
		direction->number = conn->join_number;
		direction->parser.state = HTTP1_START;
		direction->message_ns = 0;
		direction->carried = 0;
	}
	if ((conn->flags & HTTP_JOINING) && (call->direction & 1)) {
		__sync_lock_test_and_set(&conn->ignored_ns, call->end.now_ns);
		if (conn->flags & HTTP_JOINING)
			return 0;
	}
	direction->parser.is_response = call->direction & 1;
	carried = direction->carried;
	call->window.position = 0;
	call->window.length = 0;
	HTTP1_KEEP(carried);
	if (carried > HTTP1_LINE_SEEN)
		return 0; /* cannot be: said for the verifier */
	HTTP1_KEEP(carried); /* older verifiers do not follow what one comparison for both bounds would say */
	if (carried) {
		http_copy(call->window.bytes, carried, direction->carry);
		http1_blank(&call->window, carried);
		call->window.length = carried;
	}
	direction->carried = 0;
	return 1;
}

/* After the pump: keeps what is unread of an incomplete line. */
HTTP_FUNCTION http_end_call(struct http_conn *conn, struct http_call *call)
{
	struct http_direction *direction;
	u64 unread;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[call->direction & 1];
	if (call->total) {
		call->total = 0;
		if (!(conn->flags & (HTTP_JOINING | HTTP_TUNNEL)) && !http_awaits_tunnel(conn, direction))
			http_lose(conn, direction, HTTP_LOST_BUDGET);
		return 0;
	}
	if (conn->flags & HTTP_TUNNEL)
		return 0;
	unread = call->window.length - call->window.position;
	if (!unread) {
		if (direction->parser.state == HTTP1_START)
			direction->message_ns = 0;
		return 0;
	}
	HTTP1_KEEP(unread);
	if (unread > HTTP1_LINE_SEEN) {
		http_lose(conn, direction, HTTP_LOST_BUDGET);
		return 0;
	}
	http_copy(direction->carry, unread, &call->window.bytes[call->window.position & HTTP1_MASK]);
	direction->kept = 0;
	direction->carried = unread;
	if (!direction->message_ns)
		direction->message_ns = call->begin_ns;
	return 0;
}
