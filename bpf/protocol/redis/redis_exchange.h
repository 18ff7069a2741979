/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What requests and answers mean to a Redis connection (redis_state.h): which of the two belong together (redis_queue.h),
 * what is never answered, what the server says by itself. Driven by redis_conn.h.
 */
#pragma once

#include "protocol/redis/redis_state.h"

/*
 * Requests.
 */

/* Is nothing answered to it? Redis itself decides it so: an answer is or is not written. */
static __always_inline bool redis_is_silent(struct redis_conn *conn, const struct redis_parser *parser)
{
	bool silent = conn->silent || conn->silent_next;

	if (parser->command == REDIS_COMMAND_MULTI)
		conn->transaction = 1;
	else if (parser->command == REDIS_COMMAND_EXEC || parser->command == REDIS_COMMAND_DISCARD)
		conn->transaction = 0;
	if (parser->command == REDIS_COMMAND_RESET) {
		conn->silent = conn->silent_next = conn->transaction = 0;
		return false;
	}
	if (redis_is_subscription(parser->command)) {
		conn->silent_next = 0;
		return false; /* confirmations come all the same */
	}
	conn->silent_next = 0;
	if (conn->transaction || parser->detail < REDIS_REPLY_ON || parser->detail > REDIS_REPLY_SKIP)
		return silent;
	if (parser->detail == REDIS_REPLY_SKIP) {
		conn->silent_next = !conn->silent;
		return true;
	}
	conn->silent = parser->detail == REDIS_REPLY_OFF;
	return conn->silent;
}

/* A replica asks for the stream of changes: from here on the server sends requests. */
static __always_inline bool redis_is_replication(u32 command)
{
	return command == REDIS_COMMAND_SYNC || command == REDIS_COMMAND_PSYNC;
}

#define REDIS_TOLD_LATE_NS 20000000 /* how late a call may be seen whose beginning was not */
#define REDIS_FIRST_ANSWERS 64

/* Answers came before the request was seen, or were of none. Takes `answers` of them; 0: that is done. */
STREAM_FUNCTION int redis_was_answered(struct redis_conn *conn, struct redis_call *call, u32 answers)
{
	u64 margin, record, ticks;

	if (!conn || !call)
		return 0;
	margin = call->io.begin_ns == call->io.end_ns ? REDIS_TOLD_LATE_NS : 0;
	for (u32 i = 0; i < REDIS_FIRST_ANSWERS; i++) {
		record = redis_early_take(&conn->queue);
		ticks = redis_early_ticks(record, call->io.end_ns >> REDIS_TICK);
		if (((ticks + 1) << REDIS_TICK) + margin < call->request.start_ns) {
			/* it was there before the request began */
			if (conn->base.flags & CONN_PROVEN)
				request_count(STREAM_REDIS, REQUEST_LOST_UNMATCHED, 1);
			if (!redis_publish(&conn->queue, 1))
				return 1; /* so the request waits */
			continue;
		}
		if (--answers)
			continue;
		call->request.status = record >> REDIS_EARLY_STATUS & 63;
		call->end.now_ns = ticks << REDIS_TICK;
		return 0;
	}
	return 2;
}

static __always_inline int redis_ask(struct redis_conn *conn, struct redis_call *call, const struct redis_parser *parser)
{
	u32 answers = 1, argument = 0, early;
	bool pushed;
	int waits = 1;

	if (redis_is_subscription(parser->command)) {
		argument = (parser->count & (REDIS_LOAD_MASK >> 4)) + 1;
		answers = argument > 1 ? argument - 1 : 1;
	} else if (parser->detail == REDIS_DATABASE) {
		argument = (parser->number < REDIS_DATABASE_OTHER ? parser->number : REDIS_DATABASE_OTHER) + 1;
	}
	pushed = redis_push(&conn->queue, parser->command, call->request.start_ns >> REDIS_TICK, answers, argument);
	if (!pushed)
		request_count(STREAM_REDIS, REQUEST_LOST_PIPELINE, 1);
	early = redis_publish(&conn->queue, answers);
	if (!early)
		return 1;
	if (pushed && early >= answers)
		waits = redis_was_answered(conn, call, answers);
	else
		waits = 2;
	if (waits == 0) {
		redis_prove(conn);
		redis_take_back(&conn->queue);
		redis_over(conn, call, argument);
	} else if (waits == 2) {
		redis_desync(conn, STREAM_REQUESTS, REQUEST_LOST_UNMATCHED);
		return 0;
	}
	return 1;
}

