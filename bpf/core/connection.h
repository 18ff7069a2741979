/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The life of a connection, transition by transition: who owns it, who is at its other end, that it counts once, and its
 * last account. core.bpf.c calls it from the tracepoint on TCP states.
 */
#pragma once

#include "connect_failures.h"
#include "dialled.h"
#include "edge.h"
#include "established.h"
#include "mptcp.h"
#include "nat.h"
#include "owner.h"
#include "socket.h"
#include "tcp_account.h"
#include <bpf/bpf_core_read.h>

/* The task at work on an accepted socket is its owner, whichever process listened for it. */
static __noinline int confirm_owner(struct sock *sk, struct socket_state *state, struct task_struct *task)
{
	struct acceptor_key acceptor = {};
	u32 owner;

	__sync_fetch_and_or(&state->flags, SOCKET_OWNER_CONFIRMED);
	owner = owner_of(task);
	if (owner != state->owner) {
		if (state->edge_id) {
			account(sk, state, false);
			leave_edge(state);
			state->edge_id = 0;
		}
		acceptor.listener_owner = state->listener_owner;
		acceptor.port = state->local_port;
		bpf_map_update_elem(&acceptors, &acceptor, &owner, BPF_ANY);
		state->owner = owner;
	}
	__sync_fetch_and_or(&state->flags, SOCKET_OWNER_SETTLED);
	return 0;
}

const volatile u32 walker_tgid = 0; /* the agent, whether its own traffic is left out or not */

/*
 * With the socket's lock owned, the running task is the one that took it: softirq leaves such a socket alone. Not the agent,
 * though: a walk over descriptors (iter/task_file) holds the file that it looks at, and when its process lets go of it
 * meanwhile it is the agent that closes it. What the agent accepts itself it also listens for.
 */
static __always_inline void confirm_current(struct sock *sk, struct socket_state *state)
{
	if (state->role != ROLE_SERVER || (state->flags & SOCKET_OWNER_CONFIRMED))
		return;
	if (walker_tgid && (u32)(bpf_get_current_pid_tgid() >> 32) == walker_tgid)
		return;
	if (sk->sk_lock.owned && !current_is_kernel_thread())
		confirm_owner(sk, state, (struct task_struct *)bpf_get_current_task());
}

/* The other end may still want to know who we were: the last one out removes the pair. */
static __noinline int leave_pair(struct socket_state *state)
{
	struct pair *pair = state->pair ? bpf_map_lookup_elem(&pairs, &state->pair) : NULL;
	u32 closed, other_owner;

	if (!pair)
		return 0;
	closed = __sync_fetch_and_or(&pair->closed, 1 << (state->role & 3));
	other_owner = state->role == ROLE_CLIENT ? pair->server_owner : pair->client_owner;
	if (closed || !other_owner)
		bpf_map_delete_elem(&pairs, &state->pair);
	return 0;
}

/* A socket is used again. Where its last connection ended unseen, what it moved since its last account is not known. */
static __noinline int connect_anew(struct socket_state *state, struct socket_state *first)
{
	if ((state->flags & (SOCKET_ESTABLISHED | SOCKET_CLOSED | SOCKET_IGNORED)) == SOCKET_ESTABLISHED) {
		count_lost(LOST_SOCKET_UNSEEN);
		leave_edge(state);
		leave_pair(state);
	}
	*state = *first;
	return 0;
}

