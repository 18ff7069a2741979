/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where a call begins: what is known of it only there is kept as its context, on the socket (tcp_sendmsg_locked) or by
 * thread (system calls, entries of the kernel's functions). The next step is deliver.h.
 */
#pragma once

#include <bpf/bpf_tracing.h>
#include "stream/syscalls.h"
#include "stream/stream.h"

/* The context of a call, by thread: a thread cannot interrupt itself. */
struct stream_context {
	u64 begin_ns; /* of the call that sends */
	u64 sock;     /* the socket whose call was met at its entry, by fentry or kprobe; 0: none */
	u64 buffer;   /* a user address, or a kernel's array of iovecs */
	u64 length;   /* bytes, or iovecs */
	u64 offset;   /* in the first iovec */
	u64 shape;    /* enum stream_shape */
};
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stream_context);
} stream_contexts SEC(".maps");

extern void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym __weak; /* Linux 6.2 */

/* A TCP socket as such. The cast costs nothing; the helper, which asks what it is, does. */
static __always_inline struct tcp_sock *stream_tcp_sock(struct sock *sk, bool may_cast)
{
	if (may_cast && bpf_ksym_exists(bpf_rdonly_cast))
		return bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	return bpf_skc_to_tcp_sock(sk);
}

/* The first piece of what is sent, and where the others are. */
static __always_inline void stream_keep_pieces(struct stream_sends *send, struct msghdr *msg)
{
	struct iov_iter *iter = &msg->msg_iter;
	const struct iovec *iov;

	send->base = 0; /* pages, registered buffers: no address of the process's */
	send->iov_left = 0;
	if (iter->iter_type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		send->base = (u64)((struct iov_iter___ubuf *)iter)->ubuf + iter->iov_offset;
		send->left = iter->count;
	} else if (iter->iter_type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		iov = ((struct iov_iter___named *)iter)->__iov;
		send->base = (u64)iov->iov_base + iter->iov_offset;
		send->left = iov->iov_len - iter->iov_offset;
		send->iov = (u64)(iov + 1);
		send->iov_left = iter->nr_segs - 1;
	}
}

/*
 * When a send begins: once for every buffer that the kernel fills, before it does. The first one counts: it finds that
 * all before it was delivered.
 */
static __always_inline int stream_send_begins(struct sock *sk, struct msghdr *msg)
{
	struct socket_state *state;
	struct tcp_sock *tcp;
	u32 position;
	u8 direction;

	if (!sk || !msg)
		return 0;
	state = socket_state_of(sk);
	if (!state || (state->stream.flags & STREAM_IGNORED))
		return 0;
	tcp = stream_tcp_sock(sk, true);
	if (!tcp)
		return 0;
	direction = stream_direction_of(state->role, true) & 1;
	position = stream_position(sk, tcp, true);
	if (state->sends.begin_ns &&
	    (!state->stream.positioned[direction] || state->stream.next_position[direction] != position))
		return 0;
	state->sends.begin_ns = bpf_ktime_get_ns();
	state->sends.position = position;
	stream_keep_pieces(&state->sends, msg);
	return 0;
}

#define STREAM_BEGIN_PROGRAM(name)                                                                             \
	SEC("tp_btf/tcp_sendmsg_locked")                                                                       \
	int BPF_PROG(name, struct sock *sk, struct msghdr *msg)                                                \
	{                                                                                                      \
		return stream_send_begins(sk, msg);                                                            \
	}

STREAM_BEGIN_PROGRAM(stream_begins)
STREAM_BEGIN_PROGRAM(stream_begins_backup)

