/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A call has ended: what it moved is described (struct stream_call), the connection classified if it is new, and the
 * program of its protocol takes over by a tail call, which does not come back. The next step is protocol.h.
 */
#pragma once

#include "stream/classify.h"
#include "stream/locate.h"

/* Set once, before loading. */
const volatile u32 stream_stats = 0; /* 1: count what protocols cost */
const volatile bool stream_preemptible = true; /* may programs on tracepoints be preempted? See below */

STREAM_PROGRAM_ARRAY(stream_length_programs, STREAM_PROTOCOLS * STREAM_SLOTS);
STREAM_PROGRAM_ARRAY(stream_send_programs, STREAM_PROTOCOLS);
STREAM_PROGRAM_ARRAY(stream_receive_programs, STREAM_PROTOCOLS);
STREAM_PROGRAM_ARRAY(stream_sendpage_programs, STREAM_PROTOCOLS);

/* Goes on in the protocol's program, if it is there: a call through a constant index costs half of one through a
 * variable. */
static __always_inline void stream_call_protocol(void *ctx, void *programs, u8 protocol, u32 stride, u32 slot)
{
	switch (protocol) {
#define STREAM_PROTOCOL(number, name)                                                                          \
	case number:                                                                                           \
		bpf_tail_call_static(ctx, programs, number * stride + slot);                                   \
		break;
#include "protocol/protocols.h"
#undef STREAM_PROTOCOL
	}
}

/* The call moved nothing, or only looked: its context must not serve another. */
static __always_inline void stream_forget(struct sock *sk, bool sends, bool failed, enum stream_provider provider)
{
	struct request_state *shared = request_state_of(STREAM_UNKNOWN);
	bool on_socket = provider == FROM_SOCKET && sends;
	struct stream_context *context;
	struct socket_state *state;
	u8 direction;

	if (provider == FROM_CONTEXT) {
		context = bpf_task_storage_get(&stream_contexts, bpf_get_current_task_btf(), 0, 0);
		if (context)
			context->sock = 0;
	}
	if (!on_socket && (!shared || !shared->messages))
		return; /* a read that finds nothing ends here: it is frequent */
	state = socket_state_of(sk);
	if (!state)
		return;
	direction = stream_direction_of(state->role, sends) & 1;
	state->messages.seen[direction] = failed ? 0 : state->messages.seen[direction] + 1;
	if (on_socket)
		state->sends.begin_ns = 0;
}

/* How a connection ended from which a client has read, to the end by FIN (0) or by an error. */
static __always_inline enum request_error stream_read_error(struct sock *sk, int result)
{
	if (result == 0 && (stream_shutdown(sk) & 1 /* RCV_SHUTDOWN */))
		return REQUEST_ERROR_CLOSED;
	if (result == -ECONNRESET)
		return REQUEST_ERROR_RESET;
	if (result == -ETIMEDOUT)
		return REQUEST_ERROR_TIMED_OUT;
	return REQUEST_NO_ERROR;
}

static __always_inline bool stream_is_older(struct socket_state *state, struct request_control *control)
{
	return (state->flags & SOCKET_PREEXISTING) || (state->stream.flags & STREAM_UNOBSERVED) ||
	       state->start_ns < control->started_ns;
}

/* The other end may be on this host and see what passes: it is told whether this one does. Once or twice a connection. */
static __noinline int stream_tell_far(struct socket_state *state, bool unobserved)
{
	struct pair *pair = bpf_map_lookup_elem(&pairs, &state->pair);
	u32 bit = 1 << (state->role & 3);

	if (!pair)
		return 0;
	if (unobserved)
		__sync_fetch_and_or(&pair->unobserved, bit);
	else
		__sync_fetch_and_and(&pair->unobserved, ~bit);
	return 0;
}

/* Bytes passed unobserved: whether they are of a protocol is not known. Counts once; the connection is classified at a
 * later request. */
static __always_inline void stream_unobserved(struct socket_state *state)
{
	if (__sync_fetch_and_or(&state->stream.flags, STREAM_UNOBSERVED) & STREAM_UNOBSERVED)
		return;
	request_count(STREAM_UNKNOWN, REQUEST_LOST_UNOBSERVED, 1);
	stream_tell_far(state, true);
}

static __always_inline void stream_ignore(struct stream *stream)
{
	if (!(__sync_fetch_and_or(&stream->flags, STREAM_IGNORED) & STREAM_IGNORED))
		request_count(STREAM_UNKNOWN, REQUEST_IGNORED, 1);
}

/* The bytes of a connection that is not classified yet. Says whether it is now. */
static __always_inline bool stream_begins_with(struct stream_work *work, struct socket_state *state,
					       struct request_control *control)
{
	struct stream_call *call = &work->call;
	struct stream *stream = &state->stream;
	bool older = stream_is_older(state, control);
	u8 direction = call->direction & 1;
	int protocol = STREAM_UNKNOWN - 1;

