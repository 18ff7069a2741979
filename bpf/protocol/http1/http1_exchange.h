/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state of one HTTP/1 connection, and the ring of exchanges in which requests meet their answers.
 * http1_messages.h fills it, http1_conn.h steps through the bytes for both.
 *
 * Two threads may be at work on one connection, one per direction. Each owns its direction; what both
 * touch is the ring of exchanges: request n and answer n meet in slot n, in either order, and the one that
 * comes second settles it. An answer may be seen before its request: a send is seen when it returns.
 *
 * A request for which the ring has no room is passed over: counted as lost, and so is its answer stepped over when its turn
 * comes. Which answer that is follows from the numbers: its request was seen, and its slot is another's, or free.
 *
 * Where a connection is taken up while answers to requests before may be outstanding (CONN_UNSURE), the first answers may be
 * theirs. So exchanges that are complete are held in their slots. A request that begins when as many answers were seen as
 * requests before it says that there were no others: they count. One answer too many says that there were: they are lost.
 */
#pragma once

#include "protocol/http1/http1_parser.h"
#include "requests/requests.h"
#include "stream/call.h"

#define HTTP1_PIPELINE 16 /* requests without an answer at once; a power of two */
#define HTTP1_DEPTH 16384 /* the same, those included that are passed over: numbers have 16 bits */
#define HTTP1_HEADS 64	  /* where a HEAD is passed over; whether its answer has a body must be remembered */

/* `flags` of an exchange, which is a struct request. */
enum http1_exchange_flags {
	EXCHANGE_KNOWN = 1,	   /* the request's head is complete */
	EXCHANGE_REQUEST_DONE = 2, /* nothing more to learn from the request */
	EXCHANGE_ANSWERED = 4,	   /* a status line was seen */
	EXCHANGE_RESPONSE_DONE = 8,
	EXCHANGE_CLAIMED = 16,	   /* being settled */
	EXCHANGE_DEFERRED = 32,	   /* whether the answer has a body depends on a request not seen yet */
	EXCHANGE_SETTLED_EARLY = 64, /* a deferred one, settled when its request turned up */
	EXCHANGE_OVER = 128, /* ended as idle, told and claimed: keeps its place until both directions have passed it */
};
#define EXCHANGE_DONE (EXCHANGE_REQUEST_DONE | EXCHANGE_RESPONSE_DONE)

struct http1_direction {
	/* what every message touches: a cache line */
	struct http1_parser parser;
	u64 message_ns; /* first byte of the current message; 0 before it */
	u32 name;	/* of the current request; 0: not known yet */
	u16 number;	/* of the current message */
	u16 epoch;	/* see struct request_conn */
	/* and most of them another */
	u16 carried;	/* bytes of an incomplete line, in `carry` */
	u16 kept;	/* bytes of the last message's head, in `carry`; 0: see http1_head_cache.h */
	u16 kept_path_start, kept_path_length;
	u16 cache_misses; /* heads in a row that were not that of the message before */
	u16 passed_over; /* 1: the current message is, or answers, a request that is passed over */
	u16 pad[2];
	u64 heads;  /* of requests, by number: was it a HEAD? Of those that are passed over */
	u64 pad2[6];
	u8 carry[HTTP1_LINE_SEEN];
};

/* Storage of a socket begins 8 bytes behind the start of a cache line: so each direction's and each exchange's lines do. */
struct http1_conn {
	struct request_conn base;
	struct http1_direction directions[2];
	struct request exchanges[HTTP1_PIPELINE];
};
_Static_assert(__builtin_offsetof(struct http1_conn, directions) % 64 == 56, "directions begin with a cache line");
_Static_assert(sizeof(struct http1_direction) % 64 == 0, "both do");
_Static_assert(sizeof(struct request) == 64, "and so do exchanges");

/* What one call of one thread hands in, and its working space. */
struct http1_call {
	struct stream_call io;
	struct request_end end; /* of the request that is being settled */
	struct http1_window window;
};

static __always_inline void http1_count(enum request_counter counter, u64 amount)
{
	request_count(STREAM_HTTP1, counter, amount);
}

static __always_inline struct request *http1_exchange_of(struct http1_conn *conn, u32 number)
{
	return &conn->exchanges[number & (HTTP1_PIPELINE - 1)];
}

/* The number of the answer that comes next. Its direction takes up a new epoch at its next call. */
static __always_inline u16 http1_next_answer(struct http1_conn *conn)
{
	struct http1_direction *answers = &conn->directions[STREAM_ANSWERS];

	return answers->epoch == conn->base.epoch ? answers->number : conn->base.epoch_number;
}

