/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Samples of requests: which are taken, with what trace context, as children of which request. Included by
 * http_metrics.h, whose maps it uses. Nothing of it runs unless userspace wants spans.
 */
#pragma once

/* Set once, before loading. */
const volatile u32 http_spans = 0;	  /* 1: sample */
const volatile u32 http_sample_share = 0; /* of 2^32 */
const volatile u32 http_sample_errors = 1;
const volatile u64 http_sample_slow_ns = 0; /* 0: off */
const volatile u32 http_spans_per_second = 100;

/* tracestate by connection, of the last request that had one. Least recently used give way: such a span goes
 * without. */
struct http_tracestate {
	u8 bytes[HTTP_TRACESTATE];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct http_tracestate);
} http_tracestates SEC(".maps");

/* Requests being served by a thread that blocks for them: connection's seed → the request. What the thread asks of
 * others meanwhile are their children. Least recently used give way: their children become roots. */
struct http_served {
	u64 request;
	u8 traceparent[HTTP_TRACEPARENT + 1];
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, struct http_served);
} http_serving SEC(".maps");

static __always_inline bool http_sampling(void)
{
	struct http_control *control;

	if (!http_spans)
		return false;
	control = http_controls();
	return control && control->sampling;
}

static const struct http_tracestate http_no_tracestate;

/* A number of the request that no other of its connection has. */
static __always_inline u64 http_request_id(const struct http_exchange *exchange)
{
	return exchange->start_ns << 6 | (exchange->request_number & 63);
}

static __always_inline bool http_wants_trace_fields(void)
{
	return http_spans;
}

static __always_inline void http_on_trace_field(struct http_conn *conn, struct http_call *call,
						struct http_direction *direction, int event)
{
	u64 start = call->window.value_start & HTTP1_MASK, seed = conn->seed;
	struct http_tracestate *state;

	if (!http_sampling())
		return;
	if (event == HTTP1_TRACEPARENT) {
		bool again = conn->has_trace && conn->trace_number == direction->number;

		/* Two fields are as bad as none (Trace Context, 3.2.1). */
		conn->has_trace = !again && call->window.value_length >= HTTP_TRACEPARENT;
		conn->trace_number = direction->number;
		__builtin_memcpy(conn->traceparent, &call->window.bytes[start], HTTP_TRACEPARENT);
		return;
	}
	bpf_map_update_elem(&http_tracestates, &seed, &http_no_tracestate, BPF_ANY);
	state = bpf_map_lookup_elem(&http_tracestates, &seed);
	if (!state || http_copy(state, HTTP_TRACESTATE, &call->window.bytes[start]))
		return;
	conn->state_number = direction->number;
	conn->state_length = call->window.value_length > HTTP_TRACESTATE ? HTTP_TRACESTATE : call->window.value_length;
}

/* What a thread serves. Only where samples are taken. */
struct http_thread {
	u64 seed; /* the connection of the request that it has read last and serves alone; 0: none */
	u64 request;
};
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http_thread);
} http_threads SEC(".maps");

/* A server's thread has read a request: until it is answered, this is what the thread does. */
static __always_inline void http_serve(struct http_conn *conn, struct http_call *call, struct http_exchange *exchange,
				       struct http_thread *thread)
{
	struct http_served served = {.request = http_request_id(exchange)};
	u64 seed = thread->seed; /* keys on the stack: before 6.2 no other memory is taken for one */
	struct http_served *other = NULL;

	if (seed)
		other = bpf_map_lookup_elem(&http_serving, &seed);
	if (!call->blocks || (other && thread->seed != conn->seed)) {
		thread->seed = 0; /* several at once: nobody knows for which it works */
		return;
	}
	if (conn->has_trace && conn->trace_number == exchange->request_number)
		__builtin_memcpy(served.traceparent, conn->traceparent, HTTP_TRACEPARENT);
	thread->seed = conn->seed;
	thread->request = served.request;
	seed = conn->seed;
	bpf_map_update_elem(&http_serving, &seed, &served, BPF_ANY);
}

