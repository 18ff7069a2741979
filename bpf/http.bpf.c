/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * HTTP/1 by edge: requests, durations, sizes, counted where they happen. sockio shows the bytes, http1_conn.h
 * understands them, http_metrics.h counts what is finished; here is which sockets are followed, and for how long.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "core/edge.h"
#include "core/owner.h"
#include "core/socket.h"
#include "sockio.h"
#include "http_records.h"
#include "http_metrics.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What was found out about a socket that is not (yet) followed. */
struct http_verdict {
	u32 left_alone; /* not HTTP */
	u16 looks;
	u16 not_shown; /* bytes passed that no hook showed */
	u64 delivered; /* the call that was looked at last: see sockio_position() */
	u64 answered_ns; /* when something like an answer passed before it could be followed */
};

/* Looks at a connection that was open before the agent; one that came later is looked at once. */
#define HTTP_LOOKS 1024

/* Sockets that carry HTTP/1. No size: it lives and dies with the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http_conn);
} http_conns SEC(".maps");

/* Sockets that were looked at and do not. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http_verdict);
} http_verdicts SEC(".maps");

/* The working space of the programs, by processor. Each hook's program has its own: one may be preempted in the middle
 * and another run, but never the same one again. */
struct http_work {
	struct http1_parser look;
	struct http_call call;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SOCKIO_SLOTS);
	__type(key, u32);
	__type(value, struct http_work);
} http_work SEC(".maps");

static __always_inline u32 direction_of(u8 role, bool sends)
{
	return sends == (role == ROLE_CLIENT) ? HTTP_REQUESTS : HTTP_RESPONSES;
}

/* Does the first piece of the call begin like HTTP/1? */
__attribute__((noinline)) int http_begins(struct http_work *work)
{
	struct http1_window *window;
	struct http_call *call;
	u64 amount;
	int event;

	if (!work)
		return 0;
	call = &work->call;
	window = &call->window;
	if (!call->left && !http_next_piece(call))
		return 0;
	amount = call->left < call->total ? call->left : call->total;
	if (amount > HTTP1_WINDOW)
		amount = HTTP1_WINDOW;
	if (http_read_user(window->bytes, amount, call->base))
		return 0;
	window->position = 0;
	window->length = amount;
	http1_blank(window, amount & (2 * HTTP1_WINDOW - 1));
	work->look.state = HTTP1_START;
	work->look.is_response = call->direction & 1;
	event = http1_start(&work->look, window);
	if (event == HTTP1_AGAIN) /* an empty line in front */
		event = http1_start(&work->look, window);
	return event != HTTP1_MALFORMED;
}

/* The edge of a socket; whoever reads an accepted one is its owner. */
static __noinline u32 http_edge_of(struct sock *sk, struct socket_state *state, bool reads)
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

static __noinline int http_resolve_edge(struct sock *sk, struct http_conn *conn, bool reads)
{
	struct socket_state *state = socket_state_of(sk);
	u32 edge_id, flags;

	if (!state)
		return 0;
	/* with a barrier: who has seen this flag sees the edge that follows from it */
	flags = __sync_fetch_and_or(&state->flags, 0);
	edge_id = http_edge_of(sk, state, reads);
	if (!edge_id)
		return 0;
	if (edge_id != conn->edge_id) {
		conn->edge_id = edge_id;
		conn->known_route = ROUTE_UNKNOWN; /* routes are the server's */
	}
	conn->edge_settled = state->role == ROLE_CLIENT || (flags & SOCKET_OWNER_SETTLED);
	return 0;
}

static __always_inline bool http_is_older(struct socket_state *state)
{
	struct http_control *control = http_controls();

	return (state->flags & SOCKET_PREEXISTING) || !control || !control->started_ns ||
	       state->start_ns < control->started_ns;
}

static __noinline struct http_conn *http_follow(struct sock *sk, struct socket_state *state, u64 answered_ns, bool joining)
{
	struct http_conn *conn = bpf_sk_storage_get(&http_conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!conn) {
		http_count(HTTP_LOST_STORAGE, 1);
		return NULL;
	}
	conn->role = state->role;
	conn->family = remote_address(sk, conn->remote);
	local_address(sk, conn->local);
	conn->remote_port = state->remote_port;
	conn->local_port = state->local_port;
	conn->seed = (u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	conn->ignored_ns = answered_ns;
	if (joining)
		conn->flags = HTTP_JOINING;
	http_count(HTTP_CONNECTIONS, 1);
	return conn;
}

/* The first bytes of a socket: is it HTTP/1? Pieces and direction are in work->call; it comes back untouched. */
static __noinline struct http_conn *http_look(struct sock *sk, struct socket_state *state, struct http_work *work)
{
	struct http_verdict *verdict;
	struct http_call *call = &work->call;
	u64 base = call->base, left = call->left, iov = call->iov;
	u32 iov_left = call->iov_left;
	bool older = http_is_older(state), begins;

	verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, 0);
	if (verdict && verdict->not_shown)
		older = true;
	begins = http_begins(work);
	call->base = base;
	call->left = left;
	call->iov = iov;
	call->iov_left = iov_left;
	if (begins && (!older || call->direction == HTTP_REQUESTS))
		return http_follow(sk, state, older && verdict ? verdict->answered_ns : 0, older);
	verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!verdict) {
		http_count(HTTP_LOST_STORAGE, 1);
		return NULL;
	}
	if (call->direction == HTTP_RESPONSES)
		verdict->answered_ns = call->end.now_ns;
	if (!older || ++verdict->looks >= HTTP_LOOKS) {
		verdict->left_alone = 1;
		http_count(HTTP_NOT_HTTP, 1);
	}
	return NULL;
}

