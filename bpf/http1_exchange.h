/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state of one HTTP/1 connection, and the ring of exchanges in which requests meet their answers.
 * http1_messages.h fills it, http1_conn.h drives both.
 *
 * Two threads may be at work on one connection, one per direction. Each owns its direction; what both
 * touch is the ring of exchanges: request n and answer n meet in slot n, in either order, and whoever
 * comes second settles it. An answer may be seen before its request: a send is seen when it returns.
 */
#pragma once

#include "http1_parser.h"

#define HTTP_PIPELINE 16 /* requests without an answer at once; a power of two */

enum http_direction_index { HTTP_REQUESTS, HTTP_RESPONSES };

enum http_error {
	HTTP_NO_ERROR,
	HTTP_ERROR_CLOSED,     /* closed before an answer */
	HTTP_ERROR_RESET,      /* reset before a complete answer */
	HTTP_ERROR_TIMED_OUT,  /* the connection timed out */
	HTTP_ERROR_INCOMPLETE, /* closed in the middle of an answer */
	HTTP_ERROR_IDLE,       /* no byte for too long */
	HTTP_ERRORS,
};

/* Everything that can go wrong here, by number; names in exporter/probes/http/ come from BTF. */
enum http_counter {
	HTTP_LOST_MALFORMED,	/* requests whose connection could not be followed any further */
	HTTP_LOST_UNSEEN,	/* the same, because bytes passed that no hook showed */
	HTTP_LOST_NOT_SHOWN,	/* connections whose bytes no hook showed before it was known whether they are HTTP */
	HTTP_LOST_UNREADABLE,	/* the same, because memory could not be read (paged out, unmapped) */
	HTTP_LOST_DISORDER,	/* the same, because two threads' calls were seen in the wrong order */
	HTTP_LOST_BUDGET,	/* the same, because one call carried too much */
	HTTP_LOST_PIPELINE,	/* requests beyond HTTP_PIPELINE unanswered ones */
	HTTP_LOST_UNMATCHED,	/* answers and requests that did not fit together */
	HTTP_LOST_MAP_FULL,	/* finished requests without room in the table of histograms */
	HTTP_LOST_STORAGE,	/* calls without memory for the connection's or the thread's state */
	HTTP_LOST_PATH_EVENT,	/* paths that could not be sent up: full ring buffer or rate limit */
	HTTP_LOST_SPAN_EVENT,	/* sampled requests: full ring buffer */
	HTTP_LOST_SPAN_LIMIT,	/* sampled requests over the rate limit */
	HTTP_CONNECTIONS,	/* followed as HTTP/1 */
	HTTP_NOT_HTTP,		/* connections looked at and left alone */
	HTTP_UPGRADED,		/* ended by 101 */
	HTTP_CONNECTED,		/* ended by CONNECT */
	HTTP_BROKEN,		/* connections that could not be followed, until a next request was recognised */
	HTTP_JOINED,		/* connections taken up again, or first, in their middle */
	HTTP_PATH_EVENTS,	/* messages to userspace */
	HTTP_SPAN_EVENTS,
	HTTP_COUNTERS,
};

enum http_exchange_flags {
	EXCHANGE_KNOWN = 1,	   /* the request's head is complete */
	EXCHANGE_REQUEST_DONE = 2, /* nothing more to learn from the request */
	EXCHANGE_ANSWERED = 4,	   /* a status line was seen */
	EXCHANGE_RESPONSE_DONE = 8,
	EXCHANGE_CLAIMED = 16,	   /* somebody is settling it */
	EXCHANGE_DEFERRED = 32,	   /* whether the answer has a body depends on a request not seen yet */
	EXCHANGE_SETTLED_EARLY = 64, /* a deferred one, settled when its request turned up */
};

struct http_exchange {
	u32 flags;
	u32 route; /* 0: not known yet */
	u16 request_number;
	u16 response_number;
	u16 status;
	u8 method;
	u8 minor;
	u64 path_hash;
	u64 start_ns;	   /* first byte of the request */
	u64 first_byte_ns; /* of the answer */
	u64 end_ns;	   /* last byte of the answer */
	u64 request_body;
	u64 response_body;
};

