/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What protocols tell of their requests, whatever they are: a request has a name, carries trace context, is understood,
 * has ended. In BPF that is counted and sampled (names.h, metrics.h, spans.h); in user mode it goes to functions that the
 * test sets.
 */
#pragma once

#include "requests/request.h"
#include "stream/call.h"

enum request_trace_field { REQUEST_TRACEPARENT, REQUEST_TRACESTATE };

#ifdef __bpf__
#include "requests/metrics.h"
#else

struct request_user {
	void (*named)(const u8 *bytes, u32 length, u64 hash, bool cut);
	void (*trace)(enum request_trace_field field, const u8 *bytes, u32 length);
	void (*ended)(const struct request_conn *conn, const struct request *request, const struct request_end *end);
	bool wants_traces;
	u64 counters[REQUEST_COUNTERS];
};
static struct request_user request_user;

static __always_inline void request_count(u32 protocol, enum request_counter counter, u64 amount)
{
	(void)protocol;
	request_user.counters[counter] += amount;
}

static __always_inline u32 request_name(struct request_conn *conn, u64 now_ns, u64 hash, const u8 *bytes, u32 length,
					bool cut)
{
	(void)conn, (void)now_ns;
	if (request_user.named)
		request_user.named(bytes, length, hash, cut);
	return 0;
}

static __always_inline bool request_wants_traces(void)
{
	return request_user.wants_traces;
}

static __always_inline void request_trace(struct request_conn *conn, u16 number, enum request_trace_field field,
					  const u8 *bytes, u32 length)
{
	(void)conn, (void)number;
	if (request_user.trace)
		request_user.trace(field, bytes, length);
}

static __always_inline void request_begun(struct request_conn *conn, struct stream_call *call, struct request *request)
{
	(void)conn, (void)call, (void)request;
}

static __always_inline void request_ended(struct request_conn *conn, struct request *request, struct request_end *end)
{
	if (request_user.ended)
		request_user.ended(conn, request, end);
}
#endif
