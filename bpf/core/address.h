/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Addresses and ports of a socket, in the form that keys have: v4-mapped, ports in host order.
 */
#pragma once

#include "kernel_types.h"
#include <bpf/bpf_endian.h>

static __always_inline u16 local_port_of(struct sock *sk)
{
	return sk->__sk_common.skc_num;
}

/* The remote address as 16 bytes; says 4 for IPv4 and v4-mapped, 6 for the rest. */
static __always_inline u8 remote_address(struct sock *sk, u8 address[16])
{
	u32 *words = (u32 *)address;

	if (sk->__sk_common.skc_family == AF_INET6) {
		words[0] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[0];
		words[1] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[1];
		words[2] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[2];
		words[3] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[3];
		return words[0] == 0 && words[1] == 0 && words[2] == bpf_htonl(0xffff) ? 4 : 6;
	}
	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = sk->__sk_common.skc_daddr;
	return 4;
}

/* The local address in the same form. */
static __always_inline void local_address(struct sock *sk, u8 address[16])
{
	u32 *words = (u32 *)address;

	if (sk->__sk_common.skc_family == AF_INET6) {
		words[0] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		words[1] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		words[2] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		words[3] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3];
		return;
	}
	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = sk->__sk_common.skc_rcv_saddr;
}

static __always_inline bool is_loopback(const u8 address[16], u8 family)
{
	const u32 *words = (const u32 *)address;

	if (family == 4)
		return (bpf_ntohl(words[3]) >> 24) == 127;
	return words[0] == 0 && words[1] == 0 && words[2] == 0 && words[3] == bpf_htonl(1);
}