struct http_direction {
	/* what every message touches: a cache line */
	struct http1_parser parser;
	u64 message_ns; /* first byte of the current message; 0 before it */
	u64 last_ns;	/* last byte seen */
	u32 sequence;	/* TCP sequence number of the next byte */
	u16 number;	/* of the current message */
	u16 epoch;	/* see http_conn.epoch */
	/* and most of them another */
	u16 carried;	/* bytes of an incomplete line, in `carry` */
	u16 sequenced;	/* `sequence` is valid */
	u32 route;	/* of the current request; 0: not known yet */
	u16 kept;	/* bytes of the last message's head, in `carry`; 0: see http1_again.h */
	u16 kept_path_start, kept_path_length;
	u16 not_again;	/* heads in a row that were not that of the message before */
	u32 message;	/* how many messages of a call with several (sendmmsg, recvmmsg) have been seen */
	u32 pad;
	u64 messages;	/* their array */
	u64 pad2[4];
	u8 carry[HTTP1_LINE_SEEN];
};

enum http_conn_flags {
	HTTP_JOINING = 1, /* nothing is understood; the next request line is waited for */
	HTTP_TUNNEL = 2,  /* no longer HTTP/1 */
	HTTP_PROVEN = 4,  /* a complete start line was seen: really HTTP */
	HTTP_FINISHED = 8, /* closed */
};

#define HTTP_TRACEPARENT 55 /* bytes of a version 00 field */

/* What a hook has seen of a call that sends, where it began. */
struct http_send {
	u64 begin_ns; /* 0: none is under way */
	u64 base;     /* user address of its first piece; 0: only the kernel sees what is sent */
	u64 left;     /* the length of that */
	u64 iov;      /* the kernel's array of the others */
	u32 iov_left;
	u32 position; /* TCP sequence number of its first byte */
};

/* Storage of a socket begins 8 bytes behind the start of a cache line: so each direction's and each exchange's lines do. */
struct http_conn {
	/* what every call touches */
	u32 flags;
	u32 edge_id;
	u8 role; /* enum edge_role */
	u8 edge_settled;  /* `edge_id` will not change any more */
	u16 epoch;	 /* counts joins; a direction of another epoch starts anew */
	u32 known_route;
	u64 known_hash;	  /* the path that `known_route` is the route of */
	u64 ignored_ns;	  /* when an answer's bytes were last passed over */
	u16 join_number; /* what both directions count from after a join */
	u16 remote_port;
	u16 local_port;
	u8 family;
	u8 walk;	 /* the last one that came by, where a socket may be met twice */
	u8 has_trace;	 /* `traceparent` holds something, for request trace_number */
	u8 pad[7];
	u64 pad2;
	/* and every call that sends */
	struct http_send send;
	u64 seed;	  /* with a request's own number: its trace and span ids */
	u64 link_seed;	  /* the same as the seed, of the request that the asking thread serves; 0: none that is certain */
	u64 link_request;

	struct http_direction directions[2];
	struct http_exchange exchanges[HTTP_PIPELINE];

	u8 remote[16];
	u8 local[16];
	u16 trace_number; /* the request that `traceparent` belongs to */
	u16 state_number; /* the same for its tracestate, which is in a map */
	u16 state_length;
	u16 link_number; /* the same for `link_*` */
	u8 traceparent[HTTP_TRACEPARENT + 1];
	u8 link_traceparent[HTTP_TRACEPARENT + 1]; /* of the request being served; empty: it had none */
};
_Static_assert(__builtin_offsetof(struct http_conn, directions) % 64 == 56, "directions begin with a cache line");
_Static_assert(sizeof(struct http_direction) % 64 == 0, "both do");

/* How an exchange ended. */
struct http_end {
	u64 now_ns;
	u32 error; /* enum http_error */
	u32 exchange;
};

