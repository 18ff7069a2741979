/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Multipath TCP. A process holds one socket (the whole), under which the kernel has a TCP socket for each path (subflows).
 * The whole is what counts as the connection, or the listener: it has the state, the edge and the bytes, of which each
 * counts once, whatever path it took and however often. Its subflows have none of their own (SOCKET_SUBFLOW). What only a
 * TCP socket knows (round trips, retransmissions, who waits for whom, a listener's queue) is read from the first one.
 *
 * From a subflow the way to its whole is its `struct socket`. The other way the verifier knows no types, so that all there
 * is read like any kernel memory; such a read of one that is gone fails, or finds another's figures at worst for one walk.
 *
 * A connection that began as MPTCP with a peer that speaks only TCP is a whole with one subflow at the end that asked; at
 * the end that listened it is a TCP socket like any other.
 */
#pragma once

#include "kernel_types.h"
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct mptcp_sock___core {
	u64 bytes_sent; /* since 6.5, 38967f424b5b ("mptcp: track some aggregate data counters"); sent again is not in it */
	u64 bytes_received;
	struct sock *first;
};
struct tcp_sock___mptcp {
	bool is_mptcp;
};
struct inet_connection_sock___mptcp {
	void *icsk_ulp_data;
};
struct mptcp_subflow_context___core {
	u32 request_join : 1;
};
struct sock___mptcp {
	struct socket *sk_socket;
};
#pragma clang attribute pop

/* Before that wholes are not followed: each subflow counts as a connection. */
static __always_inline bool mptcp_followed(void)
{
	return bpf_core_field_exists(((struct mptcp_sock___core *)0)->bytes_sent);
}

static __always_inline bool is_whole(struct sock *sk)
{
	return mptcp_followed() && sk->sk_protocol == IPPROTO_MPTCP;
}

/* A connection, or a listener, of a process. */
static __always_inline bool is_stream_socket(struct sock *sk)
{
	return sk->sk_protocol == IPPROTO_TCP || is_whole(sk);
}

static __always_inline bool is_subflow(struct tcp_sock *tcp)
{
	return mptcp_followed() && ((struct tcp_sock___mptcp *)tcp)->is_mptcp;
}

/* Where wholes are not followed no protocol sees what passes. */
static __always_inline bool payload_unseen(struct tcp_sock *tcp)
{
	struct tcp_sock___mptcp *fields = (void *)tcp;

	return !mptcp_followed() && bpf_core_field_exists(fields->is_mptcp) && fields->is_mptcp;
}

/* Is it a path more of a connection that there is already? For the end that opens it. */
static __always_inline bool joins_whole(struct sock *sk)
{
	struct mptcp_subflow_context___core *subflow =
		BPF_CORE_READ((struct inet_connection_sock___mptcp *)sk, icsk_ulp_data);

	return subflow && BPF_CORE_READ_BITFIELD_PROBED(subflow, request_join);
}

/* The socket that the process holds. NULL: none does, any more or yet. */
static __always_inline struct sock *whole_of(struct sock *sk)
{
	struct socket *socket = ((struct sock___mptcp *)sk)->sk_socket;
	struct sock *whole = socket ? socket->sk : NULL;

	return whole && is_whole(whole) ? whole : NULL;
}

/* To be read like any kernel memory. */
static __always_inline struct sock *first_subflow(struct sock *sk)
{
	return BPF_CORE_READ((struct mptcp_sock___core *)sk, first);
}
