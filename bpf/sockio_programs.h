/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The providers' programs (see sockio.h): those that note where a call begins are in sockio_begin.h, how it is found from
 * that is in sockio_find.h, and here are those that deliver it when it has ended. Included by http.bpf.c, whose http_look
 * and http_on_data they feed.
 */
#pragma once

#include "sockio_find.h"
#include "sockio_begin.h"

/* The call moved nothing, or only looked: what was noted of it must not serve another. */
static __always_inline int sockio_forget(struct sock *sk, bool sends, bool failed, enum sockio_provider provider)
{
	struct http_shared *shared = http_shared_state();
	bool on_socket = provider == FROM_SOCKET && sends;
	struct http_direction *direction;
	struct socket_state *state;
	struct sockio_note *note;
	struct http_conn *conn;

	if (provider == FROM_NOTE) {
		note = bpf_task_storage_get(&sockio_notes, bpf_get_current_task_btf(), 0, 0);
		if (note)
			note->sock = 0;
	}
	if (!on_socket && (!shared || !shared->messages))
		return 0; /* a read that finds nothing ends here: it is frequent */
	conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	if (conn) {
		direction = &conn->directions[direction_of(conn->role, sends) & 1];
		direction->message = failed ? 0 : direction->message + 1;
		if (on_socket)
			conn->send.begin_ns = 0;
	} else if (on_socket) {
		state = socket_state_of(sk);
		if (state)
			state->send_ns = 0;
	}
	return 0;
}

/*
 * Several programs on one hook. The kernel does not run a tracing program that is already running on the same
 * processor, and Linux 7.0 made tracepoints preemptible: one that was preempted counts as running, and what another
 * task does meanwhile is missed. (To forbid preemption does not help: it then happens where it is allowed again, still
 * within the program.) There a second program stands by on each hook; whichever is free does the work. A miss takes
 * two tasks that were preempted at once on one processor, and is a counted loss like all bytes that were not shown.
 */
const volatile u32 sockio_stand_by = 0; /* set once, before loading */

/* Was this call delivered by the other program, though the socket is not followed? Every call moves the position. */
static __always_inline bool sockio_looked_at(struct http_verdict *verdict, u32 position, bool sends)
{
	u64 call = (u64)position << 1 | sends;
	bool done;

	if (!verdict)
		return false;
	done = verdict->delivered == call;
	verdict->delivered = call;
	return done;
}

/* The bytes of a socket that is not followed yet. Its connection, if it is one of HTTP. */
static __always_inline struct http_conn *sockio_look(struct sock *sk, struct tcp_sock *tcp, struct http_work *work,
						     u32 position, int flags, bool sends,
						     enum sockio_provider provider, bool *seen)
{
	struct http_verdict *verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, 0);
	struct http_call *call = &work->call;
	struct socket_state *state;
	struct http_conn *conn;
	u64 total = call->total;

	if (verdict && verdict->left_alone)
		return NULL;
	state = socket_state_of(sk);
	if (!state || (state->role != ROLE_CLIENT && state->role != ROLE_SERVER) ||
	    (sockio_stand_by && sockio_looked_at(verdict, position, sends)))
		return NULL;
	call->direction = direction_of(state->role, sends);
	call->messages = 0;
	*seen = sockio_find(call, sk, tcp, NULL, state, position, provider, sends) && !(flags & MSG_TRUNC);
	conn = *seen ? http_look(sk, state, work) : http_not_shown(sk);
	call->total = total;
	if (conn && call->messages) {
		conn->directions[call->direction & 1].messages = call->messages;
		conn->directions[call->direction & 1].message = 1;
	}
	return conn;
}

/* A call has sent, or received, `length` bytes. `slot`: the program's working space. */
static __always_inline int sockio_deliver(struct sock *sk, int length, int flags, bool sends,
					  enum sockio_provider provider, u32 slot)
{
	struct http_direction *direction;
	struct task_struct *current;
	struct http_conn *conn;
	struct http_call *call;
	struct http_work *work;
	struct tcp_sock *tcp;
	u32 position;
	bool seen;