/* What one call of one thread hands in, and its working space. */
struct http_call {
	u64 iov;      /* address of the next struct iovec */
	u32 iov_left; /* how many more there are */
	u16 iov_in_kernel; /* that address is one of the kernel's */
	u16 direction;
	u64 base; /* user address of the rest of the current piece */
	u64 left; /* its length */
	u64 skip; /* bytes to step over before anything is read; already taken from `total` */
	u64 total; /* bytes of this call not yet dealt with */
	u64 begin_ns; /* when the call began; `end.now_ns` is when it returned */
	u64 messages; /* where a call with several has them; 0: it has one, or the connection was known before */
	u64 blocks; /* the call reads, and waits for what it reads: a thread that does has one thing to do */
	struct http_end end;
	struct http1_window window;
};

/*
 * The includer.
 */
static __always_inline long http_read_user(void *target, u32 size, u64 address);
static __always_inline long http_copy(void *target, u32 size, const void *source);
static __always_inline void http_count(enum http_counter counter, u64 amount);
/* Method and path of the current request are in `call->window`. */
static __always_inline void http_on_target(struct http_conn *conn, struct http_call *call,
					   struct http_direction *direction);
static __always_inline void http_on_trace_field(struct http_conn *conn, struct http_call *call,
						struct http_direction *direction, int event);
/* Is http_on_trace_field of any use? */
static __always_inline bool http_wants_trace_fields(void);
/* A request's head is complete: its exchange is number `call->end.exchange`. */
static __always_inline void http_on_request(struct http_conn *conn, struct http_call *call);
/* `exchange` is finished, with end->error. */
static __always_inline void http_finish(struct http_conn *conn, struct http_end *end,
					struct http_exchange *exchange);

#ifdef __bpf__
#define HTTP_FUNCTION __attribute__((noinline)) int
#else
#define HTTP_FUNCTION static inline int
#endif

static __always_inline struct http_exchange *http_exchange_of(struct http_conn *conn, u32 number)
{
	return &conn->exchanges[number & (HTTP_PIPELINE - 1)];
}

/* Makes an exchange free for another request. Whoever does has claimed it, and is done with it. */
static __always_inline void http_release(struct http_exchange *exchange)
{
#ifdef __TARGET_ARCH_x86 /* no store passes an earlier one or a load: none of the waiting that an atomic one does */
	asm volatile("" ::: "memory");
	*(volatile u32 *)&exchange->flags = 0;
#else
	__sync_lock_test_and_set(&exchange->flags, 0);
#endif
}

/* Hands over an exchange that the caller has claimed. */
HTTP_FUNCTION http_conclude(struct http_conn *conn, struct http_end *end)
{
	struct http_exchange *exchange;

	if (!conn || !end)
		return 0;
	exchange = http_exchange_of(conn, end->exchange);
	if ((exchange->flags & EXCHANGE_ANSWERED) && exchange->request_number != exchange->response_number)
		http_count(HTTP_LOST_UNMATCHED, 1);
	else
		http_finish(conn, end, exchange);
	http_release(exchange);
	return 0;
}

/* Hands a finished exchange over, once, however many come to do it. One that was ended before (an idle one)
 * is no longer known: what still arrives for it is dropped. */
HTTP_FUNCTION http_settle(struct http_conn *conn, struct http_end *end)
{
	struct http_exchange *exchange;
	u32 before;

	if (!conn || !end)
		return 0;
	exchange = http_exchange_of(conn, end->exchange);
	before = __sync_fetch_and_or(&exchange->flags, EXCHANGE_CLAIMED);
	if (before & EXCHANGE_CLAIMED)
		return 0;
	if (before & EXCHANGE_KNOWN)
		return http_conclude(conn, end);
	http_release(exchange);
	return 0;
}

