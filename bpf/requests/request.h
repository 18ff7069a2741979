/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A request and its answer, and what is known of the connection that carries them, in the same form for every protocol:
 * parsers fill it, bpf/requests/ counts it. Compiles for BPF and for user mode.
 */
#pragma once

#include "core/stream_state.h"

/* Why there was no complete answer. */
enum request_error {
	REQUEST_NO_ERROR,
	REQUEST_ERROR_CLOSED,	  /* closed before an answer */
	REQUEST_ERROR_RESET,	  /* reset before a complete answer */
	REQUEST_ERROR_TIMED_OUT,  /* the connection timed out */
	REQUEST_ERROR_INCOMPLETE, /* closed in the middle of an answer */
	REQUEST_ERROR_IDLE,	  /* no byte for too long */
	REQUEST_ERRORS,
};

/* Everything that can go wrong between the bytes and the counted request, and a few things that tell how it went, by
 * number and by protocol; userspace takes the names from BTF. Append only. */
enum request_counter {
	REQUEST_LOST_MALFORMED,	  /* requests whose connection could not be followed any further */
	REQUEST_LOST_UNSEEN,	  /* the same, because bytes passed unobserved by any hook */
	REQUEST_LOST_UNOBSERVED,  /* connections whose first bytes passed unobserved, so that they could not be classified */
	REQUEST_LOST_UNREADABLE,  /* requests lost because memory could not be read (paged out, unmapped) */
	REQUEST_LOST_DISORDER,	  /* the same, because two threads' calls were seen in the wrong order */
	REQUEST_LOST_BUDGET,	  /* the same, because one call carried too much */
	REQUEST_LOST_PIPELINE,	  /* requests beyond those that may be unanswered at once */
	REQUEST_LOST_UNMATCHED,	  /* answers and requests that did not fit together */
	REQUEST_LOST_MAP_FULL,	  /* finished requests without room in the table of histograms */
	REQUEST_LOST_STORAGE,	  /* calls without memory for the connection's or the thread's state */
	REQUEST_LOST_NAME_EVENT,  /* names that could not be sent up: full ring buffer or rate limit */
	REQUEST_LOST_SPAN_EVENT,  /* sampled requests: full ring buffer */
	REQUEST_LOST_SPAN_LIMIT,  /* sampled requests over the rate limit */
	REQUEST_CONNECTIONS,	  /* followed */
	REQUEST_IGNORED,	  /* connections that were classified as of no known protocol */
	REQUEST_UPGRADED,	  /* connections that speak another protocol from here on */
	REQUEST_CONNECTED,	  /* the same, by CONNECT */
	REQUEST_DESYNCED,	  /* desynchronised: not followed until a next request was recognised */
	REQUEST_RESYNCED,	  /* connections taken up again, or first, in their middle */
	REQUEST_NAME_EVENTS,	  /* messages to userspace: a name seen for the first time */
	REQUEST_SPAN_EVENTS,	  /* the same: a sampled request */
	REQUEST_COUNTERS,
};

/* One request. A cache line. */
struct request {
	u32 flags; /* the protocol's own */
	u32 name;  /* number of its learnt name (an HTTP route, a method, a statement); 0: not known yet */
	u16 number;	   /* of the request on its connection */
	u16 answer_number; /* of the answer; the same where they fit together */
	u16 status;	   /* 0: no answer */
	u8 operation;	   /* by the protocol's enumeration: a method, a command */
	u8 detail;	   /* what else tells requests apart: a version, a database */
	u64 name_hash;	   /* of the bytes that the name is learnt from */
	u64 start_ns;	   /* first byte of the request */
	u64 first_byte_ns; /* of the answer; 0: there was none */
	u64 end_ns;	   /* last byte of the answer */
	u64 request_bytes;
	u64 response_bytes;
};

/* How requests end. */
struct request_end {
	u64 now_ns;
	u32 error; /* enum request_error */
	u32 number; /* of the request, where it is about one */
};

enum request_conn_flags {
	CONN_RESYNC = 1, /* nothing is understood; the next beginning of a request is waited for */
	CONN_LEFT = 2,	 /* it speaks another protocol now */
	CONN_PROVEN = 4, /* something was complete and valid: it really is this protocol */
	CONN_ENDED = 8,	 /* closed */
	CONN_UNSURE = 16, /* taken up while answers may have been outstanding: whose answer is whose is not certain yet */
	CONN_SENDING = 32, /* closed while a call that sends is under way: it ends when that is delivered */
	CONN_RECEIVING = 64, /* the same of one that receives */
};

#define TRACEPARENT 55 /* bytes of a version 00 field */
#define REQUEST_NAME 192 /* what is looked at of a name */

/* What is known of a connection, whatever it speaks. The first member of every protocol's state. */
struct request_conn {
	/* what every call touches: the rest of a cache line, 8 bytes behind whose start the storage of a socket begins */
	u32 flags; /* enum request_conn_flags, by atomic operations: two threads may be at work, one per direction */
	u32 edge_id;
	u8 role;	 /* enum edge_role */
	u8 edge_settled; /* `edge_id` will not change any more */
	u8 protocol;	 /* enum stream_protocol */
	u8 family;
	u32 known_name;
	u64 known_hash;	  /* what `known_name` is the name of */
	u64 last_ns[2];	  /* by direction: when bytes moved last */
	u64 unmatched_ns; /* when an answer's bytes were last passed over; 0: never */
	u16 epoch;	  /* counts resyncs: a direction of another epoch starts anew */
	u16 epoch_number; /* the number of the request that it began with */
	u8 has_trace;	  /* `traceparent` holds something, for request trace_number */
	u8 pad[3];

	u64 id; /* with a request's own number: its trace and span ids */
	u64 link_id; /* the same of the request that the asking thread serves; 0: none that is certain */
	u64 link_request;
	u16 remote_port;
	u16 local_port;
	u16 link_number;  /* the request that `link_*` belongs to */
	u16 trace_number; /* the same for `traceparent` */
	u16 state_number; /* the same for its tracestate, which is in a map */
	u16 state_length;
	u16 far_number;	  /* of the last answer that was counted as lost at the other end, see stream_count_far() */
	u8 pad2[2];
	u64 began_ns; /* of the connection that this is of, as its socket says; 0: what follows from that is not filled in */
	u8 remote[16];
	u8 local[16];
	u8 traceparent[TRACEPARENT + 1];
	u8 link_traceparent[TRACEPARENT + 1]; /* of the request being served; empty: it had none */
};
