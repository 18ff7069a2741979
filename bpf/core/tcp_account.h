/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a TCP socket has moved since it was last asked, added to its edge. Used by core.bpf.c: at every walk and,
 * for the last time, when the socket closes.
 */
#pragma once

#include "tcp_totals.h"
#include "mptcp.h"
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
	if (bucket >= LATENCY_BUCKETS) /* unreachable; bounds the index for the verifier */
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
 * TCP's are reused without waiting for readers. So a walk first reads all that it wants, what was accounted
 * before included, then makes sure that the socket was not closed until then, and then replaces each value only
 * if no other program has. The close leaves a mark that no value has, so that a walk which comes late never succeeds.
 *
 * Differences are taken modulo 2^64: a value that was read a moment too high (a FIN counted before its flag)
 * is put right by the next one.
 */
#define ACCOUNTED(field) ((typeof(field))~0ULL) /* the mark */

#define TAKE(state, before, now, field, target, final)                                                         \
	({                                                                                                     \
		typeof((state)->field) found_, before_ = (before).field, now_ = (now).field;                   \
		bool ours_;                                                                                    \
		if (final) {                                                                                   \
			before_ = __sync_lock_test_and_set(&(state)->field, ACCOUNTED(now_));                  \
			ours_ = before_ != ACCOUNTED(now_);                                                    \
		} else {                                                                                       \
			found_ = now_ == before_ ?                                                             \
					 before_ :                                                             \
					 __sync_val_compare_and_swap(&(state)->field, before_, now_);          \
			ours_ = found_ == before_ && before_ != ACCOUNTED(now_);                               \
		}                                                                                              \
		ours_ = ours_ && now_ != before_;                                                              \
		if (ours_)                                                                                     \
			ATOMIC_ADD(target, now_ - before_);                                                    \
		ours_;                                                                                         \
	})

/* The values of one account. */
struct connection_account {
	u64 sent_bytes;
	u64 received_bytes;
	u32 retransmitted_segments;
	u32 out_of_order_segments;
	u32 receiver_limited;
	u32 sndbuf_limited;
};

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

/* What the kernel says of a connection. Gives its round trip. */
static __always_inline u32 read_connection(struct sock *sk, struct tcp_sock *tcp, struct connection_account *now, u32 jiffies)
{
	now->sent_bytes = tcp->bytes_sent - tcp->bytes_retrans;
	now->received_bytes = received_payload(sk, tcp);
	now->retransmitted_segments = tcp->total_retrans;
	now->out_of_order_segments = tcp->rcv_ooopack;
	now->receiver_limited = chronograph(tcp, jiffies, SOL_TCP_CHRONO_RWND_LIMITED);
	now->sndbuf_limited = chronograph(tcp, jiffies, SOL_TCP_CHRONO_SNDBUF_LIMITED);
	return tcp->srtt_us;
}

/* What the kernel says of a whole, see mptcp.h: its own bytes, the rest of its first subflow. Gives its round trip. */
static __noinline u32 read_whole(struct sock *sk, struct connection_account *now, u32 jiffies)
{
	struct mptcp_sock___core *whole = (void *)sk;
	struct tcp_sock *tcp = (void *)BPF_CORE_READ(whole, first);
	u32 running, since;

	now->sent_bytes = BPF_CORE_READ(whole, bytes_sent);
	now->received_bytes = BPF_CORE_READ(whole, bytes_received);
	if (!tcp)
		return 0; /* the rest stays what it was */
	running = BPF_CORE_READ_BITFIELD_PROBED(tcp, chrono_type);
	since = jiffies - BPF_CORE_READ(tcp, chrono_start);
	now->retransmitted_segments = BPF_CORE_READ(tcp, total_retrans);
	now->out_of_order_segments = BPF_CORE_READ(tcp, rcv_ooopack);
	now->receiver_limited =
		BPF_CORE_READ(tcp, chrono_stat[1]) + (running == SOL_TCP_CHRONO_RWND_LIMITED ? since : 0);
	now->sndbuf_limited =
		BPF_CORE_READ(tcp, chrono_stat[2]) + (running == SOL_TCP_CHRONO_SNDBUF_LIMITED ? since : 0);
	return BPF_CORE_READ(tcp, srtt_us);
}

struct listener_account {
	u32 listen_drops;
	s32 listen_backlog, listen_limit;
};

/* What the kernel says of a listener. The queue of MPTCP's whole is its first subflow's. */
static __always_inline void read_listener(struct sock *sk, struct listener_account *now)
{
	struct sock *queue = is_whole(sk) ? first_subflow(sk) : sk;

	if (!queue)
		return; /* stays what it was */
	now->listen_drops = BPF_CORE_READ(queue, sk_drops.counter);
	now->listen_backlog = BPF_CORE_READ(queue, sk_ack_backlog);
	now->listen_limit = BPF_CORE_READ(queue, sk_max_ack_backlog);
}

