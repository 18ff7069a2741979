/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Adopts sockets that were open before the agent was. Used by walk.h's walks over descriptors.
 */
#pragma once

#include "edge.h"
#include "nat.h"
#include "owner.h"
#include "socket.h"
#include "tcp_account.h"

static __always_inline u64 mix64(u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	x ^= x >> 33;
	return x;
}

static __always_inline u64 endpoint_hash(const u32 address[4], u16 port, u32 netns)
{
	return mix64(mix64((u64)address[0] << 32 | address[1]) ^ mix64((u64)address[2] << 32 | address[3]) ^
		     mix64((u64)netns << 32 | port));
}

/* The sequence numbers that both ends began with are long gone: the addresses, in no order, have to do. */
static __noinline u64 pair_of_old(struct sock *sk, u32 netns)
{
	u32 local[4] = {}, remote[4] = {};
	u8 family = remote_address(sk, (u8 *)remote);

	local_address(sk, (u8 *)local);
	if (!is_loopback((u8 *)remote, family))
		netns = 0; /* the other end may live in another one */
	return endpoint_hash(local, local_port_of(sk), netns) +
	       endpoint_hash(remote, bpf_ntohs(sk->__sk_common.skc_dport), netns);
}

static __always_inline void join_pair(struct socket_state *state)
{
	struct pair empty = {}, *pair;

	bpf_map_update_elem(&pairs, &state->pair, &empty, BPF_NOEXIST);
	pair = bpf_map_lookup_elem(&pairs, &state->pair);
	if (!pair)
		count_lost(LOST_PAIR_TABLE_FULL);
	else if (state->role == ROLE_CLIENT)
		pair->client_owner = state->owner;
	else
		pair->server_owner = state->owner;
}

static __noinline int adopt_old_connection(struct sock *sk, struct task_struct *task, u32 netns, u32 flags)
{
	struct socket_state first = {.self = (u64)sk};
	struct listen_key listen = {.netns = netns, .port = local_port_of(sk)};
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct connection_account moved = {};
	u32 jiffies = (u32)bpf_jiffies64();
	struct edge_state *shared;

	if (!tcp && !is_whole(sk))
		return 0;
	first.role = bpf_map_lookup_elem(&listen_ports, &listen) ? ROLE_SERVER : ROLE_CLIENT;
	first.flags = flags | SOCKET_ESTABLISHED | SOCKET_COUNTED | SOCKET_PREEXISTING | SOCKET_OWNER_CONFIRMED |
		      SOCKET_OWNER_SETTLED;
	first.owner = first.listener_owner = owner_of(task);
	first.start_ns = bpf_ktime_get_ns();
	first.local_port = listen.port;
	first.remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	first.pair = pair_of_old(sk, netns);
	if (tcp)
		read_connection(sk, tcp, &moved, jiffies);
	else if (is_whole(sk))
		read_whole(sk, &moved, jiffies);
	first.sent_bytes = moved.sent_bytes;
	first.received_bytes = moved.received_bytes;
	first.retransmitted_segments = moved.retransmitted_segments;
	first.out_of_order_segments = moved.out_of_order_segments;
	first.receiver_limited = moved.receiver_limited;
	first.sndbuf_limited = moved.sndbuf_limited;
	if (first.role == ROLE_CLIENT)
		find_backend(sk, &first);
	if (!bpf_sk_storage_get(&sockets, sk, &first, BPF_SK_STORAGE_GET_F_CREATE)) {
		count_lost(LOST_SOCKET_STORAGE);
		return 0;
	}
	join_pair(&first);
	shared = shared_state();
	if (shared && first.role == ROLE_SERVER)
		ATOMIC_ADD(shared->old_found, 1);
	return 0;
}

static __noinline int adopt_old_listener(struct sock *sk, struct task_struct *task, u32 netns, u32 flags)
{
	struct socket_state first = {.self = (u64)sk, .role = ROLE_LISTENER, .flags = flags | SOCKET_PREEXISTING};
	struct listen_key listen = {.netns = netns, .port = local_port_of(sk)};
	struct listener_account queue = {};
	struct edge_state *shared;

	first.owner = first.listener_owner = owner_of(task);
	first.start_ns = bpf_ktime_get_ns();
	first.local_port = listen.port;
	read_listener(sk, &queue);
	first.listen_drops = queue.listen_drops;
	bpf_map_update_elem(&listen_ports, &listen, &first.owner, BPF_ANY);
	if (!bpf_sk_storage_get(&sockets, sk, &first, BPF_SK_STORAGE_GET_F_CREATE)) {
		count_lost(LOST_SOCKET_STORAGE);
		return 0;
	}
	/* From here on what it accepts has a state; what waits in its queue has none until a process holds it. */
	shared = shared_state();
	if (shared && !flags)
		ATOMIC_ADD(shared->queued_before, queue.listen_backlog);
	return 0;
}
