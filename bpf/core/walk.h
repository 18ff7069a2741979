/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The walk: every socket that we know, at collection. Two ways to meet them:
 *
 *   core_walk	     the elements of the map `sockets`: no socket is missed, nothing else is met
 *   core_walk_files  the descriptors of all processes, where iterators over a map's elements are refused, or not safe.
 *		     Costs a moment per open file of any kind. A socket that no process holds (it waits in an accept
 *		     queue, or its process has closed it) is accounted when it is accepted, or when it ends.
 * Included by core.bpf.c.
 */
#pragma once

/* A client's end is established a moment before the other end is: leave it time to say who it is. */
static __always_inline bool settled(struct socket_state *state)
{
	struct pair *pair;

	if (state->edge_id || state->role != ROLE_CLIENT || !state->pair)
		return true;
	pair = bpf_map_lookup_elem(&pairs, &state->pair);
	return !pair || pair->server_owner || bpf_ktime_get_ns() - state->start_ns > 100000000;
}

static __always_inline void walk_begins(struct edge_state *shared)
{
	/* two walks give userspace the length of a jiffy */
	shared->jiffies = bpf_jiffies64();
	shared->now_ns = bpf_ktime_get_ns();
	shared->queued_now = 0;
}

static __noinline int walk_socket(struct sock *sk, struct socket_state *state, struct edge_state *shared)
{
	if (state->flags & SOCKET_SUBFLOW)
		return 0;
	ATOMIC_ADD(shared->walked_sockets, 1);
	if (state->role != ROLE_LISTENER) {
		if (!(state->flags & SOCKET_ESTABLISHED))
			return 0; /* still connecting */
		if (state->role == ROLE_SERVER && !(state->flags & (SOCKET_OWNER_CONFIRMED | SOCKET_CLOSED)) &&
		    (__sync_fetch_and_or(&state->flags, SOCKET_SEEN_UNCONFIRMED) & SOCKET_SEEN_UNCONFIRMED))
			ATOMIC_ADD(shared->unconfirmed, 1);
	} else if (state->flags & SOCKET_PREEXISTING) {
		struct listener_account queue = {};

		read_listener(sk, &queue);
		ATOMIC_ADD(shared->queued_now, queue.listen_backlog);
	}
	if (state->flags & SOCKET_CLOSED || !settled(state))
		return 0;
	account(sk, state, false);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int core_walk(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct edge_state *shared = shared_state();
	struct sock *sk = ctx->sk;
	struct socket_state *state;

	if (!shared)
		return 0;
	if (!ctx->meta->seq_num)
		walk_begins(shared);
	state = sk ? socket_state_known(sk) : NULL;
	if (!state)
		return 0;
	walk_socket(sk, state, shared);
	call_stream_program(ctx, &stream_walk_programs, state->stream.protocol);
	return 0;
}

/* The TCP socket of a descriptor, or the whole of an MPTCP connection. */
static __always_inline struct sock *tcp_socket_of(struct file *file)
{
	struct socket *socket = file ? bpf_sock_from_file(file) : NULL;
	struct sock *sk = socket ? socket->sk : NULL;

	if (!sk || !is_stream_socket(sk) ||
	    (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6))
		return NULL;
	return sk;
}

/*
 * Walks over descriptors: the process that holds a socket's owns it. Run at start (find_listeners, then find_sockets),
 * and the second again when accepted sockets have no reader that was seen, or while some wait in a queue that were there
 * before the agent. core_walk_files does the same on its way.
 */
static __always_inline int adopt_old_socket(struct sock *sk, struct task_struct *task, bool listeners)
{
	u8 now = sk->__sk_common.skc_state;
	u32 netns, flags;

	if (now == TCP_CLOSE || now == TCP_SYN_SENT || now == TCP_SYN_RECV)
		return 0;
	netns = sk->__sk_common.skc_net.net->ns.inum;
	flags = agent_tgid && (u32)task->tgid == agent_tgid ? SOCKET_IGNORED : 0;
	if (now == TCP_LISTEN)
		return adopt_old_listener(sk, task, netns, flags);
	return listeners ? 0 : adopt_old_connection(sk, task, netns, flags);
}

static __always_inline int visit_file(struct bpf_iter__task_file *ctx, bool listeners)
{
	struct task_struct *task = ctx->task;
	struct socket_state *state;
	struct sock *sk;

	if (!task)
		return 0;
	sk = tcp_socket_of(ctx->file);
	if (!sk)
		return 0;
	state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!state)
		return adopt_old_socket(sk, task, listeners);
	if (state->self == (u64)sk && state->role == ROLE_SERVER &&
	    !(state->flags & (SOCKET_OWNER_CONFIRMED | SOCKET_IGNORED | SOCKET_CLOSED)))
		confirm_owner(sk, state, task);
	return 0;
}

SEC("iter/task_file")
int core_walk_files(struct bpf_iter__task_file *ctx)
{
	struct edge_state *shared = shared_state();
	struct task_struct *task = ctx->task;
	struct socket_state *state;
	struct sock *sk;

	if (!shared)
		return 0;
	if (!ctx->meta->seq_num) {
		walk_begins(shared);
		if (!(u16)++shared->walks)
			shared->walks++; /* 0 is that of a socket which no walk has met */
	}
	sk = tcp_socket_of(ctx->file);
	if (!sk)
		return 0;
	/* What nobody knew until now was accepted since: it waited in a queue when the agent started. */
	if (task && !bpf_sk_storage_get(&sockets, sk, 0, 0))
		adopt_old_socket(sk, task, false);
	state = socket_state_of(sk);
	if (!state || state->walk == (u16)shared->walks)
		return 0; /* several processes may hold one socket */
	state->walk = shared->walks;
	walk_socket(sk, state, shared);
	call_stream_program(ctx, &stream_walk_file_programs, state->stream.protocol);
	return 0;
}

SEC("iter/task_file")
int find_listeners(struct bpf_iter__task_file *ctx)
{
	return visit_file(ctx, true);
}

SEC("iter/task_file")
int find_sockets(struct bpf_iter__task_file *ctx)
{
	return visit_file(ctx, false);
}
