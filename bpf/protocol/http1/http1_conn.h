/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * One HTTP/1 connection: steps a parser per direction through the bytes of a call, and matches answers with requests.
 * The entry point is http1_bytes() in http1_fast_path.h.
 */
#pragma once

#include "protocol/http1/http1_messages.h"

/*
 * What bounds the work of one call. Heads take a step for each line that matters; bodies none, but for the sizes of chunks:
 * so many turns through those are one step.
 */
#define HTTP1_STEPS 1024
#define HTTP1_CHUNK_TURNS 64
#define HTTP1_PIECES 32 /* of the caller's memory, stepped over at once */
#define HTTP1_SIZE_SEEN 64 /* read where nothing but the size of a chunk is wanted */

/* Steps over unobserved bytes: fine inside a body, else the place is lost. */
STREAM_FUNCTION int http1_step_unobserved(struct http1_conn *conn, struct http1_call *call, u64 bytes)
{
	struct http1_direction *direction;
	struct http1_parser *parser;
	u64 used;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[call->io.direction & 1];
	parser = &direction->parser;
	if (conn->base.flags & (CONN_RESYNC | CONN_LEFT))
		return 1;
	if (parser->state == HTTP1_UNDECIDED && (call->io.direction & 1)) {
		call->io.total = bytes; /* a body follows, then */
		http1_response_headers_end(conn, call);
		call->io.total = 0;
	}
	if (parser->state != HTTP1_BODY && parser->state != HTTP1_BODY_TO_CLOSE && parser->state != HTTP1_CHUNK) {
		http1_desync_at(conn, direction, REQUEST_LOST_UNSEEN);
		return 0;
	}
	used = http1_skip(parser, bytes);
	if (parser->state == HTTP1_START) {
		if (parser->is_response)
			http1_response_ended(conn, call, direction);
		else
			http1_request_ended(conn, call, direction);
	}
	if (used == bytes)
		return 1;
	http1_desync_at(conn, direction, REQUEST_LOST_UNSEEN);
	return 0;
}

/* Moves on to the next piece that holds bytes of interest, over a bounded number of others. 0: there is none, or it cannot be read. */
STREAM_FUNCTION int http1_next_piece(struct http1_call *call)
{
	if (!call)
		return 0;
	for (u32 i = 0; i < HTTP1_PIECES; i++) {
		if (!call->io.left && !stream_next_piece(&call->io))
			return 0;
		stream_skip_piece(&call->io);
		if (call->io.left)
			break;
	}
	return 1;
}

enum http1_filled {
	HTTP1_FILLED,	  /* or nearer to it: go on */
	HTTP1_NO_PIECE,	  /* nothing more of the call can be seen */
	HTTP1_NO_ROOM,	  /* unreachable; bounds the index for the verifier */
	HTTP1_UNREADABLE, /* memory that is not there */
};

/* Puts at most `room` more bytes behind those of the window that are still unread. */
STREAM_FUNCTION int http1_fill(struct http1_call *call, u64 room)
{
	struct http1_window *window;
	u64 unread, amount;

	if (!call)
		return HTTP1_NO_PIECE;
	if (!call->io.left || call->io.skip) {
		if (!http1_next_piece(call))
			return HTTP1_NO_PIECE;
		if (!call->io.left)
			return HTTP1_FILLED;
	}
	window = &call->window;
	unread = window->length - window->position;
	STREAM_KEEP(unread);
	if (unread > HTTP1_LINE_SEEN)
		return HTTP1_NO_ROOM;
	if (window->position)
		stream_copy(window->bytes, unread, &window->bytes[window->position & HTTP1_MASK]);
	window->position = 0;
	window->length = unread;
	amount = stream_readable(&call->io, room);
	STREAM_KEEP(amount);
	if (amount > HTTP1_WINDOW)
		return HTTP1_NO_ROOM;
	if (stream_read_user(&window->bytes[unread], amount, call->io.base))
		return HTTP1_UNREADABLE;
	stream_used(&call->io, amount);
	unread += amount;
	STREAM_KEEP(unread);
	if (unread > HTTP1_WINDOW)
		return HTTP1_NO_ROOM;
	window->length = unread;
	http1_blank(window, unread);
	return HTTP1_FILLED;
}

/* How much to read at once. Where the size of a chunk is all that is looked for, most of what comes is stepped over. */
static __always_inline u64 http1_room(struct http1_parser *parser, struct http1_window *window)
{
	if (parser->state == HTTP1_CHUNK_SIZE && !parser->small_chunks)
		return HTTP1_SIZE_SEEN;
	return window->position < window->length ? HTTP1_WINDOW - HTTP1_LINE_SEEN : HTTP1_WINDOW;
}

/* Says whether to go on. */
static __always_inline int http1_refill(struct http1_conn *conn, struct http1_call *call,
				       struct http1_direction *direction)
{
	u64 amount;