/* Makes an exchange free for another request. The caller has claimed it, and is done with it. */
static __always_inline void http1_release(struct request *exchange)
{
#ifdef __TARGET_ARCH_x86 /* no store passes an earlier one or a load: none of the waiting that an atomic one does */
	asm volatile("" ::: "memory");
	*(volatile u32 *)&exchange->flags = 0;
#else
	__sync_lock_test_and_set(&exchange->flags, 0);
#endif
}

/* Hands over an exchange that the caller has claimed. */
STREAM_FUNCTION int http1_conclude(struct http1_conn *conn, struct request_end *end)
{
	struct request *exchange;

	if (!conn || !end)
		return 0;
	exchange = http1_exchange_of(conn, end->number);
	if (exchange->number != exchange->answer_number && ((exchange->flags & EXCHANGE_ANSWERED) || !end->error))
		http1_count(REQUEST_LOST_UNMATCHED, 1);
	else
		request_ended(&conn->base, exchange, end);
	http1_release(exchange);
	return 0;
}

/* Hands a finished exchange over, once, though both directions may try. */
STREAM_FUNCTION int http1_settle(struct http1_conn *conn, struct request_end *end)
{
	struct request *exchange;
	u32 before;

	if (!conn || !end)
		return 0;
	exchange = http1_exchange_of(conn, end->number);
	before = __sync_fetch_and_or(&exchange->flags, EXCHANGE_CLAIMED);
	if (before & EXCHANGE_CLAIMED)
		return 0;
	if (before & EXCHANGE_KNOWN)
		return http1_conclude(conn, end);
	http1_release(exchange);
	return 0;
}

/* Both directions are through with an exchange. `before`: its flags, when the second of them said so. One that was told
 * before, as idle, has kept its place until now, so that what came late for it was not taken for another's. */
static __always_inline void http1_finish(struct http1_conn *conn, struct request_end *end, u32 before)
{
	end->error = REQUEST_NO_ERROR;
	if (before & EXCHANGE_OVER)
		http1_release(http1_exchange_of(conn, end->number));
	else if ((conn->base.flags & (CONN_UNSURE | CONN_LEFT)) != CONN_UNSURE) /* a 101 belongs to the request before it */
		http1_settle(conn, end);
}

/* The answers belong to the requests that they seem to belong to: what was held counts. The flag goes first: an answer
 * that is complete meanwhile is either found here, or sees it gone. */
STREAM_FUNCTION int http1_become_sure(struct http1_conn *conn)
{
	struct request_end end = {};

	if (!conn)
		return 0;
	__sync_fetch_and_and(&conn->base.flags, ~CONN_UNSURE);
	end.now_ns = conn->base.last_ns[STREAM_REQUESTS];
	for (u32 i = 0; i < HTTP1_PIPELINE; i++) {
		end.number = conn->base.epoch_number + i;
		if ((http1_exchange_of(conn, end.number)->flags & (EXCHANGE_DONE | EXCHANGE_CLAIMED)) == EXCHANGE_DONE)
			http1_settle(conn, &end);
	}
	return 0;
}

/* An exchange whose answer may be another's, when the connection ends: it is lost. */
STREAM_FUNCTION int http1_drop(struct request *exchange)
{
	if (!exchange || (__sync_fetch_and_or(&exchange->flags, EXCHANGE_CLAIMED) & EXCHANGE_CLAIMED))
		return 0;
	http1_count(REQUEST_LOST_UNMATCHED, 1);
	http1_release(exchange);
	return 0;
}

/* An exchange ends as idle: it is told, but what it waits for may still come. */
STREAM_FUNCTION int http1_conclude_idle(struct http1_conn *conn, struct request_end *end)
{
	struct request *exchange;
	u32 before;

	if (!conn || !end)
		return 0;
	exchange = http1_exchange_of(conn, end->number);
	before = __sync_fetch_and_or(&exchange->flags, EXCHANGE_CLAIMED);
	if (before & EXCHANGE_CLAIMED)
		return 0;
	request_ended(&conn->base, exchange, end);
	before = __sync_fetch_and_or(&exchange->flags, EXCHANGE_OVER);
	if ((before & EXCHANGE_DONE) == EXCHANGE_DONE) /* meanwhile: they found it claimed, and left it */
		http1_release(exchange);
	return 0;
}