static __always_inline void http_on_request(struct http_conn *conn, struct http_call *call)
{
	struct http_exchange *exchange = http_exchange_of(conn, call->end.exchange);
	struct http_thread *thread;
	struct http_served *served;
	u64 seed;

	if (!http_sampling())
		return;
	conn->link_seed = 0;
	thread = bpf_task_storage_get(&http_threads, bpf_get_current_task_btf(), 0,
				      conn->role == ROLE_SERVER ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (!thread)
		return; /* serves nothing, as far as anybody knows */
	if (conn->role == ROLE_SERVER) {
		http_serve(conn, call, exchange, thread);
		return;
	}
	seed = thread->seed;
	served = seed ? bpf_map_lookup_elem(&http_serving, &seed) : NULL;
	if (!served || served->request != thread->request)
		return; /* answered already */
	conn->link_seed = seed;
	conn->link_request = thread->request;
	conn->link_number = exchange->request_number;
	__builtin_memcpy(conn->link_traceparent, served->traceparent, sizeof(served->traceparent));
}

/* splitmix64; userspace makes the same ids (exporter/probes/http/samples.ts). */
static __always_inline u64 http_mix(u64 seed, u64 request)
{
	u64 x = seed + request * 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

/* The last digit of a traceparent's flags. */
static __always_inline bool http_is_sampled(const u8 *traceparent)
{
	u8 digit = traceparent[HTTP_TRACEPARENT - 1];

	return (digit >= '0' && digit <= '9') ? (digit & 1) : ((digit - 'a' + 10) & 1);
}

static __always_inline u32 http_reason(struct http_conn *conn, struct http_end *end, struct http_exchange *exchange,
				       u64 duration, bool linked)
{
	u64 seed = conn->seed, request = http_request_id(exchange);

	if (http_sample_errors && (end->error || exchange->status >= 500))
		return SAMPLED_ERROR;
	if (http_sample_slow_ns && duration >= http_sample_slow_ns)
		return SAMPLED_SLOW;
	if (conn->has_trace && conn->trace_number == exchange->request_number)
		return http_is_sampled(conn->traceparent) ? SAMPLED_PARENT : SAMPLED_NOT;
	if (linked && conn->link_traceparent[0])
		return http_is_sampled(conn->link_traceparent) ? SAMPLED_PARENT : SAMPLED_NOT;
	if (linked) { /* the same choice as for the request being served */
		seed = conn->link_seed;
		request = conn->link_request;
	}
	return (u32)http_mix(seed, request) < http_sample_share ? SAMPLED_SHARE : SAMPLED_NOT;
}

static __always_inline void http_fill_span(struct http_span_event *event, struct http_conn *conn,
					   struct http_end *end, struct http_exchange *exchange, bool linked)
{
	event->kind = HTTP_EVENT_SPAN;
	event->size = sizeof(*event);
	event->path_hash = exchange->path_hash;
	event->start_ns = exchange->start_ns;
	event->first_byte_ns = exchange->first_byte_ns;
	event->end_ns = exchange->end_ns;
	event->request_body = exchange->request_body;
	event->response_body = exchange->response_body;
	event->seed = conn->seed;
	event->request = http_request_id(exchange);
	event->link_seed = linked ? conn->link_seed : 0;
	event->link_request = linked ? conn->link_request : 0;
	event->edge_id = conn->edge_id;
	event->route = exchange->route;
	event->status = exchange->status;
	event->remote_port = conn->remote_port;
	event->local_port = conn->local_port;
	event->method = exchange->method;
	event->minor = exchange->minor;
	event->error = end->error;
	event->role = conn->role;
	event->family = conn->family;
	event->has_traceparent = conn->has_trace && conn->trace_number == exchange->request_number;
	event->pad = 0;
	__builtin_memcpy(event->remote, conn->remote, sizeof(event->remote));
	__builtin_memcpy(event->local, conn->local, sizeof(event->local));
	__builtin_memcpy(event->traceparent, conn->traceparent, sizeof(event->traceparent));
	__builtin_memcpy(event->link_traceparent, conn->link_traceparent, sizeof(event->link_traceparent));
}

/* Hands a finished request up if it is one of those that userspace wants. */
HTTP_FUNCTION http_sample(struct http_conn *conn, struct http_end *end, u64 duration)
{
	struct http_exchange *exchange;
	struct http_tracestate *state;
	struct http_span_event *event;
	struct http_shared *shared;
	struct http_served *served;
	bool linked;
	u32 reason;
	u64 seed;

	if (!conn || !end)
		return 0;
	seed = conn->seed;
	exchange = http_exchange_of(conn, end->exchange);
	if (conn->role == ROLE_SERVER) {
		served = bpf_map_lookup_elem(&http_serving, &seed);
		if (served && served->request == http_request_id(exchange))
			bpf_map_delete_elem(&http_serving, &seed);
	}
	linked = conn->role == ROLE_CLIENT && conn->link_seed && conn->link_number == exchange->request_number;
	reason = http_reason(conn, end, exchange, duration, linked);
	shared = http_shared_state();
	if (reason == SAMPLED_NOT || !shared)
		return 0;
	if (!http_allow(&shared->spans, end->now_ns, http_spans_per_second)) {
		http_count(HTTP_LOST_SPAN_LIMIT, 1);
		return 0;
	}
	event = bpf_ringbuf_reserve(&http_events, sizeof(*event), 0);
	if (!event) {
		http_count(HTTP_LOST_SPAN_EVENT, 1);
		return 0;
	}
	http_fill_span(event, conn, end, exchange, linked);
	event->reason = reason;
	event->tracestate_length = 0;
	if (conn->state_length && conn->state_number == exchange->request_number) {
		state = bpf_map_lookup_elem(&http_tracestates, &seed);
		if (state) {
			event->tracestate_length = conn->state_length;
			bpf_probe_read_kernel(event->tracestate, HTTP_TRACESTATE, state);
		}
	}
	bpf_ringbuf_submit(event, 0);
	ATOMIC_ADD(shared->counters[HTTP_SPAN_EVENTS], 1);
	return 0;
}