static __always_inline int on_connect(struct sock *sk)
{
	struct socket_state first = {.self = (u64)sk, .role = ROLE_CLIENT, .tcp_state = TCP_SYN_SENT}, *state;
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (!tcp)
		return 0; /* a whole connects by its first subflow */
	if (current_is_agent() || (is_subflow(tcp) && joins_whole(sk)))
		first.flags = SOCKET_IGNORED;
	else
		first.owner = current_owner();
	connect_attempt_sent();
	first.start_ns = bpf_ktime_get_ns();
	first.remote_port = bpf_ntohs(sk->__sk_common.skc_dport); /* gone when a connect that failed is over */
	state = bpf_sk_storage_get(&sockets, sk, &first, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		count_lost(LOST_SOCKET_STORAGE);
	else if (state->self == (u64)sk && state->start_ns != first.start_ns)
		connect_anew(state, &first); /* after connect() failed, or after shutdown and reuse */
	if (state && !(first.flags & SOCKET_IGNORED) && !current_is_kernel_thread())
		find_dialled(sk, state);
	return 0;
}

static __always_inline int on_listen(struct sock *sk)
{
	struct socket_state first = {.self = (u64)sk, .role = ROLE_LISTENER, .tcp_state = TCP_LISTEN}, *state;
	struct listener_account queue = {};
	struct tcp_sock *tcp;

	if (current_is_agent())
		first.flags = SOCKET_IGNORED;
	else
		first.owner = current_owner();
	first.listener_owner = first.owner;
	first.local_port = local_port_of(sk);
	first.start_ns = bpf_ktime_get_ns();
	read_listener(sk, &queue);
	first.listen_drops = queue.listen_drops;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (tcp && is_subflow(tcp))
		first.flags |= SOCKET_SUBFLOW;
	state = bpf_sk_storage_get(&sockets, sk, &first, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		count_lost(LOST_SOCKET_STORAGE);
	else if (state->start_ns != first.start_ns)
		*state = first;
	return 0;
}

/*
 * The end of an attempt whose socket had left TCP_CLOSE. With no error in the socket and the socket's lock owned it is the
 * process that ends it: within connect(), where nothing was sent because it found no port, or later, when it gives up.
 */
static __always_inline enum connect_failure failure_of(struct sock *sk, struct socket_state *state)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	int error = sk->sk_err;

	if (!error && (state->flags & SOCKET_REFUSED))
		error = ECONNREFUSED; /* the process has been told already */
	if (error || !sk->sk_lock.owned || !tcp)
		return failure_of_answer(error);
	return !tcp->segs_out && !sk->sk_shutdown ? FAILED_ADDRESS_UNAVAILABLE : FAILED_CANCELLED;
}

static __noinline int on_connect_failed(struct sock *sk, struct socket_state *state)
{
	enum connect_failure failure;
	struct tcp_totals *totals;

	if (!tcp_totals_kept)
		return 0;
	find_backend(sk, state);
	totals = tcp_totals_of(edge_of(sk, state));
	if (!totals)
		return 0;
	account_connection(sk, state, totals, true); /* a SYN sent again is a retransmitted segment */
	failure = failure_of(sk, state); /* not earlier: the verifier would look at all above for each of the reasons */
	if (failure == FAILED_ADDRESS_UNAVAILABLE)
		__sync_fetch_and_or(&state->flags, SOCKET_FAILED_AT_ONCE);
	count_failure(totals, failure);
	leave_edge(state);
	return 0;
}

static __always_inline int on_close(struct sock *sk, struct socket_state *state)
{
	/* First the flag, then the account: from here on a walk keeps its hands off. */
	if (__sync_fetch_and_or(&state->flags, SOCKET_CLOSED) & SOCKET_CLOSED)
		return 0;
	state->stream.close_error = sk->sk_err;
	account(sk, state, true);
	leave_edge(state);
	if (!(state->flags & SOCKET_SUBFLOW)) /* it has lent its whole the pair */
		leave_pair(state);
	return 0;
}

/*
 * Accepted, but not a copy of its listener's state, since that has none: a listener of MPTCP that was there before the
 * agent, whose process holds the whole and whose subflow, which the connection comes from, nothing leads to.
 */
static __noinline int on_accept_from_old(struct sock *sk)
{
	struct listen_key listen = {.netns = sk->__sk_common.skc_net.net->ns.inum, .port = bound_port_of(sk)};
	u32 *owner = bpf_map_lookup_elem(&listen_ports, &listen);
	struct socket_state *state;

	if (!owner)
		return 0;
	state = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		count_lost(LOST_SOCKET_STORAGE);
		return 0;
	}
	state->owner = *owner;
	return on_established_server(sk, state);
}

