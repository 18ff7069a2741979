/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where the buffers of a call are, and when it began and ended: from what was noted where it began (sockio_begin.h), or
 * from the registers of the system call. Included by sockio_programs.h.
 */
#pragma once

/*
 * What is noted of a call where it begins, by thread: a thread cannot interrupt itself.
 */
struct sockio_note {
	u64 begin_ns; /* of the call that sends */
	u64 sock;     /* the socket whose call was noted at its entry, by fentry or kprobe; 0: none */
	u64 buffer;   /* a user address, or a kernel's array of iovecs */
	u64 length;   /* bytes, or iovecs */
	u64 offset;   /* in the first iovec */
	u64 shape;    /* enum sockio_shape */
};
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sockio_note);
} sockio_notes SEC(".maps");

/* Where a provider finds the buffers, and when a send began. */
enum sockio_provider {
	FROM_SOCKET,  /* a send by what tcp_sendmsg_locked has noted, the rest by the registers of the system call */
	FROM_SYSCALL, /* by the registers; sys_enter notes when a send began */
	FROM_NOTE,    /* by what was noted at the entry of the function */
	FROM_NOWHERE, /* pages of the kernel's own */
};

/*
 * Which message of a call with several (sendmmsg, recvmmsg) is it? They come in order; after the last one, or after one
 * that failed, another call begins. recvmmsg may also stop by time, which is not seen: with a timeout it is not followed.
 */
static __always_inline bool sockio_locate_message(struct http_call *call, struct http_direction *direction,
						  struct sockio_syscall *entry, bool sends)
{
	struct http_shared *shared = http_shared_state();
	u32 index = 0;

	if ((!sends && entry->fifth) || !shared)
		return false;
	shared->messages = 1;
	call->messages = entry->buffer;
	if (direction) {
		if (direction->messages == entry->buffer && direction->message < entry->length)
			index = direction->message;
		direction->messages = entry->buffer;
		direction->message = index + 1;
	}
	entry->buffer += (u64)index * SOCKIO_MMSGHDR;
	return true;
}

/* Finds the buffers of the system call that the current task is in. False: they cannot be seen from here. `countable`:
 * all messages of one call come by here, so that it is known which this is. */
static __always_inline bool sockio_locate(struct http_call *call, struct sock *sk, struct task_struct *current,
					  struct http_direction *direction, bool countable, bool sends)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(current);
	struct sockio_syscall entry;
	struct sockio_message message;
	u32 shape;

	/* a worker's registers are left over from whoever made it; what is followed was looked at */
	if (!regs || (current->flags & (PF_KTHREAD | PF_IO_WORKER)) || (!direction && !sockio_has_file(sk)))
		return false;
	sockio_read_syscall(regs, current, &entry);
	shape = sockio_shape(entry.number);
	if (!!(shape & SHAPE_SENDS) != sends)
		return false;
	call->iov_left = 0;
	call->left = 0;
	call->skip = 0;
	switch (shape & 7) {
	case SHAPE_BUFFER:
		call->base = entry.buffer;
		call->left = entry.length;
		return true;
	case SHAPE_VECTOR:
		call->iov = entry.buffer;
		call->iov_left = entry.length;
		return true;
	case SHAPE_MESSAGES:
		if (!countable || !sockio_locate_message(call, direction, &entry, sends))
			return false;
		/* fall through */
	case SHAPE_MESSAGE:
		if (bpf_probe_read_user(&message, sizeof(message), (const void *)entry.buffer))
			return false;
		call->iov = message.iov;
		call->iov_left = message.iov_count;
		return true;
	}
	return false;
}

/* Takes the buffers from what was noted at the entry of the function. */
static __always_inline bool sockio_take_note(struct http_call *call, struct sockio_note *note)
{
	note->sock = 0;
	call->iov_left = 0;
	call->left = 0;
	call->skip = note->offset;
	switch (note->shape) {
	case SHAPE_BUFFER:
		call->base = note->buffer;
		call->left = note->length;
		return true;
	case SHAPE_VECTOR:
		call->iov = note->buffer;
		call->iov_left = note->length;
		call->iov_in_kernel = 1;
		return true;
	}
	return false;
}

extern void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym __weak; /* Linux 6.2 */

/* A TCP socket as such. The cast costs nothing; the helper, which asks what it is, does. */
static __always_inline struct tcp_sock *sockio_tcp_sock(struct sock *sk, enum sockio_provider provider)
{
	if (provider == FROM_SOCKET && bpf_ksym_exists(bpf_rdonly_cast))
		return bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	return bpf_skc_to_tcp_sock(sk);
}

/* Takes the buffers from what was noted on the socket when the send began, if it was this one. */
static __always_inline bool sockio_take_send(struct http_call *call, struct http_send *send, u32 position)
{
	if (!send->begin_ns || send->position != position - (u32)call->total)
		return false;
	call->begin_ns = send->begin_ns;
	call->base = send->base;
	call->left = send->left;
	call->iov = send->iov;
	call->iov_left = send->iov_left;
	call->iov_in_kernel = 1;
	call->skip = 0;
	send->begin_ns = 0;
	return true;
}

/*
 * Finds the buffers, and when the call began and ended. `conn` is NULL where the socket is not followed yet, and `state`
 * where it is. The end of a send is when its last segment left, as TCP has noted it: to read the clock again takes long.
 */
static __always_inline bool sockio_find(struct http_call *call, struct sock *sk, struct tcp_sock *tcp,
					struct http_conn *conn, struct socket_state *state, u32 position,
					enum sockio_provider provider, bool sends)
{
	struct http_direction *direction = conn ? &conn->directions[call->direction & 1] : NULL;
	struct task_struct *current;
	struct sockio_note *note = NULL;
	u64 begin_ns = 0;
	bool seen;

	if (provider == FROM_SOCKET && sends && conn && sockio_take_send(call, &conn->send, position)) {
		u64 left_ns = ((struct tcp_sock___sockio *)tcp)->tcp_clock_cache;

		call->end.now_ns = left_ns > call->begin_ns ? left_ns : call->begin_ns;
		return call->base;
	}
	call->iov_in_kernel = 0;
	call->end.now_ns = bpf_ktime_get_ns();
	current = bpf_get_current_task_btf();
	if (provider == FROM_SOCKET && sends && state) {
		begin_ns = state->send_ns;
		state->send_ns = 0;
	} else if (provider == FROM_NOTE || (provider == FROM_SYSCALL && sends)) {
		note = bpf_task_storage_get(&sockio_notes, current, 0, 0);
		if (note) {
			begin_ns = sends ? note->begin_ns : 0;
			note->begin_ns = 0; /* of this call: the program at its entry may miss the next one */
		}
	}
	if (provider == FROM_NOWHERE)
		seen = false;
	else if (provider == FROM_NOTE && note && note->sock == (u64)sk)
		seen = sockio_take_note(call, note);
	else /* by the registers, also where the program at the entry did not run: it was busy, or a kprobe was missed */
		seen = sockio_locate(call, sk, current, direction,
				     provider == FROM_SOCKET ? !sends || !conn : provider == FROM_SYSCALL, sends);
	call->begin_ns = seen && begin_ns ? begin_ns : call->end.now_ns;
	return seen;
}
