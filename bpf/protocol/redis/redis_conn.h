/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the stream layer calls for a Redis connection (bpf/protocol/README.md): runs a parser per direction over the bytes
 * of a call and hands what is complete to redis_exchange.h.
 */
#pragma once

#include "protocol/redis/redis_exchange.h"

#ifndef REDIS_STEPS /* of one call at most, each to the end of a request or an answer; what is beyond is counted as lost */
#define REDIS_STEPS 256
#endif
#define REDIS_ROUNDS 128 /* of as many steps */

/*
 * Joining, and coming back after bytes that could not be understood.
 */

static __always_inline void redis_start_anew(struct redis_conn *conn, struct redis_direction *direction, bool answers)
{
	direction->epoch = conn->base.epoch;
	direction->message_ns = 0;
	direction->parser.state = REDIS_START;
	direction->parser.open = 0;
	direction->parser.streams = 0;
	direction->parser.flags = 0;
	if (answers)
		__builtin_memset(&conn->queue.asked, 0, sizeof(conn->queue.asked));
}

/*
 * The answering side belongs to one at a time: nobody waits for it, who does not get it says what becomes of that.
 */

/* Takes the answering side, unless somebody has it. */
static __always_inline bool redis_hold(struct redis_conn *conn)
{
	struct redis_direction *answers = &conn->directions[STREAM_ANSWERS];

	if (__sync_lock_test_and_set(&conn->busy, 1))
		return false;
	if (answers->epoch != conn->base.epoch)
		redis_start_anew(conn, answers, true);
	return true;
}

static __always_inline void redis_let_go(struct redis_conn *conn)
{
	__sync_lock_test_and_set(&conn->busy, 0);
}

/* Does the window begin with "*N\r\n$", as every request of a client library? */
static __always_inline bool redis_begins_list(const struct redis_window *window)
{
	u32 digits = 0;

	if (window->length < 5 || window->bytes[0] != '*' || window->bytes[1] == '0')
		return false;
	for (u32 i = 1; i < 9 && (u8)(window->bytes[i] - '0') <= 9; i++)
		digits++;
	return digits && digits < 8 && window->bytes[digits + 1] == '\r' && window->bytes[digits + 2] == '\n' &&
	       (window->length < digits + 4 || window->bytes[digits + 3] == '$');
}

/* Both directions start to count at the request that was just recognised. */
static __always_inline void redis_join(struct redis_conn *conn, struct redis_direction *requests)
{
	struct redis_queue *queue = &conn->queue;

	conn->base.epoch++;
	redis_start_anew(conn, requests, false);
	__sync_fetch_and_sub(&queue->balance, queue->balance);
	queue->head = 0;
	__builtin_memset(&queue->tail, 0, sizeof(queue->tail));
	queue->early_head = queue->early_tail = queue->early_taken = 0;
	conn->database = REDIS_DATABASE_UNKNOWN;
	conn->selected = conn->transaction = conn->silent = conn->silent_next = 0;
	request_count(STREAM_REDIS, REQUEST_RESYNCED, 1);
	__sync_fetch_and_and(&conn->base.flags, ~CONN_RESYNC);
}

/* The first bytes of a call, while nothing is understood. Says whether they are. */
static __always_inline bool redis_resync(struct redis_conn *conn, struct redis_call *call,
					 struct redis_direction *direction)
{
	if (call->io.direction == STREAM_ANSWERS) {
		__sync_lock_test_and_set(&conn->base.unmatched_ns, call->io.end_ns);
		return !(conn->base.flags & CONN_RESYNC);
	}
	if (!redis_begins_list(&call->window) || conn->base.unmatched_ns > call->io.begin_ns || !redis_hold(conn))
		return false;
	redis_join(conn, direction);
	redis_let_go(conn);
	if (conn->base.unmatched_ns <= call->io.begin_ns)
		return true;
	/* meanwhile redis_pass_over() dropped answers, perhaps this request's */
	__sync_fetch_and_or(&conn->base.flags, CONN_RESYNC);
	return false;
}

/*
 * The bytes of a call.
 */

/* Fills the window anew. Says whether to go on. */
static __always_inline bool redis_refill(struct redis_conn *conn, struct redis_call *call)
{
	u64 amount;

	if (!call->io.left) {
		if (stream_next_piece(&call->io))
			return true;
		redis_desync(conn, call->io.direction, REQUEST_LOST_UNSEEN);
		return false;
	}
	if (call->io.skip) {
		stream_skip_piece(&call->io);
		return true;
	}
	amount = stream_readable(&call->io, REDIS_WINDOW);
	STREAM_KEEP(amount);
	if (amount > REDIS_WINDOW)
		return false; /* unreachable; bounds the size for the verifier */
	if (stream_read_user(call->window.bytes, amount, call->io.base)) {
		redis_desync(conn, call->io.direction, REQUEST_LOST_UNREADABLE);
		return false;
	}
	stream_used(&call->io, amount);
	call->window.position = 0;
	call->window.length = amount;
	return true;
}

static __always_inline bool redis_between(const struct redis_parser *parser)
{
	return parser->state == REDIS_START && !parser->open && !parser->streams;
}

