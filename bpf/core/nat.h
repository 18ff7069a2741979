/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which pod answers where a Service was dialled. A client's socket knows one of the two addresses:
 *
 *   what was dialled, where the host's connection tracking translates it on the way (iptables, nftables, IPVS);
 *   what answers, where a program on connect() has replaced the address (socket-level load balancing).
 *
 * The other one is noted here, once per connection: in the first case from the table of translations, which
 * conntrack.h fills, in the second from the system call, which still has the address that the process gave.
 */
#pragma once

#include "edge.h"
#include "socket.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

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

/* Notes what the connection is translated to, if it is. The port is lost to `skc_num` when a connect has failed. */
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
	key.server_port = bpf_ntohs(sk->__sk_common.skc_dport);
	backend = bpf_map_lookup_elem(&backends, &key);
	if (!backend)
		return 0;
	__builtin_memcpy(state->other, backend->address, 16);
	state->other_port = backend->port;
	__sync_fetch_and_or(&state->flags, SOCKET_TRANSLATED);
	bpf_map_delete_elem(&backends, &key);
	return 0;
}

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* The registers at the entry of a system call, by architecture: only one of these exists on a kernel. */
struct pt_regs___nat_x86 {
	unsigned long si, dx, orig_ax;
};
struct pt_regs___nat_arm64 {
	u64 regs[31];
	s32 syscallno;
};
#pragma clang attribute pop

/* The user's arguments of connect(fd, address, length), if that is the call that runs. */
static __always_inline void *connect_argument(u64 *length)
{
	void *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct pt_regs___nat_x86 *x86 = regs;
	struct pt_regs___nat_arm64 *arm64 = regs;

	if (bpf_core_field_exists(x86->orig_ax)) {
		if (BPF_CORE_READ(x86, orig_ax) != 42) /* arch/x86/entry/syscalls/syscall_64.tbl */
			return NULL;
		*length = BPF_CORE_READ(x86, dx);
		return (void *)BPF_CORE_READ(x86, si);
	}
	if (BPF_CORE_READ(arm64, syscallno) != 203) /* include/uapi/asm-generic/unistd.h */
		return NULL;
	*length = BPF_CORE_READ(arm64, regs[2]);
	return (void *)BPF_CORE_READ(arm64, regs[1]);
}

/*
 * Notes what the process asked for, where the socket is connected to something else. Called in connect(), when the
 * kernel has its copy of the address; a process that overwrites its own meanwhile deceives nobody but itself.
 * Where no system call says it (io_uring, TCP Fast Open), the connection counts as one to the pod itself.
 */
static __noinline int find_dialled(struct sock *sk, struct socket_state *state)
{
	struct range_key dialled = {.prefix_bits = 128};
	u32 *words = (u32 *)dialled.address;
	u32 now[4] = {};
	struct range *range;
	struct {
		u16 family;
		__be16 port;
		u32 words[6]; /* IPv4: address; IPv6: flow label, address, scope */
	} given = {};
	u64 length = 0;
	void *argument = connect_argument(&length);

	if (!argument || length < 8 || bpf_probe_read_user(&given, 8, argument))
		return 0;
	if (given.family == AF_INET) {
		words[2] = bpf_htonl(0xffff);
		words[3] = given.words[0];
	} else if (given.family == AF_INET6 && length >= 24 && !bpf_probe_read_user(&given, 24, argument)) {
		words[0] = given.words[1];
		words[1] = given.words[2];
		words[2] = given.words[3];
		words[3] = given.words[4];
	} else {
		return 0;
	}
	remote_address(sk, (u8 *)now);
	if (now[0] == words[0] && now[1] == words[1] && now[2] == words[2] && now[3] == words[3] &&
	    sk->__sk_common.skc_dport == given.port)
		return 0;
	range = bpf_map_lookup_elem(&ranges, &dialled);
	if (!range || range->kind != RANGE_KEEP)
		return 0; /* 0.0.0.0 and the like */
	__builtin_memcpy(state->other, dialled.address, 16);
	state->other_port = bpf_ntohs(given.port);
	__sync_fetch_and_or(&state->flags, SOCKET_REDIRECTED);
	return 0;
}