/* Bytes of a socket that is not followed were not shown: nobody knows whether they are HTTP. Counts once; the
 * connection is joined at a request that is. */
static __noinline struct http_conn *http_not_shown(struct sock *sk)
{
	struct http_verdict *verdict =
		bpf_sk_storage_get(&http_verdicts, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!verdict) {
		http_count(HTTP_LOST_STORAGE, 1);
	} else if (!verdict->not_shown) {
		verdict->not_shown = 1;
		http_count(HTTP_LOST_NOT_SHOWN, 1);
	}
	return NULL;
}

/* What passed before this call without being shown, by the sequence numbers. Says whether to go on. */
static __always_inline bool http_catch_up(struct http_conn *conn, struct http_call *call, u32 position)
{
	struct http_direction *direction = &conn->directions[call->direction & 1];
	u32 start = position - (u32)call->total;
	s32 gap = start - direction->sequence;
	u64 total = call->total;

	if (!direction->sequenced) {
		direction->sequenced = 1;
		direction->sequence = position;
		return true;
	}
	if (direction->sequence == position)
		return false; /* seen already, by another hook */
	direction->sequence = position;
	if (gap == 0)
		return true;
	if (gap < 0) {
		http_lose(conn, direction, HTTP_LOST_DISORDER);
		return true; /* a request line may be in it */
	}
	if (!http_begin_call(conn, call))
		return false;
	http_unseen(conn, call, gap);
	http_end_call(conn, call);
	call->total = total;
	return true;
}