static __always_inline bool closed(struct socket_state *state)
{
	return __sync_fetch_and_or(&state->flags, 0) & SOCKET_CLOSED; /* with a full barrier */
}

static __always_inline void accounted_before(struct socket_state *state, struct connection_account *before)
{
	before->sent_bytes = READ_ONCE(state->sent_bytes);
	before->received_bytes = READ_ONCE(state->received_bytes);
	before->retransmitted_segments = READ_ONCE(state->retransmitted_segments);
	before->out_of_order_segments = READ_ONCE(state->out_of_order_segments);
	before->receiver_limited = READ_ONCE(state->receiver_limited);
	before->sndbuf_limited = READ_ONCE(state->sndbuf_limited);
}

static __noinline int account_connection(struct sock *sk, struct socket_state *state, struct tcp_totals *totals, bool final)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct connection_account before, now;
	u32 jiffies, srtt_us, pending;
	bool moved;

	accounted_before(state, &before);
	jiffies = (u32)bpf_jiffies64();
	if (tcp) {
		srtt_us = read_connection(sk, tcp, &now, jiffies) >> 3;
	} else if (is_whole(sk)) {
		now = before;
		srtt_us = read_whole(sk, &now, jiffies) >> 3;
	} else {
		return 0;
	}
	if (!final && closed(state))
		return 0;
	moved = TAKE(state, before, now, sent_bytes, totals->sent_bytes, final);
	moved |= TAKE(state, before, now, received_bytes, totals->received_bytes, final);
	TAKE(state, before, now, retransmitted_segments, totals->retransmitted_segments, final);
	TAKE(state, before, now, out_of_order_segments, totals->out_of_order_segments, final);
	TAKE(state, before, now, receiver_limited, totals->receiver_limited_jiffies, final);
	TAKE(state, before, now, sndbuf_limited, totals->sndbuf_limited_jiffies, final);
	pending = state->resets_sent ? __sync_lock_test_and_set(&state->resets_sent, 0) : 0;
	if (pending)
		ATOMIC_ADD(totals->resets_sent, pending);
	pending = state->resets_received ? __sync_lock_test_and_set(&state->resets_received, 0) : 0;
	if (pending)
		ATOMIC_ADD(totals->resets_received, pending);
	pending = state->connect_us ? __sync_lock_test_and_set(&state->connect_us, 0) : 0;
	if (pending)
		observe(&totals->connect, pending - 1);
	if (moved && srtt_us)
		observe(&totals->rtt, srtt_us);
	return 0;
}

static __noinline int account_listener(struct sock *sk, struct socket_state *state, struct tcp_totals *totals, bool final)
{
	struct listener_account before, now;

	before.listen_drops = READ_ONCE(state->listen_drops);
	before.listen_backlog = READ_ONCE(state->listen_backlog);
	before.listen_limit = READ_ONCE(state->listen_limit);
	now = before;
	read_listener(sk, &now);
	if (final)
		now.listen_backlog = now.listen_limit = 0;
	else if (closed(state))
		return 0;
	TAKE(state, before, now, listen_drops, totals->listen_drops, final);
	TAKE(state, before, now, listen_backlog, totals->listen_backlog, final);
	TAKE(state, before, now, listen_limit, totals->listen_limit, final);
	return 0;
}

/* Without the TCP probe a connection gets its edge from the probe that counts something on it; a listener always has one, which
 * says who serves its port. */
static __noinline int account(struct sock *sk, struct socket_state *state, bool final)
{
	struct tcp_totals *totals;
	u32 id;

	if ((state->flags & SOCKET_SUBFLOW) || (!tcp_totals_kept && state->role != ROLE_LISTENER))
		return 0;
	id = edge_of(sk, state);
	if (!tcp_totals_kept)
		return 0;
	totals = tcp_totals_of(id);
	if (!totals)
		return 0;
	if (state->role == ROLE_LISTENER)
		return account_listener(sk, state, totals, final);
	return account_connection(sk, state, totals, final);
}

/* A socket closes, or turns out to belong to another owner. Late accounts still find the edge's number. */
static __noinline int leave_edge(struct socket_state *state)
{
	u32 id = state->edge_id;
	struct edge *edge = id ? bpf_map_lookup_elem(&edges, &id) : NULL;

	if (!edge)
		return 0;
	if (__sync_fetch_and_and(&state->flags, ~SOCKET_HOLDS_EDGE) & SOCKET_HOLDS_EDGE)
		ATOMIC_ADD(edge->sockets, -1);
	if (__sync_fetch_and_and(&state->flags, ~SOCKET_OPEN) & SOCKET_OPEN)
		ATOMIC_ADD(edge->open, -1);
	return 0;
}