	switch (http1_fill(call, http1_room(&direction->parser, &call->window))) {
	case HTTP1_FILLED:
		return 1;
	case HTTP1_NO_PIECE:
		amount = call->io.total;
		call->io.total = 0;
		/* a page that is not there, or a buffer that only the kernel sees (splice) */
		http1_step_unobserved(conn, call, amount);
		return 0;
	case HTTP1_UNREADABLE:
		http1_desync_at(conn, direction, REQUEST_LOST_UNREADABLE);
		return 0;
	}
	http1_desync_at(conn, direction, REQUEST_LOST_MALFORMED);
	return 0;
}

/* One turn through a chunked body: over the rest of a chunk, to the next one's size. 0: the rest is for http1_step_call(). */
STREAM_FUNCTION int http1_step_chunk(struct http1_conn *conn, struct http1_call *call)
{
	struct http1_parser *parser;
	struct http1_window *window;

	if (!conn || !call)
		return 0;
	parser = &conn->directions[call->io.direction & 1].parser;
	window = &call->window;
	if (parser->state == HTTP1_CHUNK)
		window->position += http1_skip(parser, window->length - window->position);
	if (parser->state == HTTP1_CHUNK)
		stream_step_over(&call->io, http1_skip(parser, call->io.total));
	if (parser->state != HTTP1_CHUNK_SIZE)
		return 0;
	switch (http1_chunk_size(parser, window)) {
	case HTTP1_AGAIN:
		return parser->state == HTTP1_CHUNK;
	case HTTP1_NEED_DATA:
		return call->io.total && http1_fill(call, http1_room(parser, window)) == HTTP1_FILLED;
	}
	return 0;
}

/* Many of these turns. Says whether there may be more. A function of its own: the verifier looks at each turn as the same call. */
STREAM_FUNCTION int http1_step_chunks(struct http1_conn *conn, struct http1_call *call)
{
	for (u32 i = 0; i < HTTP1_CHUNK_TURNS; i++)
		if (!http1_step_chunk(conn, call))
			return 0;
	return 1;
}

/* In a body: steps over what is in the window, then over what was not even read. */
static __always_inline int http1_step_over(struct http1_conn *conn, struct http1_call *call,
					  struct http1_direction *direction)
{
	struct http1_window *window = &call->window;
	u64 used = http1_skip(&direction->parser, window->length - window->position);

	window->position += used;
	if (direction->parser.state == HTTP1_BODY || direction->parser.state == HTTP1_CHUNK ||
	    direction->parser.state == HTTP1_BODY_TO_CLOSE) {
		used = http1_skip(&direction->parser, call->io.total);
		stream_step_over(&call->io, used);
	}
	if (direction->parser.state == HTTP1_START) {
		if (call->io.direction & 1)
			http1_response_ended(conn, call, direction);
		else
			http1_request_ended(conn, call, direction);
	}
	return call->io.total || window->position < window->length;
}

/* Bytes behind a CONNECT whose answer is not seen yet. */
static __always_inline bool http1_awaits_tunnel(struct http1_conn *conn, struct http1_direction *direction)
{
	struct request *last = http1_exchange_of(conn, direction->number - 1);

	if (last->operation != HTTP1_CONNECT || !(last->flags & EXCHANGE_KNOWN))
		return false;
	direction->parser.state = HTTP1_START;
	return true;
}

static __always_inline int http1_on_event(struct http1_conn *conn, struct http1_call *call,
					 struct http1_direction *direction, int event)
{
	switch (event) {
	case HTTP1_TARGET:
		if (!direction->parser.is_response)
			http1_on_target(conn, call, direction);
		return 1;
	case HTTP1_LINE:
		http1_on_target(conn, call, direction);
		return http1_request_begun(conn, direction);
	case HTTP1_LINE_END:
		return direction->parser.is_response ? http1_response_begun(conn, direction)
						     : http1_request_begun(conn, direction);
	case HTTP1_TRACEPARENT:
	case HTTP1_TRACESTATE:
		http1_on_trace_field(conn, call, direction, event);
		return 1;
	case HTTP1_HEADERS_END:
		return direction->parser.is_response ? http1_response_headers_end(conn, call)
						     : http1_request_headers_end(conn, call);
	case HTTP1_MESSAGE_END: /* of a chunked body */
		if (direction->parser.is_response)
			http1_response_ended(conn, call, direction);
		else
			http1_request_ended(conn, call, direction);
		return 1;
	case HTTP1_SKIP:
		return http1_step_over(conn, call, direction);
	case HTTP1_MALFORMED:
		if (direction->parser.is_response || !http1_awaits_tunnel(conn, direction))
			http1_desync_at(conn, direction, REQUEST_LOST_MALFORMED);
		return 0;
	}
	return 1;
}