/* A request is complete. Says whether to go on. */
STREAM_FUNCTION int redis_requested(struct redis_conn *conn, struct redis_call *call)
{
	struct redis_direction *direction;
	struct redis_parser *parser;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[STREAM_REQUESTS];
	parser = &direction->parser;
	if (!parser->type && parser->command == REDIS_COMMAND_OTHER && !(conn->base.flags & CONN_PROVEN)) {
		redis_desync(conn, STREAM_REQUESTS, REQUEST_LOST_MALFORMED); /* a line of some other protocol */
		return 0;
	}
	if (parser->type)
		redis_prove(conn); /* a line of words must be confirmed by an answer, a list of strings need not */
	redis_clear(&call->request, parser->command, direction->number++, direction->message_ns);
	direction->message_ns = 0;
	request_begun(&conn->base, &call->io, &call->request);
	if (redis_is_replication(parser->command)) {
		if (!(__sync_fetch_and_or(&conn->base.flags, CONN_LEFT) & CONN_LEFT))
			request_count(STREAM_REDIS, REQUEST_UPGRADED, 1);
	} else if (!redis_is_silent(conn, parser)) {
		return redis_ask(conn, call, parser);
	}
	call->end.now_ns = call->io.end_ns;
	redis_over(conn, call, 0);
	return !(conn->base.flags & CONN_LEFT);
}

/*
 * Answers.
 */

static __always_inline bool redis_is_waited_for(struct redis_conn *conn)
{
	return __sync_fetch_and_add(&conn->queue.balance, 0) > 0;
}

/* Counts a confirmation's kind of subscriptions; how many of that kind there are now. */
static __always_inline u32 redis_subscriptions(struct redis_conn *conn, const struct redis_parser *parser)
{
	u32 all = parser->number;

	switch (parser->command) {
	case REDIS_COMMAND_SUBSCRIBE:
	case REDIS_COMMAND_UNSUBSCRIBE:
		conn->channels = all > conn->patterns ? all - conn->patterns : 0;
		return conn->channels;
	case REDIS_COMMAND_PSUBSCRIBE:
	case REDIS_COMMAND_PUNSUBSCRIBE:
		conn->patterns = all > conn->channels ? all - conn->channels : 0;
		return conn->patterns;
	}
	conn->shards = all;
	return all;
}

/* What looks like the confirmation of a subscription or of its end: does it answer a request? */
static __always_inline bool redis_confirms(struct redis_conn *conn, const struct redis_parser *parser)
{
	bool pushed = parser->flags & REDIS_PUSHED, expected = false, waited = redis_is_waited_for(conn);
	struct redis_asked *asked = &conn->queue.asked;

	if (conn->ending != parser->command && waited) {
		if (!asked->left && !redis_load(&conn->queue))
			return true; /* whoever takes it finds the same */
		expected = !asked->lost && asked->command == parser->command;
		if (!expected && !pushed && !conn->channels && !conn->patterns && !conn->shards)
			return true; /* a list that only looks like one */
	}
	if (!redis_subscriptions(conn, parser) && conn->ending == parser->command) {
		conn->ending = 0;
		return false;
	}
	if (conn->ending == parser->command)
		return false;
	conn->ending = 0;
	/* the server ends subscriptions to shards by itself, when their slots move */
	return expected || (!waited && parser->command != REDIS_COMMAND_SUNSUBSCRIBE);
}

