/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state of one Redis connection, the working space of a call, and how a request ends. redis_exchange.h says what
 * requests and answers do to it.
 */
#pragma once

#include "protocol/redis/redis_queue.h"
#include "requests/requests.h"
#include "stream/call.h"

#define REDIS_PIPELINE 1 /* requests that redis_waiting() shows: the first one that waits stands for the connection */

/* Databases as request.detail has them. */
#define REDIS_DATABASE_UNKNOWN 0 /* the connection was joined midway */
#define REDIS_DATABASE_FIRST 1	 /* database 0 */
#define REDIS_DATABASE_OTHER 255 /* beyond 253 */

struct redis_direction {
	struct redis_parser parser;
	u64 message_ns; /* first byte of the current message; 0 before it */
	u16 number;	/* of the current message */
	u16 epoch;	/* see request_conn.epoch */
	u32 pad;
};

struct redis_conn {
	struct request_conn base;
	struct redis_direction directions[2]; /* by enum stream_direction */
	u8 begun;  /* the first call was seen */
	/* the asking side's */
	u8 silent;	/* CLIENT REPLY OFF: nothing is answered */
	u8 silent_next; /* CLIENT REPLY SKIP: the next one is not */
	u8 transaction; /* between MULTI and EXEC: what is asked is only kept */
	/* the answering side's */
	u8 database; /* see above */
	u8 selected; /* by a SELECT that waits for EXEC; 0: none */
	u8 monitors; /* MONITOR was answered */
	u8 ending;   /* the command without channels that ends all subscriptions of its kind: more confirmations follow */
	u8 pad[8];
	/* subscriptions, as the server counts them */
	u32 channels;
	u32 patterns;
	u32 shards;
	u32 busy; /* somebody holds the answering side: redis_hold() */
	struct request_end ended; /* with CONN_ENDED: how; what waits ends so by whoever holds the answering side */
	struct request waiting; /* redis_waiting()'s */
	struct redis_queue queue;
};
_Static_assert(sizeof(struct redis_conn) <= 8192 - 128, "with what the kernel puts before it, it fits 8 KiB");

/* What one call of one thread hands in, and its working space. */
struct redis_call {
	struct stream_call io;
	struct request_end end;
	struct request request;
	struct redis_window window;
};

static __always_inline u32 redis_kinds(u32 command)
{
	switch (command) {
	case REDIS_COMMAND_SUBSCRIBE:
		return 1;
	case REDIS_COMMAND_PSUBSCRIBE:
		return 2;
	case REDIS_COMMAND_SSUBSCRIBE:
		return 3;
	case REDIS_COMMAND_UNSUBSCRIBE:
		return 4;
	case REDIS_COMMAND_PUNSUBSCRIBE:
		return 5;
	case REDIS_COMMAND_SUNSUBSCRIBE:
		return 6;
	}
	return 0;
}

/* Gives up following the connection until a next request; what was under way is lost, and counted. */
STREAM_FUNCTION int redis_desync(struct redis_conn *conn, u32 direction, u32 counter)
{
	s32 waiting;

	if (!conn)
		return 0;
	conn->directions[direction & 1].parser.state = REDIS_START;
	conn->directions[direction & 1].parser.open = 0;
	conn->directions[direction & 1].parser.streams = 0;
	conn->directions[direction & 1].message_ns = 0;
	if (__sync_fetch_and_or(&conn->base.flags, CONN_RESYNC) & CONN_RESYNC)
		return 0;
	if (!(conn->base.flags & CONN_PROVEN))
		return 0; /* never was Redis */
	waiting = conn->queue.balance;
	request_count(STREAM_REDIS, REQUEST_DESYNCED, 1);
	if (counter < REQUEST_COUNTERS)
		request_count(STREAM_REDIS, counter, waiting > 0 ? waiting : 1);
	return 0;
}

static __always_inline void redis_prove(struct redis_conn *conn)
{
	if (!(conn->base.flags & CONN_PROVEN))
		__sync_fetch_and_or(&conn->base.flags, CONN_PROVEN);
}

/*
 * Requests that are over.
 */

/* What the answer to a request says of the connection. */
static __always_inline void redis_take_effect(struct redis_conn *conn, u8 command, u8 status, u32 argument)
{
	u8 database = argument < REDIS_DATABASE_OTHER ? argument : REDIS_DATABASE_OTHER;

	switch (command) {
	case REDIS_COMMAND_SELECT:
		if (status == REDIS_STATUS_OK)
			conn->database = database;
		else if (status == REDIS_STATUS_QUEUED)
			conn->selected = database;
		break;
	case REDIS_COMMAND_EXEC:
		if (conn->selected && conn->directions[STREAM_ANSWERS].parser.shape == REDIS_PLAIN)
			/* with an error among the answers nobody knows whether it was this one's */
			conn->database = status == REDIS_STATUS_OK ? conn->selected : REDIS_DATABASE_UNKNOWN;
		conn->selected = 0;
		break;
	case REDIS_COMMAND_DISCARD:
		conn->selected = 0;
		break;
	case REDIS_COMMAND_RESET:
		if (status != REDIS_STATUS_OK)
			break;
		conn->database = REDIS_DATABASE_FIRST;
		conn->selected = 0;
		conn->monitors = 0;
		conn->channels = conn->patterns = conn->shards = 0;
		conn->ending = 0;
		break;
	case REDIS_COMMAND_MONITOR:
		if (status == REDIS_STATUS_OK)
			conn->monitors = 1;
		break;
	}
}

/* A request is over; `call->request` has its command, its start and its status, `call->end` when that was. */
static __always_inline void redis_over(struct redis_conn *conn, struct redis_call *call, u32 argument)
{
	struct request *request = &call->request;

	request->detail = conn->database;
	request->end_ns = call->end.now_ns;
	call->end.error = REQUEST_NO_ERROR;
	call->end.number = request->number;
	redis_take_effect(conn, request->operation, request->status, argument);
	request_ended(&conn->base, request, &call->end);
}

static __always_inline void redis_clear(struct request *request, u8 command, u16 number, u64 start_ns)
{
	__builtin_memset(request, 0, sizeof(*request));
	request->operation = command;
	request->number = request->answer_number = number;
	request->start_ns = start_ns;
}