/* One step through the bytes of a call, to the end of a message at most. Says whether to go on. */
STREAM_FUNCTION int redis_step_call(struct redis_conn *conn, struct redis_call *call)
{
	struct redis_direction *direction;
	struct redis_parser *parser;
	struct redis_window *window;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[call->io.direction & 1];
	parser = &direction->parser;
	window = &call->window;
	if (!direction->message_ns && window->position < window->length)
		direction->message_ns = call->io.begin_ns;
	switch (redis_step(parser, window)) {
	case REDIS_NEED_DATA:
		if (!call->io.total || !redis_refill(conn, call))
			return 0;
		return !(conn->base.flags & CONN_RESYNC) || !window->length || redis_resync(conn, call, direction);
	case REDIS_SKIP:
		stream_step_over(&call->io, redis_skip(parser, call->io.total));
		return !parser->skip || call->io.total;
	case REDIS_MESSAGE:
		return parser->is_answer ? redis_answered(conn, call) : redis_requested(conn, call);
	case REDIS_MALFORMED:
		redis_desync(conn, call->io.direction, REQUEST_LOST_MALFORMED);
		return 0;
	}
	return 1;
}

/* Many steps. Says whether to go on. */
STREAM_FUNCTION int redis_round(struct redis_conn *conn, struct redis_call *call)
{
	if (!conn || !call)
		return 0;
	for (u32 i = 0; i < REDIS_ROUNDS; i++)
		if (!redis_step_call(conn, call))
			return 0;
	return 1;
}

STREAM_FUNCTION int redis_begin_call(struct redis_conn *conn, struct redis_call *call)
{
	struct redis_direction *direction;

	if (!conn || !call || (conn->base.flags & (CONN_LEFT | CONN_ENDED)))
		return 0;
	direction = &conn->directions[call->io.direction & 1];
	if (!conn->begun) {
		conn->begun = 1;
		conn->database = conn->base.flags & CONN_RESYNC ? REDIS_DATABASE_UNKNOWN : REDIS_DATABASE_FIRST;
	}
	if (direction->epoch != conn->base.epoch)
		redis_start_anew(conn, direction, call->io.direction);
	direction->parser.is_answer = call->io.direction;
	call->window.position = 0;
	call->window.length = 0;
	return 1;
}

STREAM_FUNCTION int redis_end_call(struct redis_conn *conn, struct redis_call *call, bool all)
{
	struct redis_direction *direction;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[call->io.direction & 1];
	if (redis_between(&direction->parser))
		direction->message_ns = 0;
	if (all && !(conn->base.flags & (CONN_RESYNC | CONN_LEFT)))
		redis_desync(conn, call->io.direction, REQUEST_LOST_BUDGET);
	call->io.total = 0;
	return 0;
}

/*
 * The end.
 */

#define REDIS_UNANSWERED 2048 /* ended one by one when a connection ends */

/* The first request that waits ends with end->error. Says whether there was one. */
STREAM_FUNCTION int redis_end_one(struct redis_conn *conn, struct request_end *end)
{
	struct redis_asked *asked;
	struct request request;
	u32 answers = 1;

	if (!conn || !end || *(volatile s32 *)&conn->queue.balance <= 0)
		return 0;
	if (end->error == REQUEST_ERROR_IDLE && (*(volatile u32 *)&conn->base.flags & CONN_RESYNC))
		return 0; /* redis_pass_over() counted the others as lost */
	asked = &conn->queue.asked;
	if (!asked->left && !redis_load(&conn->queue))
		return 0;
	if (!asked->lost && redis_is_subscription(asked->command)) {
		answers = asked->argument > 1 ? asked->argument - 1 : 1;
		answers = answers > asked->again ? answers - asked->again : 1;
		asked->again = 0;
	}
	__sync_fetch_and_sub(&conn->queue.balance, answers);
	asked->left = 0;
	if (asked->lost || !(conn->base.flags & CONN_PROVEN))
		return 1;
	redis_clear(&request, asked->command, conn->directions[STREAM_ANSWERS].number++, asked->ticks << REDIS_TICK);
	request.detail = conn->database;
	request.end_ns = end->now_ns;
	end->number = request.number;
	request_ended(&conn->base, &request, end);
	return 1;
}

/* All that wait end, by whoever has the answering side. */
STREAM_FUNCTION int redis_end_all(struct redis_conn *conn, struct request_end *end)
{
	s32 left;

	if (!conn || !end)
		return 0;
	for (u32 i = 0; i < REDIS_UNANSWERED; i++)
		if (!redis_end_one(conn, end))
			return 0;
	left = *(volatile s32 *)&conn->queue.balance;
	if (left <= 0)
		return 0;
	if (end->error == REQUEST_ERROR_IDLE) /* the connection goes on, its words do not fit any more */
		redis_desync(conn, STREAM_ANSWERS, REQUEST_LOST_PIPELINE);
	else
		request_count(STREAM_REDIS, REQUEST_LOST_PIPELINE, left);
	__sync_fetch_and_sub(&conn->queue.balance, left);
	return 0;
}

