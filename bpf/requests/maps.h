/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The maps of requests. One set for all protocols: the stream object makes them, protocols' objects share them.
 */
#pragma once

#include "core/edge.h"
#include "requests/records.h"

/* Set once, before loading: bounds and mask by protocol, the rest to the same in every object. */
const volatile u64 request_bounds_ns[REQUEST_BOUNDS] = {5000000,   10000000,	25000000,   50000000,	75000000,
							100000000, 250000000, 500000000,  750000000,	1000000000,
							2500000000, 5000000000, 7500000000, 10000000000};
const volatile u32 request_bounds = 14;
const volatile u32 request_shard_mask = 0; /* processors share elements of `requests` by this mask */
const volatile u32 request_names_per_second = 1000;
const volatile u32 request_spans = 0; /* 1: sample */

/* Bring the events into BTF. */
const struct request_name_event *const volatile request_name_event_type = NULL;
const struct request_span_event *const volatile request_span_event_type = NULL;

/* What was counted. Written by every protocol's programs when a request ends, read in batches at collection. Userspace
 * removes elements of edges that are gone. When it is full, REQUEST_LOST_MAP_FULL counts. Grows as needed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct request_key);
	__type(value, struct request_totals);
} requests SEC(".maps");

/* (hash of the name, edge) → its number; NAME_UNKNOWN: sent up, not answered yet. Answers come from userspace. The least
 * recently used give way, and are asked again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct request_name_key);
	__type(value, u32);
} request_names SEC(".maps");

/* Requests in flight, filled by a walk over connections, emptied by userspace before each. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct request_active_key);
	__type(value, u64);
} request_active SEC(".maps");

/* Names seen for the first time and sampled requests, on their way up. When it is full, REQUEST_LOST_*_EVENT counts. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} request_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STREAM_PROTOCOLS);
	__type(key, u32);
	__type(value, struct request_state);
} request_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct request_control);
} request_control SEC(".maps");

/* tracestate by connection, of the last request that had one. Least recently used give way: such a span goes
 * without. */
struct request_tracestate {
	u8 bytes[REQUEST_TRACESTATE_SIZE];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct request_tracestate);
} request_tracestates SEC(".maps");

/* Requests being served by a thread that blocks for them: connection's id → the request. What the thread asks of
 * others meanwhile are their children. Least recently used give way: their children become roots. */
struct request_served {
	u64 request;
	u8 traceparent[TRACEPARENT + 1];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, struct request_served);
} request_serving SEC(".maps");

/* What a thread serves. Only where samples are taken. */
struct request_thread {
	u64 id; /* the connection of the request that it has read last and serves alone; 0: none */
	u64 request;
};
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct request_thread);
} request_threads SEC(".maps");

static __always_inline struct request_control *request_controls(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&request_control, &zero);
}

static __always_inline struct request_state *request_state_of(u32 protocol)
{
	return bpf_map_lookup_elem(&request_states, &protocol);
}

static __always_inline void request_count(u32 protocol, enum request_counter counter, u64 amount)
{
	struct request_state *state = request_state_of(protocol);

	if (state && counter < REQUEST_COUNTERS)
		ATOMIC_ADD(state->counters[counter], amount);
}

static __always_inline bool request_allow(struct request_limiter *limiter, u64 now_ns, u32 per_second)
{
	u64 second = limiter->second_ns;

	if (now_ns - second >= 1000000000ULL && now_ns > second &&
	    __sync_val_compare_and_swap(&limiter->second_ns, second, now_ns) == second)
		__sync_lock_test_and_set(&limiter->count, 0);
	return __sync_fetch_and_add(&limiter->count, 1) < per_second;
}
