/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where finished requests are counted, paths get their routes, and samples are taken. Included by http.bpf.c; gives
 * http1_conn.h what it asks of its includer.
 */
#pragma once

#include "core/edge.h"
#include "http_records.h"

#define EPIPE 32

/* Set once, before loading. */
const volatile u64 http_bounds_ns[HTTP_BOUNDS] = {5000000,   10000000,	25000000,   50000000,	75000000,
						  100000000, 250000000, 500000000,  750000000,	1000000000,
						  2500000000, 5000000000, 7500000000, 10000000000};
const volatile u32 http_bounds = 14;
const volatile u32 http_shard_mask = 0; /* processors share elements of http_requests by this mask */
const volatile u32 http_paths_per_second = 1000;

static const struct http_totals http_no_totals;

/* Bring the events into BTF. */
const struct http_path_event *const volatile http_path_event_type = NULL;
const struct http_span_event *const volatile http_span_event_type = NULL;

/* What was counted. Written by every program when a request ends, read in batches at collection. Userspace removes
 * elements of edges that are gone. When it is full, HTTP_LOST_MAP_FULL counts. Grows as needed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct http_key);
	__type(value, struct http_totals);
} http_requests SEC(".maps");

/* (path hash, edge) → route; ROUTE_UNKNOWN: sent up, not answered yet. Answers come from userspace. The least
 * recently used give way, and are asked again. Sized by probes.http.routes.max_paths. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct http_route_key);
	__type(value, u32);
} http_routes SEC(".maps");

/* Requests in flight, filled by a pass of http_walk, emptied by userspace before each. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct http_active_key);
	__type(value, u64);
} http_active SEC(".maps");

/* Paths seen for the first time and sampled requests, on their way up. When it is full, HTTP_LOST_*_EVENT counts. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} http_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct http_shared);
} http_shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct http_control);
} http_control SEC(".maps");

static __always_inline struct http_control *http_controls(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&http_control, &zero);
}

static __always_inline struct http_shared *http_shared_state(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&http_shared, &zero);
}

static __always_inline void http_count(enum http_counter counter, u64 amount)
{
	struct http_shared *shared = http_shared_state();
	if (shared && counter < HTTP_COUNTERS)
		ATOMIC_ADD(shared->counters[counter], amount);
}

static __always_inline long http_read_user(void *target, u32 size, u64 address)
{
	return bpf_probe_read_user(target, size, (const void *)address);
}

static __always_inline long http_copy(void *target, u32 size, const void *source)
{
	return bpf_probe_read_kernel(target, size, source);
}

static __always_inline bool http_allow(struct http_limiter *limiter, u64 now_ns, u32 per_second)
{
	u64 second = limiter->second_ns;

	if (now_ns - second >= 1000000000ULL && now_ns > second &&
	    __sync_val_compare_and_swap(&limiter->second_ns, second, now_ns) == second)
		__sync_lock_test_and_set(&limiter->count, 0);
	return __sync_fetch_and_add(&limiter->count, 1) < per_second;
}

/*
 * Paths.
 */

/* Sends a path up, once; says whether it was. */
static __always_inline bool http_send_path(struct http_call *call, struct http_direction *direction,
					   struct http_route_key *key)
{
	struct http_shared *shared = http_shared_state();
	struct http_path_event *event;
	u32 start = call->window.path_start, length = call->window.path_length;

	if (!shared || !http_allow(&shared->paths, call->end.now_ns, http_paths_per_second))
		return false;
	event = bpf_ringbuf_reserve(&http_events, sizeof(*event), 0);
	if (!event)
		return false;
	event->kind = HTTP_EVENT_PATH;
	event->size = sizeof(*event);
	event->path_hash = key->path_hash;
	event->edge_id = key->edge_id;
	if (length > HTTP1_PATH)
		length = HTTP1_PATH;
	event->length = length;
	event->cut = !!(direction->parser.flags & HTTP1_PATH_CUT);
	event->pad = 0;
	if (start > HTTP1_ROOT)
		start = HTTP1_ROOT;
	/* all of it: a fixed size is faster, and userspace looks at `length` bytes */
	bpf_probe_read_kernel(event->path, HTTP1_PATH, &call->window.bytes[start]);
	bpf_ringbuf_submit(event, 0);
	ATOMIC_ADD(shared->counters[HTTP_PATH_EVENTS], 1);
	return true;
}

static __always_inline void http_on_target(struct http_conn *conn, struct http_call *call,
					   struct http_direction *direction)
{
	struct http_route_key key = {.path_hash = direction->parser.path_hash, .edge_id = conn->edge_id};
	u32 *route, unknown = ROUTE_UNKNOWN;

