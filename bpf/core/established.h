/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A connection is established: at that moment, or later where no program saw it (see core.bpf.c). Everything but how long
 * the handshake took can be made up for: who the other end is follows from sequence numbers that the socket still knows.
 */
#pragma once

#include "address.h"
#include "edge.h"
#include "mptcp.h"
#include "nat.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

/*
 * The sequence numbers that follow both ends' SYNs, in the client's order, at any time of the connection: what was
 * acknowledged and received since is taken off. bytes_acked counts the client's SYN and an acknowledged FIN,
 * bytes_received a FIN, as the sequence numbers do.
 */
static __always_inline u64 pair_of(struct tcp_sock *tcp, u8 role)
{
	u32 sent = tcp->snd_una - (u32)tcp->bytes_acked, received = tcp->rcv_nxt - (u32)tcp->bytes_received;

	if (role == ROLE_CLIENT)
		return (u64)(sent + 1) << 32 | received;
	return (u64)received << 32 | sent;
}

static __always_inline u16 bound_port_of(struct sock *sk)
{
	return bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport)); /* skc_num is gone when a socket closes */
}

/* A first subflow is established: what is known of the connection goes to its whole. */
static __noinline int hand_to_whole(struct sock *sk, struct socket_state *state)
{
	struct sock *whole = whole_of(sk);
	struct socket_state *kept = whole ? bpf_sk_storage_get(&sockets, whole, 0, BPF_SK_STORAGE_GET_F_CREATE) : NULL;

	if (!kept) {
		if (whole)
			count_lost(LOST_SOCKET_STORAGE);
		return 0; /* without a whole in sight it counts as the connection that it is */
	}
	*kept = *state;
	kept->tcp_state = TCP_ESTABLISHED;
	__sync_fetch_and_or(&state->flags, SOCKET_SUBFLOW);
	__sync_lock_test_and_set(&kept->self, (u64)whole); /* last: until now a walk passes it by */
	return 0;
}

static __noinline int on_established_client(struct sock *sk, struct socket_state *state)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct pair pair = {.client_owner = state->owner};
	u64 duration_us = (bpf_ktime_get_ns() - state->start_ns) / 1000;

	if (!tcp)
		return 0;
	state->local_port = bound_port_of(sk);
	state->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	state->pair = pair_of(tcp, ROLE_CLIENT);
	if (!(state->flags & SOCKET_CAUGHT_UP))
		state->connect_us = duration_us > 0xfffffffe ? 0xffffffff : duration_us + 1;
	find_backend(sk, state);
	if (bpf_map_update_elem(&pairs, &state->pair, &pair, BPF_ANY))
		count_lost(LOST_PAIR_TABLE_FULL);
	__sync_fetch_and_or(&state->flags, SOCKET_ESTABLISHED);
	if (is_subflow(tcp))
		hand_to_whole(sk, state);
	if (payload_unseen(tcp))
		count_lost(LOST_MPTCP_PAYLOAD);
	return 0;
}

/* The state is a copy of the listener's, from which only the owner is taken over. A whole does not know its first subflow
 * yet, nor the other end: see resolve_edge(). */
static __noinline int on_established_server(struct sock *sk, struct socket_state *state)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	u32 owner = state->owner, kept = state->flags & (SOCKET_IGNORED | SOCKET_CAUGHT_UP);
	struct pair *pair;

	if (!tcp && !is_whole(sk))
		return 0;
	__builtin_memset(&state->pair, 0,
			 __builtin_offsetof(struct socket_state, flags) - __builtin_offsetof(struct socket_state, pair));
	__builtin_memset(&state->local_port, 0,
			 sizeof(*state) - __builtin_offsetof(struct socket_state, local_port));
	state->flags = kept | SOCKET_ESTABLISHED | (tcp && is_subflow(tcp) ? SOCKET_SUBFLOW : 0);
	state->role = ROLE_SERVER;
	state->tcp_state = TCP_ESTABLISHED;
	state->owner = owner;
	state->listener_owner = owner;
	state->start_ns = bpf_ktime_get_ns();
	state->local_port = bound_port_of(sk);
	state->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (tcp)
		state->pair = pair_of(tcp, ROLE_SERVER);
	if (tcp && payload_unseen(tcp))
		count_lost(LOST_MPTCP_PAYLOAD);
	/* Last, and with a barrier: until now a walk takes this for a copy and passes it by. */
	__sync_lock_test_and_set(&state->self, (u64)sk);
	/* Tell the client's end who listens: it may be resolved before this one is. */
	pair = bpf_map_lookup_elem(&pairs, &state->pair);
	if (pair)
		pair->server_owner = owner;
	return 0;
}

/* Makes up for a connection that was established unseen. One processor does, the others go without. */
static __noinline int establish_late(struct sock *sk, struct socket_state *state)
{
	if (__sync_fetch_and_or(&state->flags, SOCKET_CAUGHT_UP) & SOCKET_CAUGHT_UP)
		return 0;
	count_lost(LOST_ESTABLISHED);
	if (state->self != (u64)sk)
		return on_established_server(sk, state);
	return on_established_client(sk, state);
}

/* Did a socket in this state have a connection? */
static __always_inline bool was_established(int tcp_state)
{
	return tcp_state != TCP_CLOSE && tcp_state != TCP_LISTEN && tcp_state != TCP_SYN_SENT &&
	       tcp_state != TCP_SYN_RECV && tcp_state != TCP_NEW_SYN_RECV;
}

/*
 * The state of a socket that is not marked as established. If its own state says that it is, the transition was missed: the
 * kernel calls the tracepoint first and changes the state then. NULL: it is still a copy of its listener's.
 */
static __noinline struct socket_state *catch_up(struct sock *sk, struct socket_state *state)
{
	bool own = state->self == (u64)sk;

	if (was_established(sk->__sk_common.skc_state) && (!own || state->role == ROLE_CLIENT))
		establish_late(sk, state);
	return state->self == (u64)sk ? state : NULL;
}
