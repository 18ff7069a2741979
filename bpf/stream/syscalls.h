/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The kernel's types that the stream layer reads, by CO-RE, and how a system call says where its buffers are.
 */
#pragma once

#include "kernel_types.h"
#include "core/mptcp.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

typedef unsigned long size_t;

#define EAGAIN 11
#define ENOSYS 38

#define PF_IO_WORKER 0x00000010 /* serves io_uring, in the memory of the process that uses it */

#define MSG_OOB 0x1
#define MSG_PEEK 0x2
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_ERRQUEUE 0x2000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
/* The registers at the entry of a system call, by architecture: only one of these exists on a kernel. */
struct pt_regs___stream_x86 {
	unsigned long bx, cx, di, si, dx, r8, ax, orig_ax, cs;
};
struct pt_regs___stream_arm64 {
	u64 regs[31];
	u64 pstate;
	u64 orig_x0;
	s32 syscallno;
};
struct socket___stream {
	void *file;
};
struct sock___stream {
	u8 sk_shutdown;
	struct socket___stream *sk_socket;
};
struct tcp_sock___stream {
	u64 tcp_clock_cache;
	u32 copied_seq;
	u32 write_seq;
	u32 rcv_nxt;
};
struct sk_buff_head___stream {
	u32 qlen;
};
struct sock___stream_queue {
	struct sk_buff_head___stream sk_receive_queue;
};
struct mptcp_sock___stream {
	u64 write_seq;
	u64 bytes_received;
	u64 bytes_consumed; /* since 6.18 */
};
struct task_struct___stream {
	void *io_uring;
};
struct iovec {
	void *iov_base;
	unsigned long iov_len;
};
struct iov_iter {
	u8 iter_type; /* enum iter_type; a byte of its own since 5.14 */
	size_t iov_offset;
	size_t count;
	unsigned long nr_segs;
};
struct iov_iter___iov {
	const struct iovec *iov;
};
/* renamed in 6.4 by 747b1f65d39a ("iov_iter: overlay struct iovec and ubuf/len") */
struct iov_iter___named {
	const struct iovec *__iov;
};
/* since 6.0, fcb14cb1bdac ("new iov_iter flavour - ITER_UBUF") */
struct iov_iter___ubuf {
	void *ubuf;
};
struct msghdr {
	struct iov_iter msg_iter;
};
#pragma clang attribute pop

enum iter_type {
	ITER_IOVEC = 100, /* libbpf puts the running kernel's values here */
	ITER_UBUF = 101,
};

/* How a system call says where its buffers are. */
enum stream_shape {
	SHAPE_NONE,    /* not at all, or only the kernel sees them */
	SHAPE_BUFFER,  /* (fd, buffer, length) */
	SHAPE_VECTOR,  /* (fd, iovecs, count) */
	SHAPE_MESSAGE, /* (fd, msghdr) */
	SHAPE_MESSAGES, /* (fd, mmsghdrs, count) */
};
#define SHAPE_SENDS 16	  /* or'ed to a shape */
#define SHAPE_NETWORK 32  /* for sockets only */

static __always_inline bool stream_is_x86(void)
{
	return bpf_core_field_exists(((struct pt_regs___stream_x86 *)0)->orig_ax);
}

/* arch/x86/entry/syscalls/syscall_64.tbl */
static __always_inline u32 stream_shape_x86(long number)
{
	switch (number) {
	case 0: /* read */
		return SHAPE_BUFFER;
	case 1: /* write */
		return SHAPE_BUFFER | SHAPE_SENDS;
	case 19: /* readv */
		return SHAPE_VECTOR;
	case 20: /* writev */
		return SHAPE_VECTOR | SHAPE_SENDS;
	case 40: /* sendfile */
	case 275: /* splice */
		return SHAPE_NONE | SHAPE_SENDS;
	case 44: /* sendto */
		return SHAPE_BUFFER | SHAPE_SENDS | SHAPE_NETWORK;
	case 45: /* recvfrom */
		return SHAPE_BUFFER | SHAPE_NETWORK;
	case 46: /* sendmsg */
		return SHAPE_MESSAGE | SHAPE_SENDS | SHAPE_NETWORK;
	case 47: /* recvmsg */
		return SHAPE_MESSAGE | SHAPE_NETWORK;
	case 299: /* recvmmsg */
		return SHAPE_MESSAGES | SHAPE_NETWORK;
	case 307: /* sendmmsg */
		return SHAPE_MESSAGES | SHAPE_SENDS | SHAPE_NETWORK;
	}
	return SHAPE_NONE;
}

/* include/uapi/asm-generic/unistd.h */
static __always_inline u32 stream_shape_arm64(long number)
{
	switch (number) {
	case 63: /* read */
		return SHAPE_BUFFER;
	case 64: /* write */
		return SHAPE_BUFFER | SHAPE_SENDS;
	case 65: /* readv */
		return SHAPE_VECTOR;
	case 66: /* writev */
		return SHAPE_VECTOR | SHAPE_SENDS;
	case 71: /* sendfile */
	case 76: /* splice */
		return SHAPE_NONE | SHAPE_SENDS;
	case 206: /* sendto */
		return SHAPE_BUFFER | SHAPE_SENDS | SHAPE_NETWORK;
	case 207: /* recvfrom */
		return SHAPE_BUFFER | SHAPE_NETWORK;
	case 211: /* sendmsg */
		return SHAPE_MESSAGE | SHAPE_SENDS | SHAPE_NETWORK;
	case 212: /* recvmsg */
		return SHAPE_MESSAGE | SHAPE_NETWORK;
	case 243: /* recvmmsg */
		return SHAPE_MESSAGES | SHAPE_NETWORK;
	case 269: /* sendmmsg */
		return SHAPE_MESSAGES | SHAPE_SENDS | SHAPE_NETWORK;
	}
	return SHAPE_NONE;
}