	if (call->flags & STREAM_CALL_SEEN)
		protocol = stream_classify(work, control->protocols & ~stream->refused);
	if (protocol < STREAM_UNKNOWN) {
		stream_unobserved(state);
		return false;
	}
	if (protocol && (!older || direction == STREAM_REQUESTS)) {
		call->flags |= STREAM_CALL_FIRST | (older ? STREAM_CALL_MIDWAY : 0);
		call->answered_ns = older ? stream->answered_ns : 0;
		stream->positioned[!direction] = 0;
		stream->protocol = protocol;
		if (stream->flags & STREAM_UNOBSERVED)
			stream_tell_far(state, false);
		return true;
	}
	if (direction == STREAM_ANSWERS)
		stream->answered_ns = call->end_ns;
	if (!older || ++stream->looks >= STREAM_LOOKS)
		stream_ignore(stream);
	return false;
}

/*
 * Where the call's bytes lie in the connection, by the sequence numbers: what passed before them unobserved, and
 * whether they were seen before, by another hook or by the backup program. Says whether to go on.
 */
static __always_inline bool stream_place(struct stream_call *call, struct stream *stream, u32 position)
{
	u8 direction = call->direction & 1;
	u32 next = stream->next_position[direction];
	s32 gap = position - (u32)call->total - next;

	if (!stream->positioned[direction]) {
		stream->positioned[direction] = 1;
		gap = 0;
	} else if (next == position) {
		return false;
	}
	stream->next_position[direction] = position;
	if (!stream->protocol)
		return true;
	if (gap > 0)
		call->unobserved = gap;
	else if (gap < 0)
		call->flags |= STREAM_CALL_DISORDER;
	return true;
}

/* Describes the call in the program's working space. Says whether its protocol is to be called. */
static __always_inline bool stream_describe(struct stream_work *work, struct sock *sk, struct socket_state *state,
					    int length, int flags, bool sends, enum stream_provider provider)
{
	struct stream_call *call = &work->call;
	struct stream *stream = &state->stream;
	struct request_control *control = NULL;
	struct task_struct *current;
	bool whole = is_whole(sk);
	struct tcp_sock *tcp = NULL;
	u32 position;

	if (!whole) {
		tcp = stream_tcp_sock(sk, provider == FROM_SOCKET);
		if (!tcp)
			return false;
	}
	if (!stream->protocol) {
		control = request_controls();
		if (!control || !control->started_ns || (state->role != ROLE_CLIENT && state->role != ROLE_SERVER))
			return false;
	}
	call->total = length;
	call->unobserved = 0;
	call->kind = STREAM_CALL_BYTES;
	call->flags = 0;
	call->direction = stream_direction_of(state->role, sends);
	if (whole)
		position = stream_whole_position(sk, stream->next_position[call->direction & 1], length, sends);
	else if (tcp)
		position = stream_position(sk, tcp, sends);
	else
		return false; /* unreachable; tells the verifier */
	if (!stream_place(call, stream, position))
		return false;
	if (stream_locate(call, sk, tcp, state, position, provider, sends) && !(flags & MSG_TRUNC))
		call->flags |= STREAM_CALL_SEEN;
	if (control && !stream_begins_with(work, state, control))
		return false;
	if (control && whole && !state->remote_port)
		state->remote_port = bpf_ntohs(sk->__sk_common.skc_dport); /* was not known when it was accepted */
	if (request_spans && !sends && !(flags & MSG_DONTWAIT)) {
		current = bpf_get_current_task_btf();
		if (!(current->flags & PF_IO_WORKER))
			call->flags |= STREAM_CALL_BLOCKS;
	}
	return true;
}

static __always_inline void stream_count_cost(struct stream_work *work, u8 protocol)
{
	struct stream_cost *cost = &work->costs[protocol & (STREAM_PROTOCOLS - 1)];

	work->call.timed_ns = 0;
	if (!stream_stats)
		return;
	if (!(cost->runs++ % STREAM_TIMED))
		work->call.timed_ns = bpf_ktime_get_ns();
}

/*
 * A call has sent, or received, `length` bytes. `slot`: the program's working space. Answers the protocol to be called.
 */
static __always_inline u8 stream_deliver(struct sock *sk, int length, int flags, bool sends,
					 enum stream_provider provider, u32 slot)
{
	struct socket_state *state;
	struct stream_work *work;
	u8 protocol;

	if (!sk || !stream_is_tcp(sk))
		return STREAM_UNKNOWN;
	if (length == -EAGAIN || (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE))) {
		stream_forget(sk, sends, true, provider);
		return STREAM_UNKNOWN;
	}
	if (length <= 0)
		stream_forget(sk, sends, length != 0, provider);
	state = socket_state_of(sk);
	if (!state || (state->stream.flags & STREAM_IGNORED))
		return STREAM_UNKNOWN;
	work = bpf_map_lookup_elem(&stream_work, &slot);
	if (!work)
		return STREAM_UNKNOWN; /* unreachable: the slot is a constant */
	if (length > 0) {
		if (!stream_describe(work, sk, state, length, flags, sends, provider))
			return STREAM_UNKNOWN;
	} else {
		work->call.error = sends || state->role != ROLE_CLIENT ? REQUEST_NO_ERROR : stream_read_error(sk, length);
		if (!state->stream.protocol || !work->call.error)
			return STREAM_UNKNOWN;
		work->call.kind = STREAM_CALL_END;
		work->call.flags = 0;
	}
	protocol = state->stream.protocol;
	stream_count_cost(work, protocol);
	return protocol;
}