/* Every exchange that is not finished ends with end->error; but for idleness, so does the connection. */
HTTP_FUNCTION http_end_all(struct http_conn *conn, struct http_end *end)
{
	struct http_direction *answers;
	u32 error;

	if (!conn || !end)
		return 0;
	answers = &conn->directions[HTTP_RESPONSES];
	error = end->error;
	if (error != HTTP_ERROR_IDLE)
		__sync_fetch_and_or(&conn->flags, HTTP_FINISHED);
	for (u32 i = 0; i < HTTP_PIPELINE; i++) {
		struct http_exchange *exchange = http_exchange_of(conn, answers->number + i);
		u32 flags = exchange->flags;

		if (!(flags & EXCHANGE_KNOWN) || (flags & EXCHANGE_CLAIMED))
			continue;
		end->error = error;
		if (!(flags & EXCHANGE_ANSWERED)) {
			exchange->end_ns = end->now_ns;
			exchange->first_byte_ns = 0;
			exchange->status = 0;
			exchange->response_body = 0;
		} else if (!(flags & EXCHANGE_RESPONSE_DONE)) {
			if (answers->parser.state == HTTP1_BODY_TO_CLOSE && error == HTTP_ERROR_CLOSED) {
				end->error = HTTP_NO_ERROR;
				exchange->end_ns = answers->last_ns;
				exchange->response_body = answers->parser.body;
			} else {
				u64 rest = answers->parser.remaining;
				if (answers->parser.state == HTTP1_CHUNK) /* its line end is no body */
					rest = rest > 2 ? rest - 2 : 0;
				if (error == HTTP_ERROR_CLOSED)
					end->error = HTTP_ERROR_INCOMPLETE;
				exchange->end_ns = end->now_ns;
				exchange->response_body =
					answers->parser.body > rest ? answers->parser.body - rest : 0;
			}
		} else {
			end->error = HTTP_NO_ERROR; /* answered while the request was still being sent */
		}
		end->exchange = answers->number + i;
		http_settle(conn, end);
	}
	end->error = error;
	return 0;
}

/* Gives up following the connection until a next request line; what was under way is lost, and counted. */
HTTP_FUNCTION http_lose(struct http_conn *conn, struct http_direction *direction, u32 reason)
{
	u64 lost = 0;

	if (!conn || !direction)
		return 0;
	direction->parser.state = HTTP1_START;
	direction->carried = 0;
	direction->message_ns = 0;
	if (__sync_fetch_and_or(&conn->flags, HTTP_JOINING) & HTTP_JOINING)
		return 0;
	for (u32 i = 0; i < HTTP_PIPELINE; i++) {
		struct http_exchange *exchange = http_exchange_of(conn, i);
		u32 flags = exchange->flags;

		if (!(flags & EXCHANGE_KNOWN))
			continue;
		flags = __sync_fetch_and_or(&exchange->flags, EXCHANGE_CLAIMED);
		if (!(flags & EXCHANGE_CLAIMED)) {
			lost += (flags & EXCHANGE_KNOWN);
			__sync_lock_test_and_set(&exchange->flags, 0);
		}
	}
	if (!(conn->flags & HTTP_PROVEN))
		return 0; /* never was HTTP */
	http_count(HTTP_BROKEN, 1);
	if (reason < HTTP_COUNTERS)
		http_count(reason, lost ? lost : 1);
	return 0;
}

static __always_inline void http_prove(struct http_conn *conn)
{
	if (!(conn->flags & HTTP_PROVEN))
		__sync_fetch_and_or(&conn->flags, HTTP_PROVEN);
}

/* Both directions start to count at the request that was just recognised. */
static __always_inline void http_join(struct http_conn *conn, struct http_direction *requests)
{
	for (u32 i = 0; i < HTTP_PIPELINE; i++)
		conn->exchanges[i].flags = 0;
	conn->join_number = requests->number;
	conn->epoch++;
	requests->epoch = conn->epoch;
	http_count(HTTP_JOINED, 1);
	__sync_fetch_and_and(&conn->flags, ~HTTP_JOINING);
}
