/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where the buffers of a call are, and when it began and ended: from its context, which was kept where it began (begin.h),
 * or from the registers of the system call. Called by deliver.h.
 */
#pragma once

#include "stream/begin.h"

/* Where a provider finds the buffers, and when a send began. */
enum stream_provider {
	FROM_SOCKET,  /* a send by what tcp_sendmsg_locked has kept, the rest by the registers of the system call */
	FROM_SYSCALL, /* by the registers; sys_enter keeps when a send began */
	FROM_CONTEXT, /* by what was kept at the entry of the function */
	FROM_NOWHERE, /* pages of the kernel's own */
};

/*
 * Which message of a call with several (sendmmsg, recvmmsg) is it? They come in order; after the last one, or after one
 * that failed, another call begins. recvmmsg may also stop by time, which is not seen: with a timeout it is not followed.
 */
static __always_inline bool stream_locate_message(struct stream_messages *messages, u8 direction,
						  struct stream_syscall *entry, bool sends)
{
	u32 size = entry->compat ? STREAM_MMSGHDR32 : STREAM_MMSGHDR;
	struct request_state *shared = request_state_of(STREAM_UNKNOWN);
	u32 index = 0;

	if ((!sends && entry->fifth) || !shared || entry->length > 0xffff)
		return false;
	shared->messages = 1;
	direction &= 1;
	if (messages->array[direction] == entry->buffer && messages->length[direction] == entry->length &&
	    messages->seen[direction] < entry->length)
		index = messages->seen[direction];
	messages->array[direction] = entry->buffer;
	messages->length[direction] = entry->length;
	messages->seen[direction] = index + 1;
	entry->buffer += (u64)index * size;
	return true;
}

enum stream_syscall_seen {
	SYSCALL_UNSEEN,
	SYSCALL_SEEN,
	SYSCALL_SEEN32, /* of a 32-bit program */
};

/* The pieces of a 32-bit program's call, laid out like all others. A function of its own, looked at once: it runs for few. */
STREAM_FUNCTION int stream_widen_pieces(struct stream_work *work, u64 address, u64 count)
{
	u32 size;

	if (!work)
		return SYSCALL_UNSEEN;
	work->call.iov = (u64)work->pieces;
	work->call.iov_in_kernel = 1;
	work->call.iov_left = 0;
	if (count > STREAM_PIECES32)
		count = STREAM_PIECES32;
	size = count * sizeof(work->pieces32[0]);
	STREAM_KEEP(size);
	if (size > sizeof(work->pieces32) || bpf_probe_read_user(work->pieces32, size, (const void *)address))
		return SYSCALL_UNSEEN;
	for (int i = 0; i < STREAM_PIECES32; i++) {
		work->pieces[i].base = work->pieces32[i].base;
		work->pieces[i].length = work->pieces32[i].length;
	}
	work->call.iov_left = count;
	return SYSCALL_SEEN32;
}

static __noinline int stream_locate_compat(struct stream_work *work, struct stream_syscall *entry)
{
	struct stream_msghdr32 message;

	if ((entry->shape & 7) == SHAPE_VECTOR)
		return stream_widen_pieces(work, entry->buffer, entry->length);
	if (bpf_probe_read_user(&message, sizeof(message), (const void *)entry->buffer))
		return SYSCALL_UNSEEN;
	return stream_widen_pieces(work, message.iov, message.iov_count);
}

/* Finds the buffers of the system call that the current task is in. SYSCALL_UNSEEN: they cannot be seen from here.
 * `countable`: all messages of one call come by here, so that it is known which this is. */