	if (conn->known_route && conn->known_hash == key.path_hash) {
		direction->route = conn->known_route;
		return;
	}
	route = bpf_map_lookup_elem(&http_routes, &key);
	if (route) {
		direction->route = *route;
		conn->known_hash = key.path_hash;
		conn->known_route = *route;
		return;
	}
	direction->route = ROUTE_UNKNOWN;
	if (bpf_map_update_elem(&http_routes, &key, &unknown, BPF_NOEXIST))
		return; /* another processor was first */
	if (http_send_path(call, direction, &key))
		return;
	bpf_map_delete_elem(&http_routes, &key); /* to be asked again */
	http_count(HTTP_LOST_PATH_EVENT, 1);
	direction->route = ROUTE_REST;
}

#include "http_spans.h"

/*
 * Finished requests.
 */

/* Index of the bucket, of what does not fit in the first. Functions of their own, so that the verifier looks at their
 * loops once; most requests are quick and small and need none. */
__attribute__((noinline)) u32 http_duration_bucket_of(u64 ns)
{
	u32 i;

	for (i = 0; i < HTTP_BOUNDS; i++)
		if (i >= http_bounds || ns <= http_bounds_ns[i])
			break;
	return i;
}

static __always_inline u32 http_duration_bucket(u64 ns)
{
	return http_bounds && ns <= http_bounds_ns[0] ? 0 : http_duration_bucket_of(ns);
}

#define HTTP_FIRST_SIZE 64
__attribute__((noinline)) u32 http_size_bucket_of(u64 bytes)
{
	u64 bound = HTTP_FIRST_SIZE;
	u32 i;

	for (i = 0; i < HTTP_SIZE_BOUNDS; i++) {
		if (bytes <= bound)
			break;
		bound *= 4;
	}
	return i;
}

static __always_inline u32 http_size_bucket(u64 bytes)
{
	return bytes <= HTTP_FIRST_SIZE ? 0 : http_size_bucket_of(bytes);
}

static __always_inline void http_add(struct http_totals *totals, struct http_conn *conn,
				     struct http_exchange *exchange, u64 duration)
{
	u32 bucket = http_duration_bucket(duration), request, response;

	if (bucket >= HTTP_BUCKETS) /* cannot be: said for the verifier, here and below */
		return;
	ATOMIC_ADD(totals->times[bucket].duration, 1);
	ATOMIC_ADD(totals->duration_ns, duration);
	if (conn->role == ROLE_SERVER && exchange->first_byte_ns) {
		u64 first = exchange->first_byte_ns > exchange->start_ns ?
				    exchange->first_byte_ns - exchange->start_ns : 0;

		bucket = http_duration_bucket(first);
		if (bucket >= HTTP_BUCKETS)
			return;
		ATOMIC_ADD(totals->times[bucket].first_byte, 1);
		ATOMIC_ADD(totals->first_byte_ns, first);
	}
	request = http_size_bucket(exchange->request_body);
	if (request < HTTP_SIZE_BUCKETS)
		ATOMIC_ADD(totals->sizes[request].request, 1);
	if (exchange->request_body)
		ATOMIC_ADD(totals->request_bytes, exchange->request_body);
	response = http_size_bucket(exchange->response_body);
	if (response < HTTP_SIZE_BUCKETS)
		ATOMIC_ADD(totals->sizes[response].response, 1);
	if (exchange->response_body)
		ATOMIC_ADD(totals->response_bytes, exchange->response_body);
}

static __always_inline void http_find_route(struct http_conn *conn, struct http_exchange *exchange)
{
	struct http_route_key key = {.path_hash = exchange->path_hash, .edge_id = conn->edge_id};
	u32 *route = bpf_map_lookup_elem(&http_routes, &key);

	if (route)
		exchange->route = *route;
}

static __always_inline void http_finish(struct http_conn *conn, struct http_end *end, struct http_exchange *exchange)
{
	struct http_key key = {};
	struct http_totals *totals;
	u64 duration = exchange->end_ns > exchange->start_ns ? exchange->end_ns - exchange->start_ns : 0;

	if (!exchange->route)
		http_find_route(conn, exchange);
	key.edge_id = conn->edge_id;
	key.route = exchange->route;
	if (!key.route)
		key.path_hash = exchange->path_hash;
	key.status = exchange->status;
	key.method = exchange->method;
	key.minor = exchange->minor;
	key.error = end->error;
	key.shard = bpf_get_smp_processor_id() & http_shard_mask;
	totals = bpf_map_lookup_elem(&http_requests, &key);
	if (!totals) {
		bpf_map_update_elem(&http_requests, &key, &http_no_totals, BPF_NOEXIST);
		totals = bpf_map_lookup_elem(&http_requests, &key);
	}
	if (totals)
		http_add(totals, conn, exchange, duration);
	else
		http_count(HTTP_LOST_MAP_FULL, 1);
	if (http_sampling())
		http_sample(conn, end, duration);
}