/* The state is CLOSE, whether seen when it became so or later. Says which protocol is to be told. */
static __always_inline u32 on_end(struct sock *sk, struct socket_state *state)
{
	if (state->role == ROLE_CLIENT && !(state->flags & SOCKET_ESTABLISHED))
		on_connect_failed(sk, state);
	else
		on_close(sk, state);
	return state->stream.protocol;
}

/*
 * One transition. Says which protocol is to be told: the end of a connection, in either of its steps, concerns the
 * protocol that it carries. 0: none.
 */
static __always_inline u32 on_transition(struct sock *sk, int before, int after, bool first)
{
	struct socket_state *state;

	if (after == TCP_SYN_RECV || after == TCP_TIME_WAIT || !is_stream_socket(sk))
		return 0;
	state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (state && state->self == (u64)sk) {
		if (state->tcp_state == after) {
			/* The backup program has been here. It comes after the first, though: what that one finds is an
			 * attempt to connect whose failure nobody saw. */
			if (!first || after != TCP_SYN_SENT)
				return 0;
			count_lost(LOST_SOCKET_UNSEEN);
		}
		state->tcp_state = after;
	}
	if (after == TCP_SYN_SENT)
		return on_connect(sk);
	if (after == TCP_LISTEN)
		return on_listen(sk);
	if (!state) {
		if (after == TCP_ESTABLISHED && before != TCP_SYN_SENT)
			return on_accept_from_old(sk);
		/* e.g. waiting in an accept queue when the agent started */
		if (first && after == TCP_CLOSE && before != TCP_CLOSE && before != TCP_LISTEN && before != TCP_SYN_RECV)
			count_lost(LOST_SOCKET_UNSEEN);
		return 0;
	}
	if (state->flags & SOCKET_IGNORED)
		return 0;
	if (after == TCP_ESTABLISHED) {
		if (state->self != (u64)sk)
			return on_established_server(sk, state);
		return before == TCP_SYN_SENT || before == TCP_SYN_RECV ? on_established_client(sk, state) : 0;
	}
	if (state->self != (u64)sk || !(state->flags & SOCKET_ESTABLISHED)) {
		state = catch_up(sk, state); /* the socket is still in the state before */
		if (!state)
			return 0; /* a child that never was established: nothing of its listener's is its own */
		state->tcp_state = after;
	}
	if (after == TCP_CLOSE_WAIT || after == TCP_FIN_WAIT2)
		return 0;
	confirm_current(sk, state);
	if (after == TCP_CLOSE)
		return on_end(sk, state);
	return after == TCP_CLOSING ? STREAM_UNKNOWN : state->stream.protocol;
}

/*
 * A socket is about to be freed. Its end was seen, or it is made up for now: what the socket says is still what it said
 * when it closed.
 */
static __always_inline u32 on_destroy(struct sock *sk)
{
	struct socket_state *state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	struct tcp_sock *tcp;

	if (!state || (state->flags & SOCKET_IGNORED))
		return 0;
	/* What was read after a reset is not told of the end yet. */
	if (state->self == (u64)sk && state->tcp_state == TCP_CLOSE)
		return state->stream.flags & STREAM_IGNORED ? STREAM_UNKNOWN : state->stream.protocol;
	if (state->self != (u64)sk || (state->role == ROLE_CLIENT && !(state->flags & SOCKET_ESTABLISHED))) {
		tcp = bpf_skc_to_tcp_sock(sk);
		/* Neither beginning nor end was seen: an acknowledged SYN, or any byte, tells that there was a connection. */
		if (tcp && (tcp->bytes_acked || tcp->bytes_received))
			establish_late(sk, state);
		if (state->self != (u64)sk)
			return 0;
	}
	state->tcp_state = TCP_CLOSE;
	return on_end(sk, state);
}
