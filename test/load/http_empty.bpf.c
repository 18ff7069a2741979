/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Empty programs on the hooks of the HTTP probe's tracepoint provider. What they cost is what the kernel takes for
 * calling a program and taking its time; the bench prints it beside the probe's own cost. Built by http.ts.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#ifdef SENDMSG_LOCKED /* Linux 6.16 */
SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(empty_begins, struct sock *sk)
{
	return 0;
}
#else
SEC("tp_btf/sys_enter")
int BPF_PROG(empty_sys_enter, struct pt_regs *registers, long number)
{
	return 0;
}
#endif

SEC("tp_btf/sock_send_length")
int BPF_PROG(empty_sent, struct sock *sk, int length, int flags)
{
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(empty_received, struct sock *sk, int length, int flags)
{
	return 0;
}