#define STREAM_LENGTH_PROGRAM(hook, name, provider, sends, flags, slot)                                        \
	SEC("tp_btf/" hook)                                                                                    \
	int BPF_PROG(name, struct sock *sk, int length, int call_flags)                                        \
	{                                                                                                      \
		u8 protocol =                                                                                  \
			stream_deliver(sk, length, flags, sends, provider, stream_preemptible ? slot : 0);     \
                                                                                                               \
		if (stream_preemptible)                                                                        \
			stream_call_protocol(ctx, &stream_length_programs, protocol, STREAM_SLOTS, slot);      \
		else                                                                                           \
			stream_call_protocol(ctx, &stream_length_programs, protocol, STREAM_SLOTS, 0);         \
		return 0;                                                                                      \
	}
#define STREAM_SENT_PROGRAM(name, provider, slot)                                                              \
	STREAM_LENGTH_PROGRAM("sock_send_length", name, provider, true, 0, slot)
#define STREAM_RECEIVED_PROGRAM(name, provider, slot)                                                          \
	STREAM_LENGTH_PROGRAM("sock_recv_length", name, provider, false, call_flags, slot)

/*
 * Several programs on one hook. The kernel does not run a tracing program that is already running on the same
 * processor, and Linux 7.0 made tracepoints preemptible: one that was preempted counts as running, and what another
 * task does meanwhile is missed. (To forbid preemption does not help: it then happens where it is allowed again, still
 * within the program.) There each hook has a backup program; the one that is free does the work. A miss takes two tasks
 * that were preempted at once on one processor, and is a counted loss like all unobserved bytes.
 *
 * Before that, no two of them are ever under way on one processor, so that all share one working space, and each protocol
 * needs one program instead of one for each hook: it loads faster, and keeps less of the instruction cache busy.
 */
STREAM_SENT_PROGRAM(stream_sent, FROM_SOCKET, 0)
STREAM_SENT_PROGRAM(stream_sent_backup, FROM_SOCKET, 1)
STREAM_SENT_PROGRAM(stream_sent_entered, FROM_SYSCALL, 0)
STREAM_SENT_PROGRAM(stream_sent_entered_backup, FROM_SYSCALL, 1)
STREAM_RECEIVED_PROGRAM(stream_received, FROM_SOCKET, 2)
STREAM_RECEIVED_PROGRAM(stream_received_backup, FROM_SOCKET, 3)

/*
 * How a call whose entry was met has ended: by the tracepoints, or by fexit where these are not there.
 */

STREAM_SENT_PROGRAM(stream_sent_context, FROM_CONTEXT, 0)
STREAM_SENT_PROGRAM(stream_sent_context_backup, FROM_CONTEXT, 1)
STREAM_RECEIVED_PROGRAM(stream_received_context, FROM_CONTEXT, 2)
STREAM_RECEIVED_PROGRAM(stream_received_context_backup, FROM_CONTEXT, 3)

SEC("fexit/tcp_sendmsg")
int BPF_PROG(stream_send_exit, struct sock *sk, struct msghdr *msg, size_t size, int result)
{
	stream_call_protocol(ctx, &stream_send_programs, stream_deliver(sk, result, 0, true, FROM_CONTEXT, 0), 1, 0);
	return 0;
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(stream_receive_exit, struct sock *sk, struct msghdr *msg, size_t size, int flags, int *address_length,
	     int result)
{
	stream_call_protocol(ctx, &stream_receive_programs, stream_deliver(sk, result, flags, false, FROM_CONTEXT, 2), 1,
			     0);
	return 0;
}

/* Before 5.19, ec095263a965 ("net: remove noblock parameter from recvmsg() entities"). */
SEC("fexit/tcp_recvmsg")
int BPF_PROG(stream_receive_exit_nonblock, struct sock *sk, struct msghdr *msg, size_t size, int nonblock, int flags,
	     int *address_length, int result)
{
	stream_call_protocol(ctx, &stream_receive_programs,
			     stream_deliver(sk, result, nonblock ? flags | MSG_DONTWAIT : flags, false, FROM_CONTEXT, 2), 1,
			     0);
	return 0;
}

/* sendfile and splice before 6.5, dc97391e6610 ("sock: Remove ->sendpage*() in favour of sendmsg(MSG_SPLICE_PAGES)"). */
SEC("fexit/tcp_sendpage")
int BPF_PROG(stream_sendpage_exit, struct sock *sk, void *page, int offset, size_t size, int flags, int result)
{
	stream_call_protocol(ctx, &stream_sendpage_programs, stream_deliver(sk, result, 0, true, FROM_NOWHERE, 1), 1, 0);
	return 0;
}