static __always_inline int stream_locate_syscall(struct stream_call *call, struct sock *sk,
						 struct task_struct *current, struct socket_state *state,
						 bool countable, bool sends)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(current);
	struct stream_syscall entry;
	struct stream_msghdr message;

	/* A worker's registers are left over from the task that made it. A connection that is followed was looked at. */
	if (!regs || (current->flags & (PF_KTHREAD | PF_IO_WORKER)) ||
	    (!state->stream.protocol && !stream_has_file(sk)))
		return SYSCALL_UNSEEN;
	stream_read_syscall(regs, current, &entry);
	if (!!(entry.shape & SHAPE_SENDS) != sends)
		return SYSCALL_UNSEEN;
	call->iov_left = 0;
	call->left = 0;
	call->skip = 0;
	switch (entry.shape & 7) {
	case SHAPE_BUFFER:
		call->base = entry.buffer;
		call->left = entry.length;
		return entry.compat ? SYSCALL_SEEN32 : SYSCALL_SEEN;
	case SHAPE_VECTOR:
		if (entry.compat)
			return stream_locate_compat((struct stream_work *)call, &entry);
		call->iov = entry.buffer;
		call->iov_left = entry.length;
		return SYSCALL_SEEN;
	case SHAPE_MESSAGES:
		if (!countable || !stream_locate_message(&state->messages, call->direction, &entry, sends))
			return SYSCALL_UNSEEN;
		/* fall through */
	case SHAPE_MESSAGE:
		if (entry.compat)
			return stream_locate_compat((struct stream_work *)call, &entry);
		if (bpf_probe_read_user(&message, sizeof(message), (const void *)entry.buffer))
			return SYSCALL_UNSEEN;
		call->iov = message.iov;
		call->iov_left = message.iov_count;
		return SYSCALL_SEEN;
	}
	return SYSCALL_UNSEEN;
}

/* Takes the buffers from what was kept at the entry of the function. */
static __always_inline bool stream_take_context(struct stream_call *call, struct stream_context *context)
{
	context->sock = 0;
	call->iov_left = 0;
	call->left = 0;
	call->skip = context->offset;
	switch (context->shape) {
	case SHAPE_BUFFER:
		call->base = context->buffer;
		call->left = context->length;
		return true;
	case SHAPE_VECTOR:
		call->iov = context->buffer;
		call->iov_left = context->length;
		call->iov_in_kernel = 1;
		return true;
	}
	return false;
}

/* Takes the buffers from what was kept on the socket when the send began, if it was this one. */
static __always_inline bool stream_take_send(struct stream_call *call, struct stream_sends *send, u32 position)
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
 * Finds the buffers, and when the call began and ended. The end of a send is when its last segment left, by TCP's own
 * time stamp: to read the clock again takes long. `tcp`: NULL for MPTCP's whole, of which nothing but the registers tells;
 * where no program runs at the entry of system calls its sends begin when they are over.
 */
static __always_inline bool stream_locate(struct stream_call *call, struct sock *sk, struct tcp_sock *tcp,
					  struct socket_state *state, u32 position, enum stream_provider provider,
					  bool sends)
{
	struct task_struct *current;
	struct stream_context *context = NULL;
	u64 begin_ns = 0;
	int seen;

	if (provider == FROM_SOCKET && sends && state->stream.protocol && tcp &&
	    stream_take_send(call, &state->sends, position)) {
		u64 left_ns = ((struct tcp_sock___stream *)tcp)->tcp_clock_cache;

		call->end_ns = left_ns > call->begin_ns ? left_ns : call->begin_ns;
		return call->base || call->iov_left; /* an empty piece in front may have no address */
	}
	call->iov_in_kernel = 0;
	call->end_ns = bpf_ktime_get_ns();
	current = bpf_get_current_task_btf();
	if (provider == FROM_SOCKET && sends && !state->stream.protocol) {
		begin_ns = state->sends.begin_ns;
		state->sends.begin_ns = 0;
	} else if (provider == FROM_CONTEXT || (provider == FROM_SYSCALL && sends)) {
		context = bpf_task_storage_get(&stream_contexts, current, 0, 0);
		if (context && (tcp || provider != FROM_CONTEXT)) { /* no entry of a function is one of MPTCP's */
			begin_ns = sends ? context->begin_ns : 0;
			context->begin_ns = 0; /* of this call: the program at its entry may miss the next one */
		}
	}
	if (provider == FROM_NOWHERE)
		seen = false;
	else if (provider == FROM_CONTEXT && context && context->sock == (u64)sk)
		seen = stream_take_context(call, context);
	else /* by the registers, also where the program at the entry did not run: it was busy, or a kprobe was missed */
		seen = stream_locate_syscall(call, sk, current, state,
					     !tcp || (provider == FROM_SOCKET ? !sends || !state->stream.protocol
									      : provider == FROM_SYSCALL),
					     sends);
	if (seen == SYSCALL_SEEN32 && provider == FROM_SYSCALL)
		begin_ns = 0; /* its numbers say something else to the program that runs at the entry */
	call->begin_ns = seen && begin_ns ? begin_ns : call->end_ns;
	return seen;
}
