/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which pod answers where a Service was dialled. A client's socket knows one of the two addresses:
 *
 *   what was dialled, where the host's connection tracking translates it on the way (iptables, nftables, IPVS);
 *   what answers, where a program on connect() has replaced the address (socket-level load balancing).
 *
 * The other one is kept here, once per connection: in the first case from the table of translations, which conntrack.h
 * fills, in the second from the system call, which still has the address that the process gave (dialled.h).
 */
#pragma once

#include "address.h"
#include "edge.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

/* A connection as its client sees it. Addresses v4-mapped, ports in host order. */
struct connection_key {
	u8 client[16];
	u8 server[16];
	u16 client_port;
	u16 server_port;
};
struct backend {
	u8 address[16];
	u16 port;
	u16 pad;
};

/* What connections that were dialled at one address are translated to. Written by the conntrack program when the SYN
 * passes, taken out by the client's socket a round trip later, when it is established. What is left is of clients that
 * are not on this host. LRU: the oldest go first; a client that finds nothing stays with what it dialled. Sized by
 * limits.sockets, so that a restarted agent finds those of all open connections. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct connection_key);
	__type(value, struct backend);
} backends SEC(".maps");

/* Keeps what the connection is translated to, if it is. The port is lost to `skc_num` when a connect has failed. */
static __noinline int find_backend(struct sock *sk, struct socket_state *state)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct connection_key key = {};
	struct backend *backend;

	if (!tcp || (state->flags & SOCKET_REDIRECTED))
		return 0;
	local_address(sk, key.client);
	remote_address(sk, key.server);
	key.client_port = bpf_ntohs(tcp->inet_conn.icsk_inet.inet_sport);
	key.server_port = state->remote_port;
	backend = bpf_map_lookup_elem(&backends, &key);
	if (!backend)
		return 0;
	__builtin_memcpy(state->other, backend->address, 16);
	state->other_port = backend->port;
	__sync_fetch_and_or(&state->flags, SOCKET_TRANSLATED);
	bpf_map_delete_elem(&backends, &key);
	return 0;
}