	if (!sk || !http_is_tcp(sk))
		return 0;
	if (length == -EAGAIN || (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)))
		return sockio_forget(sk, sends, true, provider);
	conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	if (conn && (conn->flags & (HTTP_TUNNEL | HTTP_FINISHED)))
		return 0;
	if (length <= 0) {
		if (conn && !sends)
			http_on_read_end(sk, conn, length);
		return sockio_forget(sk, sends, length != 0, provider);
	}
	tcp = sockio_tcp_sock(sk, provider);
	work = bpf_map_lookup_elem(&http_work, &slot);
	if (!tcp || !work) { /* cannot be */
		http_count(HTTP_LOST_STORAGE, 1);
		return 0;
	}
	call = &work->call;
	position = sockio_position(sk, tcp, sends);
	call->total = length;
	if (!conn) {
		conn = sockio_look(sk, tcp, work, position, flags, sends, provider, &seen);
		if (!conn)
			return 0;
	} else {
		call->direction = direction_of(conn->role, sends);
		direction = &conn->directions[call->direction & 1];
		if (sockio_stand_by && direction->sequenced && direction->sequence == position)
			return 0; /* the other program was first */
		seen = sockio_find(call, sk, tcp, conn, NULL, position, provider, sends) && !(flags & MSG_TRUNC);
	}
	if (http_spans) {
		current = bpf_get_current_task_btf();
		call->blocks = !sends && !(flags & MSG_DONTWAIT) && !(current->flags & PF_IO_WORKER);
	}
	return http_on_data(sk, conn, call, position, sends, seen);
}

#define SOCKIO_SENT_PROGRAM(name, provider, slot)                                                              \
	SEC("tp_btf/sock_send_length")                                                                         \
	int BPF_PROG(name, struct sock *sk, int length, int flags)                                             \
	{                                                                                                      \
		return sockio_deliver(sk, length, 0, true, provider, slot);                                    \
	}
#define SOCKIO_RECEIVED_PROGRAM(name, provider, slot)                                                          \
	SEC("tp_btf/sock_recv_length")                                                                         \
	int BPF_PROG(name, struct sock *sk, int length, int flags)                                             \
	{                                                                                                      \
		return sockio_deliver(sk, length, flags, false, provider, slot);                               \
	}

SOCKIO_SENT_PROGRAM(sockio_sent, FROM_SOCKET, 0)
SOCKIO_SENT_PROGRAM(sockio_sent_nested, FROM_SOCKET, 1)
SOCKIO_SENT_PROGRAM(sockio_sent_entered, FROM_SYSCALL, 0)
SOCKIO_SENT_PROGRAM(sockio_sent_entered_nested, FROM_SYSCALL, 1)
SOCKIO_RECEIVED_PROGRAM(sockio_received, FROM_SOCKET, 2)
SOCKIO_RECEIVED_PROGRAM(sockio_received_nested, FROM_SOCKET, 3)

/*
 * How what was noted ended: by the tracepoints, or by fexit where these are not there.
 */

SOCKIO_SENT_PROGRAM(sockio_sent_noted, FROM_NOTE, 0)
SOCKIO_SENT_PROGRAM(sockio_sent_noted_nested, FROM_NOTE, 1)
SOCKIO_RECEIVED_PROGRAM(sockio_received_noted, FROM_NOTE, 2)
SOCKIO_RECEIVED_PROGRAM(sockio_received_noted_nested, FROM_NOTE, 3)

SEC("fexit/tcp_sendmsg")
int BPF_PROG(sockio_send_exit, struct sock *sk, struct msghdr *msg, size_t size, int result)
{
	return sockio_deliver(sk, result, 0, true, FROM_NOTE, 0);
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(sockio_receive_exit, struct sock *sk, struct msghdr *msg, size_t size, int flags, int *address_length,
	     int result)
{
	return sockio_deliver(sk, result, flags, false, FROM_NOTE, 2);
}

/* Before 5.19, ec095263a965 ("net: remove noblock parameter from recvmsg() entities"). */
SEC("fexit/tcp_recvmsg")
int BPF_PROG(sockio_receive_exit_nonblock, struct sock *sk, struct msghdr *msg, size_t size, int nonblock, int flags,
	     int *address_length, int result)
{
	return sockio_deliver(sk, result, nonblock ? flags | MSG_DONTWAIT : flags, false, FROM_NOTE, 2);
}

/* sendfile and splice before 6.5, dc97391e6610 ("sock: Remove ->sendpage*() in favour of sendmsg(MSG_SPLICE_PAGES)"). */
SEC("fexit/tcp_sendpage")
int BPF_PROG(sockio_sendpage_exit, struct sock *sk, void *page, int offset, size_t size, int flags, int result)
{
	return sockio_deliver(sk, result, 0, true, FROM_NOWHERE, 1);
}
