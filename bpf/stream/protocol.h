/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The other end of the tail call: the programs of one protocol, for every prototype and slot (PROTOCOL, at the end). What
 * is the same for all protocols happens here: the state of the connection, its edge, bytes that were not observed, the end
 * of the connection, requests that wait for too long. What a protocol provides: protocol/README.md.
 */
#pragma once

#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "stream/end.h"

/*
 * Edges.
 */

/* The edge of a socket; the process that reads an accepted one is its owner. */
static __noinline u32 stream_edge_of(struct sock *sk, struct socket_state *state, bool reads)
{
	if (reads && !state->edge_id && state->role == ROLE_SERVER && !(state->flags & SOCKET_OWNER_CONFIRMED) &&
	    !current_is_kernel_thread()) {
		struct acceptor_key acceptor = {.listener_owner = state->listener_owner, .port = state->local_port};
		u32 owner = current_owner();

		if (!(__sync_fetch_and_or(&state->flags, SOCKET_OWNER_CONFIRMED) & SOCKET_OWNER_CONFIRMED)) {
			if (owner != state->owner) {
				bpf_map_update_elem(&acceptors, &acceptor, &owner, BPF_ANY);
				state->owner = owner;
			}
			__sync_fetch_and_or(&state->flags, SOCKET_OWNER_SETTLED);
		}
	}
	return edge_of(sk, state);
}

static __noinline int stream_resolve_edge(struct sock *sk, struct request_conn *conn, bool reads)
{
	struct socket_state *state = socket_state_of(sk);
	u32 edge_id, flags;

	if (!state)
		return 0;
	/* with a barrier: a program that has seen this flag sees the edge that follows from it */
	flags = __sync_fetch_and_or(&state->flags, 0);
	edge_id = stream_edge_of(sk, state, reads);
	if (!edge_id)
		return 0;
	if (edge_id != conn->edge_id) {
		conn->edge_id = edge_id;
		conn->known_name = NAME_UNKNOWN; /* names are the server's */
	}
	conn->edge_settled = state->role == ROLE_CLIENT || (flags & SOCKET_OWNER_SETTLED);
	return 0;
}

/*
 * From the first call to the last.
 */