static __always_inline u32 stream_shape(long number)
{
	return stream_is_x86() ? stream_shape_x86(number) : stream_shape_arm64(number);
}

/* The system call that a task is in. */
struct stream_syscall {
	u32 shape;   /* enum stream_shape; SHAPE_NONE where there is none, too */
	bool compat; /* of a 32-bit program, whose structures differ */
	u64 buffer;
	u64 length;
	u64 fifth; /* the timeout of recvmmsg */
};

#include "stream/compat.h"

/*
 * io_uring's work is also done when any other system call is over, on the way back to the process; the registers
 * still show that call. x86 holds -ENOSYS where the result goes until there is one. arm64 holds the first argument
 * there, which a result may equal: a task that uses io_uring is not looked at.
 */
static __always_inline void stream_read_syscall(struct pt_regs *regs, struct task_struct *task,
						struct stream_syscall *call)
{
	call->compat = false;
	if (stream_is_x86()) {
		struct pt_regs___stream_x86 *x86 = (void *)regs;

		if (x86->ax != (unsigned long)-ENOSYS) {
			call->shape = SHAPE_NONE;
			return;
		}
		if (x86->cs == 0x23 /* __USER32_CS */) {
			stream_read_i386(x86, call);
			return;
		}
		call->shape = stream_shape_x86(x86->orig_ax);
		call->buffer = x86->si;
		call->length = x86->dx;
		call->fifth = x86->r8;
	} else {
		struct pt_regs___stream_arm64 *arm64 = (void *)regs;
		struct task_struct___stream *fields = (void *)task;
		bool rings = bpf_core_field_exists(fields->io_uring) && fields->io_uring;

		if (!rings && (arm64->pstate & 0x10 /* PSR_MODE32_BIT */)) {
			stream_read_arm(arm64, call);
			return;
		}
		call->shape = rings ? SHAPE_NONE : stream_shape_arm64(arm64->syscallno);
		call->buffer = arm64->regs[1];
		call->length = arm64->regs[2];
		call->fifth = arm64->regs[4];
	}
}

/* struct user_msghdr */
struct stream_msghdr {
	u64 name;
	u64 name_length;
	u64 iov;
	u64 iov_count;
};
#define STREAM_MMSGHDR 64 /* sizeof(struct mmsghdr) */

/* Sequence number behind the last byte that the process has sent, or received. A call that reads up to the end takes
 * the FIN too, which has a number of its own. */
static __always_inline u32 stream_position(struct sock *sk, struct tcp_sock *tcp, bool sends)
{
	struct tcp_sock___stream *fields = (void *)tcp;
	u32 read;

	if (sends)
		return fields->write_seq;
	read = fields->copied_seq;
	if ((sk->__sk_common.skc_flags & (1UL << SOCK_DONE)) && read == fields->rcv_nxt)
		read--;
	return read;
}

/*
 * The same of MPTCP's whole. Where the kernel does not say how much a process has received, no tracing program is preempted
 * either, so that each call is met once: what it has moved lies behind what the one before has.
 */
static __always_inline u32 stream_whole_position(struct sock *sk, u32 next, int length, bool sends)
{
	struct mptcp_sock___stream *whole = (void *)sk;

	if (sends)
		return BPF_CORE_READ(whole, write_seq);
	if (bpf_core_field_exists(whole->bytes_consumed))
		return BPF_CORE_READ(whole, bytes_consumed);
	return next + length;
}

/* Does a process hold it? Sockets of the kernel's own (CIFS, NFS) are used within system calls on something else. */
static __always_inline bool stream_has_file(struct sock *sk)
{
	struct socket___stream *socket = ((struct sock___stream *)sk)->sk_socket;

	return socket && socket->file;
}

static __always_inline u8 stream_shutdown(struct sock *sk)
{
	return ((struct sock___stream *)sk)->sk_shutdown;
}

/* Bytes that arrived and that the process has not taken yet. A FIN is not one. */
static __always_inline bool stream_unread(struct sock *sk, struct tcp_sock *tcp)
{
	struct tcp_sock___stream *fields = (void *)tcp;
	u32 unread = fields->rcv_nxt - fields->copied_seq;

	return unread > ((sk->__sk_common.skc_flags & (1UL << SOCK_DONE)) ? 1 : 0);
}

static __always_inline bool stream_whole_unread(struct sock *sk)
{
	struct mptcp_sock___stream *whole = (void *)sk;

	if (bpf_core_field_exists(whole->bytes_consumed))
		return BPF_CORE_READ(whole, bytes_received) != BPF_CORE_READ(whole, bytes_consumed);
	return BPF_CORE_READ((struct sock___stream_queue *)sk, sk_receive_queue.qlen);
}
