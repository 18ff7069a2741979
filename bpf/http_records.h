/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the HTTP probe keeps in maps and sends up. Userspace reads these structures through decoders generated from
 * BTF: change them only here.
 */
#pragma once

#include "http1_whole.h"

#define HTTP_BOUNDS 24 /* of the duration histograms at most; set by userspace */
#define HTTP_BUCKETS (HTTP_BOUNDS + 1)
#define HTTP_SIZE_BOUNDS 13 /* 64 B, times four each, to 1 GiB */
#define HTTP_SIZE_BUCKETS (HTTP_SIZE_BOUNDS + 1)

/* Routes with fixed numbers. */
enum http_fixed_route {
	ROUTE_UNKNOWN = 0, /* `path_hash` says which; 0 there too: a path that was never sent up */
	ROUTE_REST = 1,	   /* beyond the limit of routes */
	ROUTE_FIRST = 2,
};

struct http_key {
	u64 path_hash; /* only while the route is not known */
	u32 edge_id;
	u32 route;
	u16 status; /* 0: no answer */
	u8 method;  /* enum http1_method */
	u8 minor;   /* of the version, as a digit */
	u8 error;   /* enum http_error */
	u8 shard;   /* processors share elements by this; add them up */
	u8 pad[2];
};

/* One bucket of both histograms of time, and of both of size: a request mostly touches the same of each. */
struct http_times {
	u64 duration;
	u64 first_byte; /* servers only */
};
struct http_sizes {
	u64 request;
	u64 response;
};

/* Sums and first buckets lie together: what most requests touch is in few cache lines. */
struct http_totals {
	u64 duration_ns;
	u64 first_byte_ns; /* servers only */
	u64 request_bytes;
	u64 response_bytes;
	struct http_times times[HTTP_BUCKETS];
	struct http_sizes sizes[HTTP_SIZE_BUCKETS];
};

/* Routes are learnt by server, so one path may have different ones: the edge stands for the server. */
struct http_route_key {
	u64 path_hash;
	u32 edge_id;
	u32 pad;
};

struct http_limiter {
	u64 second_ns; /* when the current second began */
	u64 count;
};

enum http_event_kind { HTTP_EVENT_PATH = 1, HTTP_EVENT_SPAN = 2 };

enum http_sampling_reason {
	SAMPLED_NOT,
	SAMPLED_ERROR,
	SAMPLED_SLOW,
	SAMPLED_PARENT, /* by the sampled flag of its traceparent, or of the request being served */
	SAMPLED_SHARE,
};

/* Brings enumerations into BTF, where userspace finds their names. */
struct http_names {
	enum http_counter counter;
	enum http_error error;
	enum http1_method method;
	enum http_sampling_reason reason;
	enum http_event_kind event;
	u32 pad;
};

/* Written by userspace. */
struct http_control {
	u64 started_ns; /* when everything was attached: sockets older than that are joined; 0: not yet */
	u32 sampling;	/* somebody wants spans */
	u32 pad;
};

struct http_shared {
	struct http_names names; /* never written */
	struct http_limiter paths;
	struct http_limiter spans;
	u64 counters[HTTP_COUNTERS];
	u32 walks; /* of http_walk_files */
	u32 messages; /* calls with several messages were seen: sendmmsg, recvmmsg */
};

struct http_active_key {
	u32 edge_id;
	u32 method;
};

/* A path seen for the first time on an edge. */
struct http_path_event {
	u32 kind;
	u32 size;
	u64 path_hash;
	u32 edge_id;
	u16 length;
	u8 cut; /* longer than HTTP1_PATH: the last segment says nothing */
	u8 pad;
	u8 path[HTTP1_PATH];
};

#define HTTP_TRACESTATE 256
/* A sampled request. Times are CLOCK_MONOTONIC. */
struct http_span_event {
	u32 kind;
	u32 size;
	u64 path_hash;
	u64 start_ns;
	u64 first_byte_ns;
	u64 end_ns;
	u64 request_body;
	u64 response_body;
	u64 seed; /* with `request`: own trace id and span id */
	u64 request;
	u64 link_seed; /* the same of the request being served; 0: none */
	u64 link_request;
	u32 edge_id;
	u32 route;
	u16 status;
	u16 remote_port;
	u16 local_port;
	u16 tracestate_length;
	u8 method;
	u8 minor;
	u8 error;
	u8 role;
	u8 reason;
	u8 family;
	u8 has_traceparent;
	u8 pad;
	u8 remote[16];
	u8 local[16];
	u8 traceparent[HTTP_TRACEPARENT + 1];
	u8 link_traceparent[HTTP_TRACEPARENT + 1]; /* of the request being served; empty: it had none */
	u8 tracestate[HTTP_TRACESTATE];
};
