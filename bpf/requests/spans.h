/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Samples of requests: which are taken, with what trace context, as children of which request. Nothing of it runs unless
 * userspace wants spans.
 */
#pragma once

#include "requests/maps.h"

/* Set once, before loading. */
const volatile u32 request_sample_share = 0; /* of 2^32 */
const volatile u32 request_sample_errors = 1;
const volatile u64 request_sample_slow_ns = 0; /* 0: off */
const volatile u32 request_spans_per_second = 100;

static __always_inline bool request_sampling(void)
{
	struct request_control *control;

	if (!request_spans)
		return false;
	control = request_controls();
	return control && control->sampling;
}

static const struct request_tracestate request_no_tracestate;

/* A number of the request that no other of its connection has. */
static __always_inline u64 request_id(const struct request *request)
{
	return request->start_ns << 6 | (request->number & 63);
}

static __always_inline bool request_wants_traces(void)
{
	return request_spans;
}

/* Trace context of request `number` stands at `bytes`, of which as many can be read as are kept of it. */
static __always_inline void request_trace(struct request_conn *conn, u16 number, enum request_trace_field field,
					  const u8 *bytes, u32 length)
{
	struct request_tracestate *state;
	u64 id = conn->id; /* keys on the stack: before 6.2 no other memory is taken for one */

	if (!request_sampling())
		return;
	if (field == REQUEST_TRACEPARENT) {
		bool again = conn->has_trace && conn->trace_number == number;

		/* Two fields are as bad as none (Trace Context, 3.2.1). */
		conn->has_trace = !again && length >= TRACEPARENT;
		conn->trace_number = number;
		__builtin_memcpy(conn->traceparent, bytes, TRACEPARENT);
		return;
	}
	bpf_map_update_elem(&request_tracestates, &id, &request_no_tracestate, BPF_ANY);
	state = bpf_map_lookup_elem(&request_tracestates, &id);
	if (!state || stream_copy(state, REQUEST_TRACESTATE_SIZE, bytes))
		return;
	conn->state_number = number;
	conn->state_length = length > REQUEST_TRACESTATE_SIZE ? REQUEST_TRACESTATE_SIZE : length;
}

/* A server's thread has read a request: until it is answered, this is what the thread does. */
static __always_inline void request_serve(struct request_conn *conn, struct stream_call *call, struct request *request,
					  struct request_thread *thread)
{
	struct request_served served = {.request = request_id(request)};
	u64 id = thread->id;
	struct request_served *other = NULL;

	if (id)
		other = bpf_map_lookup_elem(&request_serving, &id);
	if (!(call->flags & STREAM_CALL_BLOCKS) || (other && thread->id != conn->id)) {
		thread->id = 0; /* several at once: for which it works is not known */
		return;
	}
	if (conn->has_trace && conn->trace_number == request->number)
		__builtin_memcpy(served.traceparent, conn->traceparent, TRACEPARENT);
	thread->id = conn->id;
	thread->request = served.request;
	id = conn->id;
	bpf_map_update_elem(&request_serving, &id, &served, BPF_ANY);
}

