/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a TCP socket has moved since it was last asked, added to its edge. Used by tcp.bpf.c: at every walk and,
 * for the last time, when the socket closes.
 */
#pragma once

#include "edge.h"
#include "owner.h"
#include "socket.h"
#include <bpf/bpf_core_read.h>

static const u32 latency_bounds_us[LATENCY_BOUNDS] = {100,    250,    500,	 1000,	 2500,	  5000,	   10000,   25000,
						      50000,  100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};

static __noinline int observe(struct latency_histogram *histogram, u64 us)
{
	u32 bucket = 0;

	for (int i = 0; i < LATENCY_BOUNDS; i++)
		bucket += us > latency_bounds_us[i];
	if (bucket >= LATENCY_BUCKETS) /* cannot be: said for the verifier */
		return 0;
	ATOMIC_ADD(histogram->counts[bucket], 1);
	ATOMIC_ADD(histogram->sum_us, us);
	return 0;
}

/*
 * Accounts.
 *
 * Each takes the difference between what the socket says now and what was accounted before. The close of a
 * socket takes the last one, by swapping. A walk may be at work on the same socket at that moment, on another
 * processor or interrupted in the middle; and once a socket is closed its memory may be another socket's, for
 * TCP's are reused without waiting for readers. So a walk first reads all that it wants, then makes sure that
 * the socket was not closed until then, and then replaces each value only if nobody else has.
 *
 * Differences are taken modulo 2^64: a value that was read a moment too high (a FIN counted before its flag)
 * is put right by the next one.
 */
#define TAKE(state, field, now, target, final)                                                                 \
	({                                                                                                     \
		typeof((state)->field) now_ = (now), before_ = (state)->field, found_;                         \
		if (final)                                                                                     \
			before_ = found_ = __sync_lock_test_and_set(&(state)->field, now_);                    \
		else                                                                                           \
			found_ = now_ == before_ ?                                                             \
					 before_ :                                                             \
					 __sync_val_compare_and_swap(&(state)->field, before_, now_);          \
		if (found_ == before_ && now_ != before_)                                                      \
			ATOMIC_ADD(target, now_ - before_);                                                    \
		found_ == before_ && now_ != before_;                                                          \
	})

static __always_inline u32 chronograph(struct tcp_sock *tcp, u32 now, u32 which)
{
	u32 total = which == SOL_TCP_CHRONO_RWND_LIMITED ? tcp->chrono_stat[1] : tcp->chrono_stat[2];
	u32 running = BPF_CORE_READ_BITFIELD(tcp, chrono_type);

	return running == which ? total + now - tcp->chrono_start : total;
}

/* tcp_rcv_nxt_update() counts a FIN as a byte, then tcp_fin() sets SOCK_DONE; a FIN that met a time-wait
 * minisocket was not counted and has no flag. */
static __always_inline u64 received_payload(struct sock *sk, struct tcp_sock *tcp)
{
	u64 received = tcp->bytes_received;

	return received && (sk->__sk_common.skc_flags & (1UL << SOCK_DONE)) ? received - 1 : received;
}

static __always_inline bool closed(struct socket_state *state)
{
	return __sync_fetch_and_or(&state->flags, 0) & SOCKET_CLOSED; /* with a full barrier */
}

static __noinline int account_connection(struct sock *sk, struct socket_state *state, struct edge *edge, bool final)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	u32 now, retransmitted, out_of_order, receiver_limited, sndbuf_limited, srtt_us, pending;
	u64 sent, received;
	bool moved;

	if (!tcp)
		return 0;
	now = (u32)bpf_jiffies64();
	sent = tcp->bytes_sent - tcp->bytes_retrans;
	received = received_payload(sk, tcp);
	retransmitted = tcp->total_retrans;
	out_of_order = tcp->rcv_ooopack;
	receiver_limited = chronograph(tcp, now, SOL_TCP_CHRONO_RWND_LIMITED);
	sndbuf_limited = chronograph(tcp, now, SOL_TCP_CHRONO_SNDBUF_LIMITED);
	srtt_us = tcp->srtt_us >> 3;
	if (!final && closed(state))
		return 0;
	moved = TAKE(state, sent_bytes, sent, edge->tcp.sent_bytes, final);
	moved |= TAKE(state, received_bytes, received, edge->tcp.received_bytes, final);
	TAKE(state, retransmitted_segments, retransmitted, edge->tcp.retransmitted_segments, final);
	TAKE(state, out_of_order_segments, out_of_order, edge->tcp.out_of_order_segments, final);
	TAKE(state, receiver_limited, receiver_limited, edge->tcp.receiver_limited_jiffies, final);
	TAKE(state, sndbuf_limited, sndbuf_limited, edge->tcp.sndbuf_limited_jiffies, final);
	pending = state->resets_sent ? __sync_lock_test_and_set(&state->resets_sent, 0) : 0;
	if (pending)
		ATOMIC_ADD(edge->tcp.resets_sent, pending);
	pending = state->resets_received ? __sync_lock_test_and_set(&state->resets_received, 0) : 0;
	if (pending)
		ATOMIC_ADD(edge->tcp.resets_received, pending);
	pending = state->connect_us ? __sync_lock_test_and_set(&state->connect_us, 0) : 0;
	if (pending)
		observe(&edge->tcp.connect, pending - 1);
	if (moved && srtt_us)
		observe(&edge->tcp.rtt, srtt_us);
	return 0;
}

static __noinline int account_listener(struct sock *sk, struct socket_state *state, struct edge *edge, bool final)
{
	u32 drops = sk->sk_drops.counter;
	s32 backlog = final ? 0 : sk->sk_ack_backlog, limit = final ? 0 : sk->sk_max_ack_backlog;

	if (!final && closed(state))
		return 0;
	TAKE(state, listen_drops, drops, edge->tcp.listen_drops, final);
	TAKE(state, listen_backlog, backlog, edge->tcp.listen_backlog, final);
	TAKE(state, listen_limit, limit, edge->tcp.listen_limit, final);
	return 0;
}

static __noinline int account(struct sock *sk, struct socket_state *state, bool final)
{
	u32 id = edge_of(sk, state);
	struct edge *edge = bpf_map_lookup_elem(&edges, &id);

	if (!edge) {
		count_lost(LOST_EDGE_GONE);
		return 0;
	}
	if (state->role == ROLE_LISTENER)
		return account_listener(sk, state, edge, final);
	return account_connection(sk, state, edge, final);
}

/* A socket closes, or turns out to belong to another owner. Late accounts still find the edge's number. */
static __noinline int leave_edge(struct socket_state *state)
{
	u32 id = state->edge_id;
	struct edge *edge = id ? bpf_map_lookup_elem(&edges, &id) : NULL;

	if (!edge)
		return 0;
	ATOMIC_ADD(edge->sockets, -1);
	if (__sync_fetch_and_and(&state->flags, ~SOCKET_OPEN) & SOCKET_OPEN)
		ATOMIC_ADD(edge->open, -1);
	return 0;
}