/* The same by system calls. Most of them are none, and a thread that never used a network has no storage. */
SEC("tp_btf/sys_enter")
int BPF_PROG(stream_sys_enter, struct pt_regs *regs, long number)
{
	u32 shape = stream_shape(number);
	struct stream_context *context;

	if (!(shape & SHAPE_SENDS))
		return 0;
	context = bpf_task_storage_get(&stream_contexts, bpf_get_current_task_btf(), 0,
				    shape & SHAPE_NETWORK ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (context)
		context->begin_ns = bpf_ktime_get_ns();
	return 0;
}

/*
 * What the kernel's functions are called with. `typed`: the verifier knows what the pointers point to.
 */

#define STREAM_GET(typed, pointer, field) ((typed) ? (pointer)->field : BPF_CORE_READ(pointer, field))

static __always_inline void stream_keep(struct stream_context *context, struct sock *sk, struct msghdr *msg, bool typed)
{
	struct iov_iter *iter = &msg->msg_iter;
	u8 type = STREAM_GET(typed, iter, iter_type);

	context->sock = (u64)sk;
	context->begin_ns = bpf_ktime_get_ns();
	context->offset = STREAM_GET(typed, iter, iov_offset);
	context->shape = SHAPE_NONE; /* pages, registered buffers: no address of the process's */
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
	    type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		context->shape = SHAPE_BUFFER;
		context->buffer = (u64)STREAM_GET(typed, (struct iov_iter___ubuf *)iter, ubuf);
		context->length = STREAM_GET(typed, iter, count) + context->offset;
	} else if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		context->shape = SHAPE_VECTOR;
		if (bpf_core_field_exists(((struct iov_iter___named *)iter)->__iov))
			context->buffer = (u64)STREAM_GET(typed, (struct iov_iter___named *)iter, __iov);
		else
			context->buffer = (u64)STREAM_GET(typed, (struct iov_iter___iov *)iter, iov);
		context->length = STREAM_GET(typed, iter, nr_segs);
	}
}

static __always_inline int stream_keep_entry(struct sock *sk, struct msghdr *msg, bool typed)
{
	struct stream_context *context = bpf_task_storage_get(&stream_contexts, bpf_get_current_task_btf(), 0,
							BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (context)
		stream_keep(context, sk, msg, typed);
	else
		request_count(STREAM_UNKNOWN, REQUEST_LOST_STORAGE, 1);
	return 0;
}

/*
 * fentry.
 */

/* Are this socket's bytes looked at? */
static __always_inline bool stream_wanted(struct sock *sk)
{
	struct socket_state *state = socket_state_of(sk);

	return state && !(state->stream.flags & STREAM_IGNORED);
}

static __always_inline int stream_enter(struct sock *sk, struct msghdr *msg)
{
	return sk && stream_is_tcp(sk) && stream_wanted(sk) ? stream_keep_entry(sk, msg, true) : 0;
}

#define STREAM_ENTRY_PROGRAM(name, function)                                                                   \
	SEC("fentry/" function)                                                                                \
	int BPF_PROG(name, struct sock *sk, struct msghdr *msg)                                                \
	{                                                                                                      \
		return stream_enter(sk, msg);                                                                  \
	}

STREAM_ENTRY_PROGRAM(stream_send_entry, "tcp_sendmsg")
STREAM_ENTRY_PROGRAM(stream_send_entry_backup, "tcp_sendmsg")
STREAM_ENTRY_PROGRAM(stream_receive_entry, "tcp_recvmsg")
STREAM_ENTRY_PROGRAM(stream_receive_entry_backup, "tcp_recvmsg")

/*
 * kprobe. Neither kprobe nor kretprobe may look into a socket's storage: the tracepoints say how the call ended.
 * That needs no kretprobe, of which the kernel has only so many at once.
 */

static __always_inline int stream_enter_kprobe(void *ctx)
{
	if (stream_is_x86()) {
		struct pt_regs___stream_x86 *x86 = ctx;

		return stream_keep_entry((void *)x86->di, (void *)x86->si, false);
	} else {
		struct pt_regs___stream_arm64 *arm64 = ctx;

		return stream_keep_entry((void *)arm64->regs[0], (void *)arm64->regs[1], false);
	}
}

SEC("kprobe/tcp_sendmsg")
int stream_send_kprobe(void *ctx)
{
	return stream_enter_kprobe(ctx);
}

SEC("kprobe/tcp_recvmsg")
int stream_receive_kprobe(void *ctx)
{
	return stream_enter_kprobe(ctx);
}