/* What waits at the server for others is not idle. */
static __always_inline bool redis_is_patient(struct redis_conn *conn)
{
	struct redis_asked *asked = &conn->queue.asked;

	return (asked->left || redis_load(&conn->queue)) && !asked->lost && redis_is_blocking(asked->command);
}

#define REDIS_ENDERS 8 /* more than can meet at the end: each direction's thread, a walk, two ends */

/* The connection has ended, and so does what waits. Who does not get the answering side leaves it to who has it, who looks
 * here again after that. */
STREAM_FUNCTION int redis_end_rest(struct redis_conn *conn)
{
	if (!conn)
		return 0;
	for (u32 i = 0; i < REDIS_ENDERS; i++) {
		if (!redis_is_waited_for(conn) || !redis_hold(conn))
			return 0;
		redis_end_all(conn, &conn->ended);
		redis_let_go(conn);
	}
	return 0;
}

STREAM_FUNCTION int redis_end(struct redis_conn *conn, struct request_end *end)
{
	if (!conn || !end)
		return 0;
	if (end->error != REQUEST_ERROR_IDLE) {
		if (!(conn->base.flags & CONN_ENDED))
			conn->ended = *end;
		__sync_fetch_and_or(&conn->base.flags, CONN_ENDED);
		return redis_end_rest(conn);
	}
	if (!redis_hold(conn))
		return 0; /* somebody is at work, so it is not idle */
	if (conn->queue.balance > 0 && !redis_is_patient(conn))
		redis_end_all(conn, end);
	redis_let_go(conn);
	if (conn->base.flags & CONN_ENDED) /* meanwhile */
		redis_end_rest(conn);
	return 0;
}

/* The first request that waits. Looks at copies and holds nothing: where the answering thread moves on meanwhile, that
 * request does not wait any more. */
static __always_inline struct request *redis_waiting(struct redis_conn *conn, u32 i)
{
	struct redis_queue *queue = &conn->queue;
	u32 head = *(volatile u32 *)&queue->head, at = head;
	struct redis_asked asked = queue->asked;

	if (i || queue->balance <= 0 || (conn->base.flags & CONN_RESYNC))
		return NULL;
	if (conn->directions[STREAM_ANSWERS].epoch != conn->base.epoch)
		__builtin_memset(&asked, 0, sizeof(asked)); /* of before: redis_start_anew() */
	else if (asked.ticks != *(volatile u64 *)&queue->asked.ticks)
		return NULL;
	if ((!asked.left && !redis_load_from(queue, &asked, &at)) || asked.lost)
		return NULL;
	if (*(volatile u32 *)&queue->head != head)
		return NULL;
	redis_clear(&conn->waiting, asked.command, 0, asked.ticks << REDIS_TICK);
	return &conn->waiting;
}

/*
 * The entrances.
 */

/* Answers that came in while somebody else has the answering side: an idle end, or a request that joins anew. Which they
 * answer is not known. */
static __always_inline void redis_pass_over(struct redis_conn *conn, struct redis_call *call)
{
	call->io.total = 0;
	__sync_lock_test_and_set(&conn->base.unmatched_ns, call->io.end_ns);
	if (!(conn->base.flags & (CONN_LEFT | CONN_ENDED)))
		redis_desync(conn, STREAM_ANSWERS, REQUEST_LOST_UNMATCHED);
}

/* All bytes of one call. Says whether it is still open whether this is Redis. */
static __always_inline int redis_bytes(struct redis_conn *conn, struct redis_call *call)
{
	bool answers = call->io.direction == STREAM_ANSWERS, all = true;

	if (answers && !redis_hold(conn)) {
		redis_pass_over(conn, call);
		return !(conn->base.flags & (CONN_PROVEN | CONN_RESYNC));
	}
	if (redis_begin_call(conn, call)) {
		for (u32 i = 0; i < REDIS_STEPS; i++)
			if (!redis_round(conn, call)) {
				all = false;
				break;
			}
		redis_end_call(conn, call, all);
	}
	if (answers)
		redis_let_go(conn);
	if (*(volatile u32 *)&conn->base.flags & CONN_ENDED) /* meanwhile */
		redis_end_rest(conn);
	return !(conn->base.flags & (CONN_PROVEN | CONN_RESYNC));
}

/* Does a request begin with this call? */
static __always_inline bool redis_at_request(struct redis_conn *conn, struct stream_call *call)
{
	return call->direction == STREAM_REQUESTS && redis_between(&conn->directions[STREAM_REQUESTS].parser);
}

/* Bytes that no hook showed: fine inside a string, else the place is lost. */
STREAM_FUNCTION int redis_unobserved(struct redis_conn *conn, struct redis_call *call, u64 bytes)
{
	struct redis_parser *parser;

	if (!conn || !call || (conn->base.flags & (CONN_RESYNC | CONN_LEFT)))
		return 0;
	parser = &conn->directions[call->io.direction & 1].parser;
	if (parser->state == REDIS_BULK && parser->skip >= bytes) {
		redis_skip(parser, bytes);
		return 0;
	}
	redis_desync(conn, call->io.direction, REQUEST_LOST_UNSEEN);
	return 0;
}