/* A request is understood: whose child it is, and whose parent it may become. */
static __always_inline void request_begun(struct request_conn *conn, struct stream_call *call, struct request *request)
{
	struct request_thread *thread;
	struct request_served *served;
	u64 id;

	if (!request_sampling())
		return;
	conn->link_id = 0;
	thread = bpf_task_storage_get(&request_threads, bpf_get_current_task_btf(), 0,
				      conn->role == ROLE_SERVER ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (!thread)
		return; /* serves nothing, as far as is known */
	if (conn->role == ROLE_SERVER) {
		request_serve(conn, call, request, thread);
		return;
	}
	id = thread->id;
	served = id ? bpf_map_lookup_elem(&request_serving, &id) : NULL;
	if (!served || served->request != thread->request)
		return; /* answered already */
	conn->link_id = id;
	conn->link_request = thread->request;
	conn->link_number = request->number;
	__builtin_memcpy(conn->link_traceparent, served->traceparent, sizeof(served->traceparent));
}

/* splitmix64; userspace makes the same ids (exporter/probes/requests/samples.ts). */
static __always_inline u64 request_mix(u64 seed, u64 request)
{
	u64 x = seed + request * 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

/* The last digit of a traceparent's flags. */
static __always_inline bool request_is_sampled(const u8 *traceparent)
{
	u8 digit = traceparent[TRACEPARENT - 1];

	return (digit >= '0' && digit <= '9') ? (digit & 1) : ((digit - 'a' + 10) & 1);
}

/* From which status on the server has failed; a protocol's object says so before it includes this. */
#ifndef REQUEST_FAILED_FROM
#define REQUEST_FAILED_FROM 1
#endif

static __always_inline u32 request_reason(struct request_conn *conn, struct request_end *end, struct request *request,
				       u64 duration, bool linked)
{
	u64 id = conn->id, number = request_id(request);

	if (request_sample_errors && (end->error || request->status >= REQUEST_FAILED_FROM))
		return SAMPLED_ERROR;
	if (request_sample_slow_ns && duration >= request_sample_slow_ns)
		return SAMPLED_SLOW;
	if (conn->has_trace && conn->trace_number == request->number)
		return request_is_sampled(conn->traceparent) ? SAMPLED_PARENT : SAMPLED_NOT;
	if (linked && conn->link_traceparent[0])
		return request_is_sampled(conn->link_traceparent) ? SAMPLED_PARENT : SAMPLED_NOT;
	if (linked) { /* the same choice as for the request being served */
		id = conn->link_id;
		number = conn->link_request;
	}
	return (u32)request_mix(id, number) < request_sample_share ? SAMPLED_SHARE : SAMPLED_NOT;
}

static __always_inline void request_fill_span(struct request_span_event *event, struct request_conn *conn,
					   struct request_end *end, struct request *request, bool linked)
{
	event->kind = REQUEST_EVENT_SPAN;
	event->size = sizeof(*event);
	event->name_hash = request->name_hash;
	event->start_ns = request->start_ns;
	event->first_byte_ns = request->first_byte_ns;
	event->end_ns = request->end_ns;
	event->request_bytes = request->request_bytes;
	event->response_bytes = request->response_bytes;
	event->id = conn->id;
	event->request = request_id(request);
	event->link_id = linked ? conn->link_id : 0;
	event->link_request = linked ? conn->link_request : 0;
	event->edge_id = conn->edge_id;
	event->name = request->name;
	event->status = request->status;
	event->remote_port = conn->remote_port;
	event->local_port = conn->local_port;
	event->operation = request->operation;
	event->detail = request->detail;
	event->error = end->error;
	event->role = conn->role;
	event->family = conn->family;
	event->has_traceparent = conn->has_trace && conn->trace_number == request->number;
	event->protocol = conn->protocol;
	__builtin_memcpy(event->remote, conn->remote, sizeof(event->remote));
	__builtin_memcpy(event->local, conn->local, sizeof(event->local));
	__builtin_memcpy(event->traceparent, conn->traceparent, sizeof(event->traceparent));
	__builtin_memcpy(event->link_traceparent, conn->link_traceparent, sizeof(event->link_traceparent));
}

/* Hands a finished request up if it is one of those that userspace wants. */
STREAM_FUNCTION int request_sample(struct request_conn *conn, struct request *request, struct request_end *end,
				   u64 duration)
{
	struct request_tracestate *trace;
	struct request_span_event *event;
	struct request_state *state;
	struct request_served *served;
	bool linked;
	u32 reason;
	u64 id;

	if (!conn || !request || !end)
		return 0;
	id = conn->id;
	if (conn->role == ROLE_SERVER) {
		served = bpf_map_lookup_elem(&request_serving, &id);
		if (served && served->request == request_id(request))
			bpf_map_delete_elem(&request_serving, &id);
	}
	linked = conn->role == ROLE_CLIENT && conn->link_id && conn->link_number == request->number;
	reason = request_reason(conn, end, request, duration, linked);
	state = request_state_of(conn->protocol);
	if (reason == SAMPLED_NOT || !state)
		return 0;
	if (!request_allow(&state->spans, end->now_ns, request_spans_per_second)) {
		request_count(conn->protocol, REQUEST_LOST_SPAN_LIMIT, 1);
		return 0;
	}
	event = bpf_ringbuf_reserve(&request_events, sizeof(*event), 0);
	if (!event) {
		request_count(conn->protocol, REQUEST_LOST_SPAN_EVENT, 1);
		return 0;
	}
	request_fill_span(event, conn, end, request, linked);
	event->reason = reason;
	event->tracestate_length = 0;
	if (conn->state_length && conn->state_number == request->number) {
		trace = bpf_map_lookup_elem(&request_tracestates, &id);
		if (trace) {
			event->tracestate_length = conn->state_length;
			bpf_probe_read_kernel(event->tracestate, REQUEST_TRACESTATE_SIZE, trace);
		}
	}
	bpf_ringbuf_submit(event, 0);
	ATOMIC_ADD(state->counters[REQUEST_SPAN_EVENTS], 1);
	return 0;
}