/* The bytes of one call, with everything in `call` filled in. `seen`: they can be read. */
static __always_inline int http_on_data(struct sock *sk, struct http_conn *conn, struct http_call *call, u32 position,
					bool sends, bool seen)
{
	struct http_direction *direction = &conn->directions[call->direction & 1];

	if (!conn->edge_id || (!conn->edge_settled && direction->parser.state == HTTP1_START &&
			       call->direction == HTTP_REQUESTS))
		http_resolve_edge(sk, conn, !sends);
	if (!http_catch_up(conn, call, position))
		return 0;
	http_take(conn, call, seen, SOCKIO_PUMPS);
	if ((conn->flags & (HTTP_JOINING | HTTP_PROVEN)) == HTTP_JOINING && !direction->carried) {
		/* It only began like HTTP. Forget it; an older one is looked at again. */
		struct http_verdict *verdict =
			bpf_sk_storage_get(&http_verdicts, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (verdict && (!conn->ignored_ns || ++verdict->looks >= HTTP_LOOKS))
			verdict->left_alone = 1;
		http_count(HTTP_NOT_HTTP, 1);
		http_count(HTTP_CONNECTIONS, -1);
		bpf_sk_storage_delete(&http_conns, sk);
	}
	return 0;
}

/* The end of what a client can read: by FIN (0), or by an error. */
static __noinline int http_on_read_end(struct sock *sk, struct http_conn *conn, int result)
{
	struct http_end end = {};

	if (conn->role != ROLE_CLIENT || (conn->flags & (HTTP_TUNNEL | HTTP_FINISHED)))
		return 0;
	if (result == 0 && (sockio_shutdown(sk) & 1 /* RCV_SHUTDOWN */))
		end.error = HTTP_ERROR_CLOSED;
	else if (result == -ECONNRESET)
		end.error = HTTP_ERROR_RESET;
	else if (result == -ETIMEDOUT)
		end.error = HTTP_ERROR_TIMED_OUT;
	else
		return 0;
	end.now_ns = bpf_ktime_get_ns();
	http_end_all(conn, &end);
	return 0;
}

static __always_inline bool http_is_tcp(struct sock *sk)
{
	return sk->sk_protocol == IPPROTO_TCP &&
	       (sk->__sk_common.skc_family == AF_INET || sk->__sk_common.skc_family == AF_INET6);
}

#include "sockio_programs.h"

/* A client's process may still read what arrived; the end is told when it has (http_on_read_end). */
static __always_inline bool http_may_read_on(struct sock *sk, struct tcp_sock *tcp, int before, int after)
{
	bool closed_by_both = sockio_shutdown(sk) == 3, unread = sockio_unread(sk, tcp);
	u64 flags = sk->__sk_common.skc_flags;

	if (after != TCP_CLOSE)
		return unread || !closed_by_both;
	if (!unread || (flags & (1UL << SOCK_DEAD)))
		return false;
	/* close() throws unread bytes away and says so by both bits; so do shutdown() and a FIN after it. */
	return !closed_by_both ||
	       ((flags & (1UL << SOCK_DONE)) && before != TCP_ESTABLISHED && before != TCP_CLOSE_WAIT);
}

/*
 * The end of a connection. Several programs, since the kernel runs none inside itself, for the reasons and in the
 * numbers that core.bpf.c gives; to end twice does no harm.
 */
static __always_inline int http_on_close(struct sock *sk, int before, int after)
{
	struct socket_state *state;
	struct tcp_sock *tcp;
	struct http_conn *conn;
	struct http_end end = {.error = HTTP_ERROR_CLOSED};

	if (sk->sk_protocol != IPPROTO_TCP || (after != TCP_CLOSE && after != TCP_FIN_WAIT1 && after != TCP_LAST_ACK))
		return 0;
	conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	if (!conn)
		return 0;
	if (after == TCP_CLOSE)
		conn->edge_settled = 0; /* the socket may be connected anew */
	if (conn->flags & (HTTP_TUNNEL | HTTP_FINISHED))
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return 0;
	if (conn->role == ROLE_CLIENT && http_may_read_on(sk, tcp, before, after))
		return 0;
	if (after == TCP_CLOSE) {
		int error = sk->sk_err;

		if (error == ETIMEDOUT)
			end.error = HTTP_ERROR_TIMED_OUT;
		else if (error == ECONNRESET || error == EPIPE)
			end.error = HTTP_ERROR_RESET;
	}
	if (!conn->edge_id) {
		state = socket_state_of(sk);
		if (state)
			conn->edge_id = edge_of(sk, state);
	}
	end.now_ns = bpf_ktime_get_ns();
	http_end_all(conn, &end);
	return 0;
}

#define HTTP_STATE_PROGRAM(name)                                                                               \
	SEC("tp_btf/inet_sock_set_state")                                                                      \
	int BPF_PROG(name, struct sock *sk, int before, int after)                                             \
	{                                                                                                      \
		return http_on_close(sk, before, after);                                                       \
	}

HTTP_STATE_PROGRAM(http_state)
HTTP_STATE_PROGRAM(http_state_nested)
HTTP_STATE_PROGRAM(http_state_nested2)
HTTP_STATE_PROGRAM(http_state_nested3)

/*
 * The walk over connections, at collection: how many requests are in flight, and which wait for too long.
 */
const volatile u64 http_idle_ns = 60000000000ULL;

/* Counts one exchange that waits for its answer; says whether it does. */
__attribute__((noinline)) int http_count_active(struct http_conn *conn, u32 number)
{
	struct http_active_key key = {};
	struct http_exchange *exchange;
	u64 *count, one = 1;

	if (!conn)
		return 0;
	exchange = http_exchange_of(conn, number);
	if ((exchange->flags & (EXCHANGE_KNOWN | EXCHANGE_RESPONSE_DONE)) != EXCHANGE_KNOWN)
		return 0;
	key.edge_id = conn->edge_id;
	key.method = exchange->method;
	count = bpf_map_lookup_elem(&http_active, &key);
	if (count)
		ATOMIC_ADD(*count, 1);
	else if (bpf_map_update_elem(&http_active, &key, &one, BPF_ANY))
		http_count(HTTP_LOST_MAP_FULL, 1);
	return 1;
}

static __noinline int http_walk_connection(struct http_conn *conn)
{
	struct http_end end = {.error = HTTP_ERROR_IDLE};
	u64 last;
	int active = 0;

	if (conn->flags & (HTTP_TUNNEL | HTTP_FINISHED))
		return 0;
	for (u32 i = 0; i < HTTP_PIPELINE; i++)
		active |= http_count_active(conn, i);
	if (!active)
		return 0;
	last = conn->directions[0].last_ns;
	if (conn->directions[1].last_ns > last)
		last = conn->directions[1].last_ns;
	end.now_ns = bpf_ktime_get_ns();
	if (end.now_ns > last && end.now_ns - last > http_idle_ns)
		http_end_all(conn, &end);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int http_walk(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct http_conn *conn = sk ? bpf_sk_storage_get(&http_conns, sk, 0, 0) : NULL;

	return conn ? http_walk_connection(conn) : 0;
}

/* For kernels that refuse iterators over a map's elements: see core_walk_files. */
SEC("iter/task_file")
int http_walk_files(struct bpf_iter__task_file *ctx)
{
	struct http_shared *shared = http_shared_state();
	struct file *file = ctx->file;
	struct socket *socket = file ? bpf_sock_from_file(file) : NULL;
	struct sock *sk = socket ? socket->sk : NULL;
	struct http_conn *conn;

	if (!shared)
		return 0;
	if (!ctx->meta->seq_num && !(u8)++shared->walks)
		shared->walks++; /* 0 is that of a connection which no walk has met */
	conn = sk && http_is_tcp(sk) ? bpf_sk_storage_get(&http_conns, sk, 0, 0) : NULL;
	if (!conn || conn->walk == (u8)shared->walks)
		return 0; /* several processes may hold one socket */
	conn->walk = shared->walks;
	return http_walk_connection(conn);
}