/* Does it answer a request? Else the server speaks by itself. */
static __always_inline bool redis_is_answer(struct redis_conn *conn, const struct redis_parser *parser)
{
	if (parser->shape == REDIS_CONFIRMED)
		return redis_confirms(conn, parser);
	if (parser->flags & REDIS_PUSHED)
		return false;
	if (parser->shape == REDIS_PUBLISHED)
		return !conn->channels && !conn->patterns && !conn->shards &&
		       (conn->database != REDIS_DATABASE_UNKNOWN || redis_is_waited_for(conn));
	return parser->shape != REDIS_MONITORED || !conn->monitors;
}

/* Keeps an answer that nobody is seen to wait for. 1: kept. 0: its request has just turned up. -1: no room. */
static __always_inline int redis_keep_early(struct redis_conn *conn, struct redis_call *call,
					    const struct redis_parser *parser)
{
	u8 kind = parser->shape == REDIS_CONFIRMED ? redis_kinds(parser->command) : 0;

	if (!redis_early_put(&conn->queue, call->end.now_ns >> REDIS_TICK, parser->status, kind))
		return -1;
	if (__sync_fetch_and_add(&conn->queue.balance, -1) <= 0)
		return 1;
	redis_early_take_back(&conn->queue);
	return 0;
}

/* An answer for the first request that waits. Says whether all is well. */
static __always_inline bool redis_settle(struct redis_conn *conn, struct redis_call *call,
					 const struct redis_parser *parser, u64 first_byte_ns)
{
	struct redis_asked *asked = &conn->queue.asked;

	if (!asked->left && !redis_load(&conn->queue))
		return false;
	if (!asked->lost && redis_is_subscription(asked->command)) {
		u32 answers = asked->argument > 1 ? asked->argument - 1 : 1;

		if (asked->again < answers && parser->shape == REDIS_CONFIRMED) {
			asked->again++;
			if (asked->again < answers)
				return true;
			if (asked->argument == 1 &&
			    (asked->command == REDIS_COMMAND_UNSUBSCRIBE     ? conn->channels :
			     asked->command == REDIS_COMMAND_PUNSUBSCRIBE    ? conn->patterns :
			     asked->command == REDIS_COMMAND_SUNSUBSCRIBE    ? conn->shards : 0))
				conn->ending = asked->command;
		} else {
			if (parser->shape != REDIS_ERROR && parser->status != REDIS_STATUS_QUEUED)
				return false;
			__sync_fetch_and_add(&conn->queue.balance, -(answers - 1 - asked->again));
		}
		asked->again = 0;
	}
	asked->left = 0;
	if (asked->lost) {
		conn->directions[STREAM_ANSWERS].number++;
		return true;
	}
	redis_clear(&call->request, asked->command, conn->directions[STREAM_ANSWERS].number++, asked->ticks << REDIS_TICK);
	call->request.first_byte_ns = first_byte_ns;
	call->request.status = parser->status;
	redis_over(conn, call, asked->argument);
	return true;
}

/* An answer is complete, or something that the server says by itself. Says whether to go on. */
STREAM_FUNCTION int redis_answered(struct redis_conn *conn, struct redis_call *call)
{
	struct redis_direction *direction;
	struct redis_parser *parser;
	u64 first_byte_ns;
	int kept;

	if (!conn || !call)
		return 0;
	direction = &conn->directions[STREAM_ANSWERS];
	parser = &direction->parser;
	first_byte_ns = direction->message_ns;
	direction->message_ns = 0;
	call->end.now_ns = call->io.end_ns;
	if (!redis_is_answer(conn, parser))
		return 1;
	if (redis_is_waited_for(conn)) {
		__sync_fetch_and_add(&conn->queue.balance, -1);
	} else {
		kept = redis_keep_early(conn, call, parser);
		if (kept < 0)
			redis_desync(conn, STREAM_ANSWERS, REQUEST_LOST_UNMATCHED);
		if (kept)
			return kept > 0;
	}
	redis_prove(conn);
	if (redis_settle(conn, call, parser, first_byte_ns))
		return 1;
	redis_desync(conn, STREAM_ANSWERS, REQUEST_LOST_UNMATCHED);
	return 0;
}
