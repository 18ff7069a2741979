/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What every probe shares: edges and owners, the one hook on the life of connections, and the one walk over sockets.
 * Nothing here runs per packet: the state tracepoint sees a connection begin and end, and everything between is what the
 * kernel keeps in the socket anyway, read by a walk over all sockets at collection (core_walk) and once more when
 * the socket closes. TCP's totals are taken on the way, where the TCP probe is on (tcp_totals.h); protocols are called at
 * the end of a connection and at every walk (stream_programs.h).
 *
 * Byte counts are the application's: a SYN or FIN is no byte, a retransmitted byte counts once.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "edge.h"
#include "owner.h"
#include "socket.h"
#include "nat.h"
#include "conntrack.h"
#include "tcp_account.h"
#include "connection.h"
#include "old_sockets.h"
#include "preemption.h"
#include "stream_programs.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * Several programs on one tracepoint. Since Linux 6.1 the kernel does not run a tracing program that is already running on
 * the same processor, and a softirq may well establish or close one connection while a system call is closing another: the
 * event would be gone. Whichever of the programs is free handles it; the others see that in the socket's state. Two are
 * enough where tracepoints are not preempted: TCP changes state in a system call and in softirq, and nowhere else.
 *
 * Linux 7.0 made them preemptible, and a program that was preempted counts as running: there ours forbid it while they
 * work, and two more are there for the instants before and after. What all of them miss is made up for: that a connection
 * is established is seen at its next transition, by what asks for its state (socket_state_of), or when it ends; that it
 * has ended, when the socket is freed; requests that were read after a reset are told of there, too. Only the handshake's
 * time is not known then, and perhaps the other end. That is no substitute for a backup program: docs/design.md says what
 * it would cost.
 */
#define STATE_PROGRAM(name, first)                                                                             \
	SEC("tp_btf/inet_sock_set_state")                                                                      \
	int BPF_PROG(name, struct sock *sk, int before, int after)                                             \
	{                                                                                                      \
		u32 protocol;                                                                                  \
                                                                                                               \
		forbid_preemption();                                                                           \
		protocol = on_transition(sk, before, after, first);                                            \
		allow_preemption();                                                                            \
		call_stream_program(ctx, &stream_end_programs, protocol);                                      \
		return 0;                                                                                      \
	}

STATE_PROGRAM(core_state, true)
STATE_PROGRAM(core_state_backup, false)
STATE_PROGRAM(core_state_backup2, false)
STATE_PROGRAM(core_state_backup3, false)

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(core_state_destroyed, struct sock *sk)
{
	u32 protocol;

	forbid_preemption();
	protocol = on_destroy(sk);
	allow_preemption();
	call_stream_program(ctx, &stream_destroy_programs, protocol);
	return 0;
}

#include "connect_results.h"
#include "tcp_resets.h"
#include "walk.h"
