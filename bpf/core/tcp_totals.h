/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What TCP counts by edge, beside what every edge has (edge.h). Only where the TCP probe is on: with the switch off the
 * verifier takes all of it out of the programs, and the map has one entry.
 */
#pragma once

#include "edge.h"

/* Upper bounds in microseconds, ascending; one more bucket holds what is above the last.
 * The catalogue's bounds in seconds are compared with these in a test. */
#define LATENCY_BOUNDS 16
#define LATENCY_BUCKETS (LATENCY_BOUNDS + 1)

struct latency_histogram {
	u64 sum_us;
	u64 counts[LATENCY_BUCKETS];
};

enum connect_failure {
	FAILED_REFUSED,
	FAILED_TIMED_OUT,
	FAILED_UNREACHABLE,
	FAILED_RESET,
	FAILED_OTHER,
	FAILED_NO_ROUTE,	    /* this host has none */
	FAILED_PROHIBITED,	    /* a rule of this host, or a filter on the way that says so */
	FAILED_ADDRESS_UNAVAILABLE, /* no port is left, or the address is not this host's */
	FAILED_INVALID,		    /* EINVAL, which a blackhole route answers */
	FAILED_CANCELLED,	    /* given up by the process itself */
	CONNECT_FAILURES,
};

/* What TCP counts of one edge. */
struct tcp_totals {
	u64 sent_bytes;
	u64 received_bytes;
	u64 retransmitted_segments;
	u64 out_of_order_segments;
	u64 resets_sent;
	u64 resets_received;
	u64 receiver_limited_jiffies;
	u64 sndbuf_limited_jiffies;
	u64 connect_failures[CONNECT_FAILURES];
	u64 listen_drops;
	s64 listen_backlog;
	s64 listen_limit;
	struct latency_histogram rtt;
	struct latency_histogram connect;
};

/* Only so that the enum is in BTF, from where userspace takes the names. */
const enum connect_failure first_connect_failure = FAILED_REFUSED;

const volatile bool tcp_totals_kept = false; /* set once, before loading */

/* edge number → TCP's counts. Made at the first account of an edge, removed by userspace with the edge, so it never holds
 * more than `edges` and has the same size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, struct tcp_totals);
} tcp_totals SEC(".maps");

static const struct tcp_totals no_totals;

/* The counts of an edge. NULL, which counts: the edge has been removed. */
static __noinline struct tcp_totals *tcp_totals_of(u32 edge_id)
{
	struct tcp_totals *totals = bpf_map_lookup_elem(&tcp_totals, &edge_id);

	if (totals)
		return totals;
	if (bpf_map_lookup_elem(&edges, &edge_id)) {
		bpf_map_update_elem(&tcp_totals, &edge_id, &no_totals, BPF_NOEXIST);
		totals = bpf_map_lookup_elem(&tcp_totals, &edge_id);
	}
	if (!totals)
		count_lost(LOST_EDGE_GONE);
	return totals;
}
