/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a process dialled, where a program on connect() has replaced the address: see nat.h. Used by connection.h.
 */
#pragma once

#include "address.h"
#include "edge.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* The registers at the entry of a system call, by architecture: only one of these exists on a kernel. */
struct pt_regs___nat_x86 {
	unsigned long bx, cx, si, dx, ax, orig_ax, cs;
};
struct pt_regs___nat_arm64 {
	u64 regs[31];
	u64 pstate;
	s32 syscallno;
};
#pragma clang attribute pop

/* The same of a 32-bit program. arch/x86/entry/syscalls/syscall_32.tbl, include/uapi/linux/net.h */
static __always_inline void *connect_argument_i386(struct pt_regs___nat_x86 *regs, u64 *length)
{
	u32 arguments[3]; /* of socketcall(): file descriptor, address, length */

	if (BPF_CORE_READ(regs, orig_ax) == 362 /* connect */) {
		*length = (u32)BPF_CORE_READ(regs, dx);
		return (void *)(u64)(u32)BPF_CORE_READ(regs, cx);
	}
	if (BPF_CORE_READ(regs, orig_ax) != 102 /* socketcall */ || (u32)BPF_CORE_READ(regs, bx) != 3 /* connect */ ||
	    bpf_probe_read_user(arguments, sizeof(arguments), (void *)(u64)(u32)BPF_CORE_READ(regs, cx)))
		return NULL;
	*length = arguments[2];
	return (void *)(u64)arguments[1];
}

/* The user's arguments of connect(fd, address, length), if that is the call that runs. */
static __always_inline void *connect_argument(u64 *length)
{
	void *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct pt_regs___nat_x86 *x86 = regs;
	struct pt_regs___nat_arm64 *arm64 = regs;

	if (bpf_core_field_exists(x86->orig_ax)) {
		if (BPF_CORE_READ(x86, cs) == 0x23 /* __USER32_CS */)
			return connect_argument_i386(x86, length);
		if (BPF_CORE_READ(x86, orig_ax) != 42) /* arch/x86/entry/syscalls/syscall_64.tbl */
			return NULL;
		*length = BPF_CORE_READ(x86, dx);
		return (void *)BPF_CORE_READ(x86, si);
	}
	if (BPF_CORE_READ(arm64, pstate) & 0x10) { /* PSR_MODE32_BIT */
		if (BPF_CORE_READ(arm64, syscallno) != 283) /* arch/arm/tools/syscall.tbl */
			return NULL;
	} else if (BPF_CORE_READ(arm64, syscallno) != 203) { /* include/uapi/asm-generic/unistd.h */
		return NULL;
	}
	*length = BPF_CORE_READ(arm64, regs[2]);
	return (void *)BPF_CORE_READ(arm64, regs[1]);
}

/* What the system call that is over has answered. */
static __always_inline long call_result(void)
{
	void *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct pt_regs___nat_x86 *x86 = regs;
	struct pt_regs___nat_arm64 *arm64 = regs;

	if (bpf_core_field_exists(x86->orig_ax))
		return BPF_CORE_READ(x86, ax);
	return BPF_CORE_READ(arm64, regs[0]);
}

/* struct sockaddr_in, struct sockaddr_in6 */
struct address {
	u16 family;
	__be16 port;
	u32 words[6]; /* IPv4: address; IPv6: flow label, address, scope */
};

/* Reads the address that connect() was given, as the process or as the kernel has it. */
static __always_inline bool read_address(struct address *given, void *from, u64 length, bool user)
{
	u16 family = 0;

	if (user ? bpf_probe_read_user(&family, 2, from) : bpf_probe_read_kernel(&family, 2, from))
		return false;
	if (family == AF_INET6 && length >= 24)
		return !(user ? bpf_probe_read_user(given, 24, from) : bpf_probe_read_kernel(given, 24, from));
	if (family == AF_INET && length >= 16)
		return !(user ? bpf_probe_read_user(given, 8, from) : bpf_probe_read_kernel(given, 8, from));
	return false;
}

/* The address in the form that keys have; says 4 for IPv4 and v4-mapped, 6 for the rest. */
static __always_inline u8 endpoint_of(const struct address *given, u8 address[16])
{
	u32 *words = (u32 *)address;

	if (given->family == AF_INET) {
		words[0] = 0;
		words[1] = 0;
		words[2] = bpf_htonl(0xffff);
		words[3] = given->words[0];
		return 4;
	}
	words[0] = given->words[1];
	words[1] = given->words[2];
	words[2] = given->words[3];
	words[3] = given->words[4];
	return words[0] == 0 && words[1] == 0 && words[2] == bpf_htonl(0xffff) ? 4 : 6;
}

/*
 * Keeps what the process asked for, where the socket is connected to something else. Called in connect(), when the
 * kernel has its copy of the address; a process that overwrites its own meanwhile deceives only itself.
 * Where no system call says it (io_uring, TCP Fast Open), the connection counts as one to the pod itself.
 */
static __noinline int find_dialled(struct sock *sk, struct socket_state *state)
{
	struct range_key dialled = {.prefix_bits = 128};
	u32 *words = (u32 *)dialled.address;
	u32 now[4] = {};
	struct range *range;
	struct address given = {};
	u64 length = 0;
	void *argument = connect_argument(&length);

	if (!argument || !read_address(&given, argument, length, true))
		return 0;
	endpoint_of(&given, dialled.address);
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
