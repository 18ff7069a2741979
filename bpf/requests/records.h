/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What is kept of requests in maps and sent up, for every protocol alike. Userspace reads these structures through
 * decoders generated from BTF: change them only here.
 */
#pragma once

#include "core/stream_state.h"
#include "requests/request.h"

#define REQUEST_BOUNDS 24 /* of the duration histograms at most; set by userspace */
#define REQUEST_BUCKETS (REQUEST_BOUNDS + 1)
#define REQUEST_SIZE_BOUNDS 13 /* 64 B, times four each, to 1 GiB */
#define REQUEST_SIZE_BUCKETS (REQUEST_SIZE_BOUNDS + 1)

/* Names with fixed numbers. */
enum request_fixed_name {
	NAME_UNKNOWN = 0, /* `name_hash` says which; 0 there too: a name that was never sent up */
	NAME_OVERFLOW = 1, /* beyond the limit of names */
	NAME_FIRST = 2,
};

struct request_key {
	u64 name_hash; /* only while the name's number is not known */
	u32 edge_id;
	u32 name;
	u16 status; /* 0: no answer */
	u8 operation;
	u8 detail;
	u8 protocol; /* enum stream_protocol */
	u8 error;    /* enum request_error */
	u8 shard;    /* processors share elements by this; add them up */
	u8 pad;
};

/* One bucket of both histograms of time, and of both of size: a request mostly touches the same of each. */
struct request_times {
	u64 duration;
	u64 first_byte; /* servers only */
};
struct request_sizes {
	u64 request;
	u64 response;
};

/* Sums and first buckets lie together: what most requests touch is in few cache lines. */
struct request_totals {
	u64 duration_ns;
	u64 first_byte_ns; /* servers only */
	u64 request_bytes;
	u64 response_bytes;
	struct request_times times[REQUEST_BUCKETS];
	struct request_sizes sizes[REQUEST_SIZE_BUCKETS];
};

/* Names are learnt by server, so one text may have different ones: the edge stands for the server. */
struct request_name_key {
	u64 name_hash;
	u32 edge_id;
	u32 protocol;
};

struct request_limiter {
	u64 second_ns; /* when the current second began */
	u64 count;
};

enum request_event_kind { REQUEST_EVENT_NAME = 1, REQUEST_EVENT_SPAN = 2 };

enum request_sampling_reason {
	SAMPLED_NOT,
	SAMPLED_ERROR,
	SAMPLED_SLOW,
	SAMPLED_PARENT, /* by the sampled flag of its traceparent, or of the request being served */
	SAMPLED_SHARE,
};

/* Brings enumerations into BTF, where userspace finds their names. */
struct request_enums {
	enum request_counter counter;
	enum request_error error;
	enum request_sampling_reason reason;
	enum request_event_kind event;
	enum request_fixed_name name;
	enum stream_protocol protocol;
};

/* Written by userspace. */
struct request_control {
	u64 started_ns; /* when everything was attached: connections older than that are joined midway; 0: not yet */
	u32 sampling;	/* spans are wanted */
	u32 protocols;	/* a bit for each protocol whose programs are there */
};

/* One for each protocol, and one, STREAM_UNKNOWN, for what is of none. */
struct request_state {
	struct request_enums enums; /* never written */
	u64 counters[REQUEST_COUNTERS];
	struct request_limiter names;
	struct request_limiter spans;
	u64 messages; /* calls with several messages were seen: sendmmsg, recvmmsg */
};

struct request_active_key {
	u32 edge_id;
	u8 operation;
	u8 protocol;
	u8 pad[2];
};

/* A name seen for the first time on an edge. */
struct request_name_event {
	u32 kind;
	u32 size;
	u64 name_hash;
	u32 edge_id;
	u16 length;
	u8 cut; /* longer than REQUEST_NAME: what is there of its end says nothing */
	u8 protocol;
	u8 name[REQUEST_NAME];
};

#define REQUEST_TRACESTATE_SIZE 256
/* A sampled request. Times are CLOCK_MONOTONIC. */
struct request_span_event {
	u32 kind;
	u32 size;
	u64 name_hash;
	u64 start_ns;
	u64 first_byte_ns;
	u64 end_ns;
	u64 request_bytes;
	u64 response_bytes;
	u64 id; /* of the connection: with `request`, own trace id and span id */
	u64 request;
	u64 link_id; /* the same of the request being served; 0: none */
	u64 link_request;
	u32 edge_id;
	u32 name;
	u16 status;
	u16 remote_port;
	u16 local_port;
	u16 tracestate_length;
	u8 operation;
	u8 detail;
	u8 error;
	u8 role;
	u8 reason;
	u8 family;
	u8 has_traceparent;
	u8 protocol;
	u8 remote[16];
	u8 local[16];
	u8 traceparent[TRACEPARENT + 1];
	u8 link_traceparent[TRACEPARENT + 1]; /* of the request being served; empty: it had none */
	u8 tracestate[REQUEST_TRACESTATE_SIZE];
};
