/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where finished requests are counted, whatever protocol they are of.
 */
#pragma once

#include "requests/names.h"
#include "requests/spans.h"

static const struct request_totals request_no_totals;

/* Index of the bucket, of what does not fit in the first. Functions of their own, so that the verifier looks at their
 * loops once; most requests are quick and small and need none. */
__attribute__((noinline)) u32 request_duration_bucket_of(u64 ns)
{
	u32 i;

	for (i = 0; i < REQUEST_BOUNDS; i++)
		if (i >= request_bounds || ns <= request_bounds_ns[i])
			break;
	return i;
}

static __always_inline u32 request_duration_bucket(u64 ns)
{
	return request_bounds && ns <= request_bounds_ns[0] ? 0 : request_duration_bucket_of(ns);
}

#define REQUEST_FIRST_SIZE 64
__attribute__((noinline)) u32 request_size_bucket_of(u64 bytes)
{
	u64 bound = REQUEST_FIRST_SIZE;
	u32 i;

	for (i = 0; i < REQUEST_SIZE_BOUNDS; i++) {
		if (bytes <= bound)
			break;
		bound *= 4;
	}
	return i;
}

static __always_inline u32 request_size_bucket(u64 bytes)
{
	return bytes <= REQUEST_FIRST_SIZE ? 0 : request_size_bucket_of(bytes);
}

static __always_inline void request_add(struct request_totals *totals, struct request_conn *conn,
					struct request *request, u64 duration)
{
	u32 bucket = request_duration_bucket(duration), asked, answered;

	if (bucket >= REQUEST_BUCKETS) /* unreachable; bounds the index for the verifier, here and below */
		return;
	ATOMIC_ADD(totals->times[bucket].duration, 1);
	ATOMIC_ADD(totals->duration_ns, duration);
	if (conn->role == ROLE_SERVER && request->first_byte_ns) {
		u64 first = request->first_byte_ns > request->start_ns ? request->first_byte_ns - request->start_ns : 0;

		bucket = request_duration_bucket(first);
		if (bucket >= REQUEST_BUCKETS)
			return;
		ATOMIC_ADD(totals->times[bucket].first_byte, 1);
		ATOMIC_ADD(totals->first_byte_ns, first);
	}
	asked = request_size_bucket(request->request_bytes);
	if (asked < REQUEST_SIZE_BUCKETS)
		ATOMIC_ADD(totals->sizes[asked].request, 1);
	if (request->request_bytes)
		ATOMIC_ADD(totals->request_bytes, request->request_bytes);
	answered = request_size_bucket(request->response_bytes);
	if (answered < REQUEST_SIZE_BUCKETS)
		ATOMIC_ADD(totals->sizes[answered].response, 1);
	if (request->response_bytes)
		ATOMIC_ADD(totals->response_bytes, request->response_bytes);
}

/* All is known of a request: counts it, and hands it up where it is sampled. */
static __always_inline void request_ended(struct request_conn *conn, struct request *request, struct request_end *end)
{
	struct request_key key = {};
	struct request_totals *totals;
	u64 duration = request->end_ns > request->start_ns ? request->end_ns - request->start_ns : 0;

	if (!request->name && request->name_hash)
		request_find_name(conn, request);
	key.edge_id = conn->edge_id;
	key.name = request->name;
	if (!key.name)
		key.name_hash = request->name_hash;
	key.status = request->status;
	key.operation = request->operation;
	key.detail = request->detail;
	key.protocol = conn->protocol;
	key.error = end->error;
	key.shard = bpf_get_smp_processor_id() & request_shard_mask;
	totals = bpf_map_lookup_elem(&requests, &key);
	if (!totals) {
		bpf_map_update_elem(&requests, &key, &request_no_totals, BPF_NOEXIST);
		totals = bpf_map_lookup_elem(&requests, &key);
	}
	if (totals)
		request_add(totals, conn, request, duration);
	else
		request_count(conn->protocol, REQUEST_LOST_MAP_FULL, 1);
	if (request_sampling())
		request_sample(conn, request, end, duration);
}
