/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The stream layer: finds all bytes that a process sends and receives on a TCP socket, in order, as pieces of user memory,
 * and hands them to the program of the protocol that the connection speaks. Where the bytes are is found out by one of
 * three providers:
 *
 *   sock_*_length  the tracepoints sock_send_length and sock_recv_length (Linux 6.3) give socket and length, the
 *		    registers of the system call say where the buffers are; where a send began is known from
 *		    tcp_sendmsg_locked (Linux 6.16), before that from sys_enter
 *   fentry	    the entry of tcp_sendmsg and tcp_recvmsg shows the kernel's own iterator over the buffers; the
 *		    tracepoints, or before 6.3 the exit of these functions (fexit), say how it ended
 *   kprobe	    the same by kprobes; they have no way to a socket's storage, so the tracepoints must be there
 *
 * What a task does for itself is seen by each. What io_uring does for it, in a worker or on the way out of some other
 * system call, has no buffers in any registers: there the first cannot see, and must not look.
 *
 * This header holds what the stream object and the protocols' objects share: the working space of a call, and the arrays
 * through which one reaches the other.
 */
#pragma once

#include "core/socket.h"
#include "requests/maps.h"
#include "stream/call.h"

/* Working spaces on a processor: one for each hook and program on it, where one may be preempted in the middle and another
 * run, but never the same one again; else the first serves all. */
#define STREAM_SLOTS 4
#define STREAM_WORK 1536 /* bytes for a call and what its protocol needs while it works */
#define STREAM_PIECES32 32 /* of a 32-bit program's call at most; what lies in more of them is unobserved */
#define STREAM_LOOK 64	 /* bytes that a connection is classified by */
#define STREAM_LOOKS 1024 /* looks at a connection that was open before the agent; a later one is looked at once */

/* What a protocol's programs cost: the kernel accounts the whole to the program that was entered. */
struct stream_cost {
	u64 runs;
	u64 timed_runs; /* one in STREAM_TIMED: to read the clock takes long */
	u64 timed_ns;
};
#define STREAM_TIMED 64

struct stream_work {
	union {
		struct stream_call call;
		u8 space[STREAM_WORK];
	};
	u8 look[STREAM_LOOK];
	struct stream_cost costs[STREAM_PROTOCOLS];
	/* The pieces of a 32-bit program's call, as it gave them and as all others are. */
	struct stream_piece32 {
		u32 base, length;
	} pieces32[STREAM_PIECES32];
	struct stream_piece {
		u64 base, length;
	} pieces[STREAM_PIECES32];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STREAM_SLOTS);
	__type(key, u32);
	__type(value, struct stream_work);
} stream_work SEC(".maps");

/*
 * The protocols' programs, an array for each prototype: a program can only call one that runs in the same kind of place.
 * Filled by userspace. sock_send_length and sock_recv_length have one prototype; there each working space in use has a program.
 */
#define STREAM_PROGRAM_ARRAY(name, count)                                                                      \
	struct {                                                                                               \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                         \
		__uint(max_entries, count);                                                                    \
		__type(key, u32);                                                                              \
		__type(value, u32);                                                                            \
	} name SEC(".maps")

static __always_inline u8 stream_direction_of(u8 role, bool sends)
{
	return sends == (role == ROLE_CLIENT) ? STREAM_REQUESTS : STREAM_ANSWERS;
}

/* Or MPTCP, whose whole is a stream like any other: see core/mptcp.h. */
static __always_inline bool stream_is_tcp(struct sock *sk)
{
	return is_stream_socket(sk) &&
	       (sk->__sk_common.skc_family == AF_INET || sk->__sk_common.skc_family == AF_INET6);
}