/* A connection was classified as one of this protocol. */
static __noinline int stream_follow(struct sock *sk, struct request_conn *conn, struct stream_call *call, u32 protocol)
{
	struct socket_state *state = socket_state_of(sk);

	if (!state)
		return 0;
	conn->protocol = protocol;
	conn->role = state->role;
	conn->family = remote_address(sk, conn->remote);
	local_address(sk, conn->local);
	conn->remote_port = state->remote_port;
	conn->local_port = state->local_port;
	conn->id = (u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	conn->unmatched_ns = call->answered_ns;
	if (call->flags & STREAM_CALL_MIDWAY)
		conn->flags = CONN_RESYNC;
	request_count(protocol, REQUEST_CONNECTIONS, 1);
	return 1;
}

/* The state of a connection, made if this is its first call. The first calls of both directions may be under way at once, on
 * two threads: each finds the other's, and one of them fills it in. */
static __always_inline void *stream_conn_of(struct sock *sk, struct stream_call *call, void *conns, u32 protocol)
{
	struct request_conn *conn = bpf_sk_storage_get(conns, sk, 0, 0);
	struct socket_state *state;

	if (conn && !(call->flags & STREAM_CALL_FIRST))
		return conn;
	state = socket_state_of(sk);
	if (!state || state->stream.protocol != protocol)
		return NULL; /* given back by the other thread's call */
	if (conn && conn->began_ns && conn->began_ns != state->start_ns) { /* a socket that is used again */
		bpf_sk_storage_delete(conns, sk);
		conn = NULL;
	}
	if (!conn)
		conn = bpf_sk_storage_get(conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!conn) {
		request_count(protocol, REQUEST_LOST_STORAGE, 1);
		state->stream.protocol = STREAM_UNKNOWN; /* looked at again */
		return NULL;
	}
	if (!__sync_val_compare_and_swap(&conn->began_ns, 0, state->start_ns))
		stream_follow(sk, conn, call, protocol);
	return conn;
}

/* Nothing more is to be learnt from the socket: one look-up is what it costs from here on. */
static __noinline int stream_leave(struct sock *sk)
{
	struct socket_state *state = socket_state_of(sk);

	if (state)
		__sync_fetch_and_or(&state->stream.flags, STREAM_IGNORED);
	return 0;
}

/* It only began like this protocol, and is classified again: as another one or, where it was observed from its middle on,
 * at a later call as this one. */
static __noinline int stream_refuse(struct sock *sk, u32 protocol, bool again)
{
	struct socket_state *state = socket_state_of(sk);
	struct request_control *control = request_controls();

	request_count(STREAM_UNKNOWN, REQUEST_IGNORED, 1);
	request_count(protocol, REQUEST_CONNECTIONS, -1);
	if (!state || !control)
		return 0;
	state->stream.protocol = STREAM_UNKNOWN;
	if (!again || ++state->stream.looks >= STREAM_LOOKS)
		state->stream.refused |= 1 << (protocol & (STREAM_PROTOCOLS - 1));
	__sync_fetch_and_or(&state->stream.flags,
			    control->protocols & ~state->stream.refused ? STREAM_UNOBSERVED : STREAM_IGNORED);
	return 0;
}

/* After a call: is the connection still one of this protocol? `undecided`: it needs more bytes to say so. */
static __always_inline void stream_after(struct sock *sk, struct request_conn *conn, void *conns, bool undecided)
{
	u32 flags = conn->flags;

	if (flags & (CONN_LEFT | CONN_ENDED)) {
		stream_leave(sk);
	} else if ((flags & (CONN_RESYNC | CONN_PROVEN)) == CONN_RESYNC && !undecided) {
		stream_refuse(sk, conn->protocol, conn->unmatched_ns);
		bpf_sk_storage_delete(conns, sk);
	}
}

static __always_inline void stream_time(struct stream_work *work, u32 protocol)
{
	struct stream_cost *cost = &work->costs[protocol & (STREAM_PROTOCOLS - 1)];

	if (!work->call.timed_ns)
		return;
	cost->timed_runs++;
	cost->timed_ns += bpf_ktime_get_ns() - work->call.timed_ns;
}

/* Has the connection an edge, and is it the one that it will keep? */
static __always_inline bool stream_has_edge(struct request_conn *conn, bool begins)
{
	return conn->edge_id && (conn->edge_settled || !begins);
}

/*
 * The walk over connections, at collection: how many requests are in flight, and which wait for too long.
 */
const volatile u64 stream_idle_ns = 60000000000ULL;

/* Counts a request that waits for its answer. */
static __noinline int stream_count_active(struct request_conn *conn, u32 operation)
{
	struct request_active_key key = {
		.edge_id = conn->edge_id, .operation = operation, .protocol = conn->protocol};
	u64 *count = bpf_map_lookup_elem(&request_active, &key), one = 1;

	if (count)
		ATOMIC_ADD(*count, 1);
	else if (bpf_map_update_elem(&request_active, &key, &one, BPF_ANY))
		request_count(conn->protocol, REQUEST_LOST_MAP_FULL, 1);
	return 0;
}

/* Has the connection, whose requests wait, been without a byte for too long? */
static __always_inline bool stream_is_idle(struct request_conn *conn, struct request_end *end)
{
	u64 last = conn->last_ns[0] > conn->last_ns[1] ? conn->last_ns[0] : conn->last_ns[1];

	end->error = REQUEST_ERROR_IDLE;
	end->now_ns = bpf_ktime_get_ns();
	return end->now_ns > last && end->now_ns - last > stream_idle_ns;
}

/*
 * The programs. PROTOCOL(name, number, pipeline): `struct <name>_conn`, `struct <name>_call` and the functions <name>_bytes,
 * _unobserved, _desync, _end and _waiting must be there; protocol/README.md says what they do.
 */
#define PROTOCOL(name, number, pipeline)                                                                       \
	/* Connections of this protocol. No size: it lives and dies with the socket. */                       \
	struct {                                                                                               \
		__uint(type, BPF_MAP_TYPE_SK_STORAGE);                                                         \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                          \
		__type(key, int);                                                                              \
		__type(value, struct name##_conn);                                                             \
	} name##_conns SEC(".maps");                                                                           \
	_Static_assert(sizeof(struct name##_call) <= STREAM_WORK, "a call fits in its working space");         \
                                                                                                               \
	static __always_inline bool name##_call_bytes(struct name##_conn *conn, struct name##_call *call)      \
	{                                                                                                      \
		struct stream_call *io = &call->io;                                                            \
		u64 total = io->total;                                                                         \
                                                                                                               \
		conn->base.last_ns[io->direction & 1] = io->end_ns;                                            \
		if (io->flags & STREAM_CALL_DISORDER)                                                          \
			name##_desync(conn, io->direction, REQUEST_LOST_DISORDER);                             \
		if (io->unobserved)                                                                            \
			name##_unobserved(conn, call, io->unobserved);                                         \
		io->total = total;                                                                             \
		if (io->flags & STREAM_CALL_SEEN)                                                              \
			return name##_bytes(conn, call);                                                       \
		name##_unobserved(conn, call, total);                                                          \
		return false;                                                                                  \
	}                                                                                                      \
	static __always_inline int name##_run(struct sock *sk, u32 slot)                                       \
	{                                                                                                      \
		struct stream_work *work = bpf_map_lookup_elem(&stream_work, &slot);                           \
		struct name##_call *call = (void *)work;                                                       \
		struct request_end end = {};                                                                   \
		struct name##_conn *conn;                                                                      \
		bool undecided = false, ends;                                                                  \
                                                                                                               \
		if (!sk || !work)                                                                              \
			return 0;                                                                              \
		conn = stream_conn_of(sk, &work->call, &name##_conns, number);                                 \
		if (!conn || (conn->base.flags & (CONN_LEFT | CONN_ENDED)))                                    \
			return 0;                                                                              \
		ends = work->call.kind == STREAM_CALL_END;                                                     \
		if (ends) {                                                                                    \
			end.error = work->call.error;                                                          \
			end.now_ns = bpf_ktime_get_ns();                                                       \
		} else {                                                                                       \
			if (!stream_has_edge(&conn->base, name##_at_request(conn, &work->call)))               \
				stream_resolve_edge(sk, &conn->base,                                           \
						    (work->call.direction == STREAM_REQUESTS) ==               \
							    (conn->base.role == ROLE_SERVER));                 \
			undecided = name##_call_bytes(conn, call);                                             \
			if (conn->base.flags & (CONN_SENDING | CONN_RECEIVING))                                \
				ends = stream_moved_last(sk, &conn->base, call->io.direction, &end);           \
		}                                                                                              \
		if (ends)                                                                                      \
			name##_end(conn, &end);                                                                \
		stream_after(sk, &conn->base, &name##_conns, undecided);                                       \
		stream_time(work, number);                                                                     \
		return 0;                                                                                      \
	}                                                                                                      \
	STREAM_LENGTH_PROTOCOL(name, 0)                                                                        \
	STREAM_LENGTH_PROTOCOL(name, 1)                                                                        \
	STREAM_LENGTH_PROTOCOL(name, 2)                                                                        \
	STREAM_LENGTH_PROTOCOL(name, 3)                                                                        \
	STREAM_EXIT_PROTOCOL(name, send, "tcp_sendmsg", 0)                                                     \
	STREAM_EXIT_PROTOCOL(name, receive, "tcp_recvmsg", 2)                                                  \
	STREAM_EXIT_PROTOCOL(name, sendpage, "tcp_sendpage", 1)                                                \
                                                                                                               \
	static __always_inline int name##_changes(struct sock *sk, int before, int after)                      \
	{                                                                                                      \
		struct request_end end = {};                                                                   \
		struct name##_conn *conn;                                                                      \
                                                                                                               \
		if (after != TCP_CLOSE && after != TCP_FIN_WAIT1 && after != TCP_LAST_ACK)                     \
			return 0;                                                                              \
		conn = bpf_sk_storage_get(&name##_conns, sk, 0, 0);                                            \
		if (conn)                                                                                      \
			stream_count_far(sk, &conn->base, STREAM_ANSWERED(conn));                                \
		if (!conn || !stream_ends(sk, &conn->base, before, after, &end))                               \
			return 0;                                                                              \
		name##_end(conn, &end);                                                                        \
		return stream_leave(sk);                                                                       \
	}                                                                                                      \
	/* Called by the core, once for each change of state that may end a connection. */                     \
	SEC("tp_btf/inet_sock_set_state")                                                                      \
	int BPF_PROG(name##_state, struct sock *sk, int before, int after)                                     \
	{                                                                                                      \
		return name##_changes(sk, before, after);                                                      \
	}                                                                                                      \
	/* The same, late, where the end is not told yet.         */                                             \
	SEC("tp_btf/tcp_destroy_sock")                                                                         \
	int BPF_PROG(name##_destroyed, struct sock *sk)                                                        \
	{                                                                                                      \
		return name##_changes(sk, TCP_CLOSE, TCP_CLOSE);                                               \
	}                                                                                                      \
                                                                                                               \
	static __noinline int name##_walk_conn(struct sock *sk, struct name##_conn *conn)                      \
	{                                                                                                      \
		struct request_end end = {};                                                                   \
		struct request *request;                                                                       \
		bool active = false;                                                                           \
                                                                                                               \
		if (conn->base.flags & (CONN_LEFT | CONN_ENDED))                                               \
			return 0;                                                                              \
		stream_count_far(sk, &conn->base, STREAM_ANSWERED(conn));                                        \
		for (u32 i = 0; i < (pipeline); i++) {                                                         \
			request = name##_waiting(conn, i);                                                     \
			if (!request)                                                                          \
				continue;                                                                      \
			stream_count_active(&conn->base, request->operation);                                  \
			active = true;                                                                         \
		}                                                                                              \
		if (active && stream_is_idle(&conn->base, &end))                                               \
			name##_end(conn, &end);                                                                \
		return 0;                                                                                      \
	}                                                                                                      \
	/* Called by the core's walk over sockets, or over files where the kernel refuses that: see core/walk.h. */ \
	SEC("iter/bpf_sk_storage_map")                                                                         \
	int name##_walk(struct bpf_iter__bpf_sk_storage_map *ctx)                                              \
	{                                                                                                      \
		struct sock *sk = ctx->sk;                                                                     \
		struct name##_conn *conn = sk ? bpf_sk_storage_get(&name##_conns, sk, 0, 0) : NULL;            \
                                                                                                               \
		return conn ? name##_walk_conn(sk, conn) : 0;                                                      \
	}                                                                                                      \
	SEC("iter/task_file")                                                                                  \
	int name##_walk_files(struct bpf_iter__task_file *ctx)                                                 \
	{                                                                                                      \
		struct file *file = ctx->file;                                                                 \
		struct socket *socket = file ? bpf_sock_from_file(file) : NULL;                                \
		struct sock *sk = socket ? socket->sk : NULL;                                                  \
		struct name##_conn *conn = sk && stream_is_tcp(sk) ?                                           \
						   bpf_sk_storage_get(&name##_conns, sk, 0, 0) : NULL;         \
                                                                                                               \
		return conn ? name##_walk_conn(sk, conn) : 0;                                                      \
	}

/* Of both sock_send_length and sock_recv_length, whose prototype is the same. */
#define STREAM_LENGTH_PROTOCOL(name, slot)                                                                     \
	SEC("tp_btf/sock_send_length")                                                                         \
	int BPF_PROG(name##_length##slot, struct sock *sk)                                                     \
	{                                                                                                      \
		return name##_run(sk, slot);                                                                   \
	}
#define STREAM_EXIT_PROTOCOL(name, what, function, slot)                                                       \
	SEC("fexit/" function)                                                                                 \
	int BPF_PROG(name##_##what##_exit, struct sock *sk)                                                    \
	{                                                                                                      \
		return name##_run(sk, slot);                                                                   \
	}
