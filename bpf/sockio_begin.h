/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The programs that note a call where it begins: at tcp_sendmsg_locked, at a system call, or at the entry of the kernel's
 * functions. Included by sockio_programs.h.
 */
#pragma once

/* The first piece of what is sent, and where the others are. */
static __always_inline void sockio_note_send(struct http_send *send, struct msghdr *msg)
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
static __always_inline int sockio_send_begins(struct sock *sk, struct msghdr *msg)
{
	struct http_verdict *verdict;
	struct socket_state *state;
	struct http_conn *conn;
	struct tcp_sock *tcp;

	if (!sk || !msg)
		return 0;
	conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	if (conn) {
		struct http_direction *direction = &conn->directions[direction_of(conn->role, true) & 1];
		u32 position;

		tcp = sockio_tcp_sock(sk, FROM_SOCKET);
		if (!tcp || (conn->flags & (HTTP_TUNNEL | HTTP_FINISHED)))
			return 0;
		position = sockio_position(sk, tcp, true);
		if (conn->send.begin_ns && (!direction->sequenced || direction->sequence != position))
			return 0;
		conn->send.begin_ns = bpf_ktime_get_ns();
		conn->send.position = position;
		sockio_note_send(&conn->send, msg);
		return 0;
	}
	verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, 0);
	if (verdict && verdict->left_alone)
		return 0;
	state = socket_state_of(sk);
	if (state && !state->send_ns)
		state->send_ns = bpf_ktime_get_ns();
	return 0;
}

#define SOCKIO_BEGIN_PROGRAM(name)                                                                             \
	SEC("tp_btf/tcp_sendmsg_locked")                                                                       \
	int BPF_PROG(name, struct sock *sk, struct msghdr *msg)                                                \
	{                                                                                                      \
		return sockio_send_begins(sk, msg);                                                            \
	}

SOCKIO_BEGIN_PROGRAM(sockio_begins)
SOCKIO_BEGIN_PROGRAM(sockio_begins_nested)

/* The same by system calls. Most of them are none, and a thread that never used a network has no storage. */
SEC("tp_btf/sys_enter")
int BPF_PROG(sockio_sys_enter, struct pt_regs *regs, long number)
{
	u32 shape = sockio_shape(number);
	struct sockio_note *note;

	if (!(shape & SHAPE_SENDS))
		return 0;
	note = bpf_task_storage_get(&sockio_notes, bpf_get_current_task_btf(), 0,
				    shape & SHAPE_NETWORK ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (note)
		note->begin_ns = bpf_ktime_get_ns();
	return 0;
}

/*
 * What the kernel's functions are called with. `typed`: the verifier knows what the pointers point to.
 */

#define SOCKIO_GET(typed, pointer, field) ((typed) ? (pointer)->field : BPF_CORE_READ(pointer, field))

static __always_inline void sockio_note(struct sockio_note *note, struct sock *sk, struct msghdr *msg, bool typed)
{
	struct iov_iter *iter = &msg->msg_iter;
	u8 type = SOCKIO_GET(typed, iter, iter_type);

	note->sock = (u64)sk;
	note->begin_ns = bpf_ktime_get_ns();
	note->offset = SOCKIO_GET(typed, iter, iov_offset);
	note->shape = SHAPE_NONE; /* pages, registered buffers: no address of the process's */
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
	    type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		note->shape = SHAPE_BUFFER;
		note->buffer = (u64)SOCKIO_GET(typed, (struct iov_iter___ubuf *)iter, ubuf);
		note->length = SOCKIO_GET(typed, iter, count) + note->offset;
	} else if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		note->shape = SHAPE_VECTOR;
		if (bpf_core_field_exists(((struct iov_iter___named *)iter)->__iov))
			note->buffer = (u64)SOCKIO_GET(typed, (struct iov_iter___named *)iter, __iov);
		else
			note->buffer = (u64)SOCKIO_GET(typed, (struct iov_iter___iov *)iter, iov);
		note->length = SOCKIO_GET(typed, iter, nr_segs);
	}
}

static __always_inline int sockio_note_entry(struct sock *sk, struct msghdr *msg, bool typed)
{
	struct sockio_note *note = bpf_task_storage_get(&sockio_notes, bpf_get_current_task_btf(), 0,
							BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (note)
		sockio_note(note, sk, msg, typed);
	else
		http_count(HTTP_LOST_STORAGE, 1);
	return 0;
}

/*
 * fentry.
 */

/* Does anybody care for this socket's bytes? */
static __always_inline bool sockio_wanted(struct sock *sk)
{
	struct http_conn *conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	struct http_verdict *verdict;

	if (conn)
		return !(conn->flags & (HTTP_TUNNEL | HTTP_FINISHED));
	verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, 0);
	return !verdict || !verdict->left_alone;
}

static __always_inline int sockio_enter(struct sock *sk, struct msghdr *msg)
{
	return sk && http_is_tcp(sk) && sockio_wanted(sk) ? sockio_note_entry(sk, msg, true) : 0;
}

#define SOCKIO_ENTRY_PROGRAM(name, function)                                                                   \
	SEC("fentry/" function)                                                                                \
	int BPF_PROG(name, struct sock *sk, struct msghdr *msg)                                                \
	{                                                                                                      \
		return sockio_enter(sk, msg);                                                                  \
	}

SOCKIO_ENTRY_PROGRAM(sockio_send_entry, "tcp_sendmsg")
SOCKIO_ENTRY_PROGRAM(sockio_send_entry_nested, "tcp_sendmsg")
SOCKIO_ENTRY_PROGRAM(sockio_receive_entry, "tcp_recvmsg")
SOCKIO_ENTRY_PROGRAM(sockio_receive_entry_nested, "tcp_recvmsg")

/*
 * kprobe. Neither kprobe nor kretprobe may look into a socket's storage: the tracepoints say how the call ended.
 * That needs no kretprobe, of which the kernel has only so many at once.
 */

static __always_inline int sockio_enter_kprobe(void *ctx)
{
	if (sockio_is_x86()) {
		struct pt_regs___sockio_x86 *x86 = ctx;

		return sockio_note_entry((void *)x86->di, (void *)x86->si, false);
	} else {
		struct pt_regs___sockio_arm64 *arm64 = ctx;

		return sockio_note_entry((void *)arm64->regs[0], (void *)arm64->regs[1], false);
	}
}

SEC("kprobe/tcp_sendmsg")
int sockio_send_kprobe(void *ctx)
{
	return sockio_enter_kprobe(ctx);
}

SEC("kprobe/tcp_recvmsg")
int sockio_receive_kprobe(void *ctx)
{
	return sockio_enter_kprobe(ctx);
}