/* Is nothing left to be done with the bytes of the call? HTTP1_UNDECIDED needs none: whether a body follows is decided in the next step. */
static __always_inline bool http1_used_up(struct http1_call *call, struct http1_direction *direction)
{
	return !call->io.total && call->window.position >= call->window.length &&
	       direction->parser.state != HTTP1_UNDECIDED;
}

/* One step through the bytes of a call. Says whether to go on. */
STREAM_FUNCTION int http1_step_call(struct http1_conn *conn, struct http1_call *call)
{
	struct http1_direction *direction;
	int event, more;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[call->io.direction & 1];
	if (direction->parser.state == HTTP1_START)
		direction->kept = 0;
	if ((direction->parser.state == HTTP1_CHUNK || direction->parser.state == HTTP1_CHUNK_SIZE) &&
	    http1_step_chunks(conn, call))
		return 1;
	event = http1_step(&direction->parser, &call->window);
	if (event == HTTP1_NEED_DATA) {
		if (!call->io.total)
			return 0; /* http1_end_call() keeps what is unread */
		more = http1_refill(conn, call, direction);
	} else {
		if (!direction->message_ns)
			direction->message_ns = call->io.begin_ns;
		more = http1_on_event(conn, call, direction, event);
		if (more && http1_used_up(call, direction))
			return 0;
	}
	if (!more)
		call->window.position = call->window.length; /* the rest of the window is of no use */
	return more;
}

/* Before the step loop: takes up where the last call of this direction ended. Says whether there is anything to do. */
STREAM_FUNCTION int http1_begin_call(struct http1_conn *conn, struct http1_call *call)
{
	struct http1_direction *direction;
	u64 carried;

	if (!conn || !call || (conn->base.flags & (CONN_LEFT | CONN_ENDED)))
		return 0;
	call->end.now_ns = call->io.end_ns;
	direction = &conn->directions[call->io.direction & 1];
	if (direction->epoch != conn->base.epoch) {
		direction->epoch = conn->base.epoch;
		direction->number = conn->base.epoch_number;
		direction->parser.state = HTTP1_START;
		direction->message_ns = 0;
		direction->carried = 0;
		direction->passed_over = 0;
	}
	if ((conn->base.flags & CONN_RESYNC) && (call->io.direction & 1)) {
		__sync_lock_test_and_set(&conn->base.unmatched_ns, call->io.end_ns);
		if (conn->base.flags & CONN_RESYNC)
			return 0;
	}
	direction->parser.is_response = call->io.direction & 1;
	carried = direction->carried;
	call->window.position = 0;
	call->window.length = 0;
	STREAM_KEEP(carried);
	if (carried > HTTP1_LINE_SEEN)
		return 0; /* unreachable; bounds the index for the verifier */
	STREAM_KEEP(carried); /* older verifiers do not follow what one comparison for both bounds would say */
	if (carried) {
		stream_copy(call->window.bytes, carried, direction->carry);
		http1_blank(&call->window, carried);
		call->window.length = carried;
	}
	direction->carried = 0;
	return 1;
}

/* After the step loop: keeps what is unread of an incomplete line. */
STREAM_FUNCTION int http1_end_call(struct http1_conn *conn, struct http1_call *call)
{
	struct http1_direction *direction;
	u64 unread;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[call->io.direction & 1];
	if (call->io.total) {
		call->io.total = 0;
		if (!(conn->base.flags & (CONN_RESYNC | CONN_LEFT)) && !http1_awaits_tunnel(conn, direction))
			http1_desync_at(conn, direction, REQUEST_LOST_BUDGET);
		return 0;
	}
	if (conn->base.flags & CONN_LEFT)
		return 0;
	unread = call->window.length - call->window.position;
	if (!unread) {
		if (direction->parser.state == HTTP1_START)
			direction->message_ns = 0;
		return 0;
	}
	STREAM_KEEP(unread);
	if (unread > HTTP1_LINE_SEEN) {
		http1_desync_at(conn, direction, REQUEST_LOST_BUDGET);
		return 0;
	}
	stream_copy(direction->carry, unread, &call->window.bytes[call->window.position & HTTP1_MASK]);
	direction->kept = 0;
	direction->carried = unread;
	if (!direction->message_ns)
		direction->message_ns = call->io.begin_ns;
	return 0;
}

/* Unobserved bytes, of a call or before it. The rest of a line that was incomplete did not come, then. */
STREAM_FUNCTION int http1_unobserved(struct http1_conn *conn, struct http1_call *call, u64 bytes)
{
	if (!conn || !call || !http1_begin_call(conn, call))
		return 0;
	call->io.total = 0;
	http1_step_unobserved(conn, call, bytes);
	call->window.position = call->window.length;
	http1_end_call(conn, call);
	return 0;
}