/* Every exchange that is not finished ends with end->error; but for idleness, so does the connection. */
STREAM_FUNCTION int http1_end(struct http1_conn *conn, struct request_end *end)
{
	struct http1_direction *answers;
	u32 error;

	if (!conn || !end)
		return 0;
	answers = &conn->directions[STREAM_ANSWERS];
	error = end->error;
	if (error != REQUEST_ERROR_IDLE)
		__sync_fetch_and_or(&conn->base.flags, CONN_ENDED);
	for (u32 i = 0; i < HTTP1_PIPELINE; i++) {
		struct request *exchange = http1_exchange_of(conn, answers->number + i);
		u32 flags = exchange->flags;

		if (!(flags & EXCHANGE_KNOWN) || (flags & EXCHANGE_CLAIMED))
			continue;
		end->error = error;
		if ((conn->base.flags & CONN_UNSURE) && (flags & EXCHANGE_ANSWERED)) {
			if (error != REQUEST_ERROR_IDLE)
				http1_drop(exchange);
			continue;
		}
		if (!(flags & EXCHANGE_ANSWERED)) {
			exchange->end_ns = end->now_ns;
			exchange->first_byte_ns = 0;
			exchange->status = 0;
			exchange->response_bytes = 0;
		} else if (!(flags & EXCHANGE_RESPONSE_DONE)) {
			if (answers->parser.state == HTTP1_BODY_TO_CLOSE && error == REQUEST_ERROR_CLOSED) {
				end->error = REQUEST_NO_ERROR;
				exchange->end_ns = conn->base.last_ns[STREAM_ANSWERS];
				exchange->response_bytes = answers->parser.body;
			} else {
				u64 rest = answers->parser.remaining;
				if (answers->parser.state == HTTP1_CHUNK) /* its line end is no body */
					rest = rest > 2 ? rest - 2 : 0;
				if (error == REQUEST_ERROR_CLOSED)
					end->error = REQUEST_ERROR_INCOMPLETE;
				exchange->end_ns = end->now_ns;
				exchange->response_bytes =
					answers->parser.body > rest ? answers->parser.body - rest : 0;
			}
		} else {
			end->error = REQUEST_NO_ERROR; /* answered while the request was still being sent */
		}
		end->number = answers->number + i;
		if (error == REQUEST_ERROR_IDLE)
			http1_conclude_idle(conn, end);
		else
			http1_settle(conn, end);
	}
	end->error = error;
	return 0;
}

/* Desynchronises: nothing is followed until the next request line; what was under way is lost, and counted. */
STREAM_FUNCTION int http1_desync_at(struct http1_conn *conn, struct http1_direction *direction, u32 reason)
{
	u16 waiting;
	u64 lost = 0;

	if (!conn || !direction)
		return 0;
	waiting = conn->directions[STREAM_REQUESTS].number - http1_next_answer(conn);
	direction->parser.state = HTTP1_START;
	direction->carried = 0;
	direction->message_ns = 0;
	direction->passed_over = 0;
	if (__sync_fetch_and_or(&conn->base.flags, CONN_RESYNC) & CONN_RESYNC)
		return 0;
	/* the one answer that is under way will have passed when a next request begins; more, or one that has not begun, may not */
	if (waiting > (direction == &conn->directions[STREAM_ANSWERS]))
		__sync_fetch_and_or(&conn->base.flags, CONN_UNSURE);
	for (u32 i = 0; i < HTTP1_PIPELINE; i++) {
		struct request *exchange = http1_exchange_of(conn, i);
		u32 flags = exchange->flags;

		if (!(flags & EXCHANGE_KNOWN))
			continue;
		flags = __sync_fetch_and_or(&exchange->flags, EXCHANGE_CLAIMED);
		if (!(flags & EXCHANGE_CLAIMED)) {
			lost += (flags & EXCHANGE_KNOWN);
			__sync_lock_test_and_set(&exchange->flags, 0);
		}
	}
	if (!(conn->base.flags & CONN_PROVEN))
		return 0; /* it never was HTTP: refused, not desynchronised */
	http1_count(REQUEST_DESYNCED, 1);
	if (reason < REQUEST_COUNTERS)
		http1_count(reason, lost ? lost : 1);
	return 0;
}

static __always_inline void http1_prove(struct http1_conn *conn)
{
	if (!(conn->base.flags & CONN_PROVEN))
		__sync_fetch_and_or(&conn->base.flags, CONN_PROVEN);
}

/* Resynchronises: both directions start to count at the request that was just recognised. */
static __always_inline void http1_resync(struct http1_conn *conn, struct http1_direction *requests)
{
	for (u32 i = 0; i < HTTP1_PIPELINE; i++)
		conn->exchanges[i].flags = 0;
	conn->base.epoch_number = requests->number;
	conn->base.epoch++;
	requests->epoch = conn->base.epoch;
	http1_count(REQUEST_RESYNCED, 1);
	if (!(conn->base.flags & CONN_PROVEN)) /* nothing is known of what was before */
		__sync_fetch_and_or(&conn->base.flags, CONN_UNSURE);
	__sync_fetch_and_and(&conn->base.flags, ~CONN_RESYNC);
}
