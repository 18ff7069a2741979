/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The end of a connection: does a change of state end it, for a process that may still read what arrived, or is in the
 * middle of a call? Why did it end? Called by protocol.h.
 */
#pragma once

#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "requests/requests.h"
#include "stream/stream.h"
#include "stream/syscalls.h"

#define EPIPE 32

/* A client's process may still read what arrived; the end is told when it has (STREAM_CALL_END). */
static __always_inline bool stream_may_read_on(struct sock *sk, struct tcp_sock *tcp, int before, int after)
{
	bool unread = is_whole(sk) ? stream_whole_unread(sk) : tcp && stream_unread(sk, tcp);
	bool closed_by_both = stream_shutdown(sk) == 3;
	u64 flags = sk->__sk_common.skc_flags;

	if (after != TCP_CLOSE)
		return unread || !closed_by_both;
	if (!unread || (flags & (1UL << SOCK_DEAD)))
		return false;
	/* close() throws unread bytes away and says so by both bits; so do shutdown() and a FIN after it. */
	return !closed_by_both ||
	       ((flags & (1UL << SOCK_DONE)) && before != TCP_ESTABLISHED && before != TCP_CLOSE_WAIT);
}

/* Why a socket in CLOSE ended. EPIPE: the peer had closed before, in order, which is what a client finds that asked on a
 * connection which its server had given up. */
static __always_inline enum request_error stream_close_error(struct request_conn *conn, int error)
{
	if (error == ETIMEDOUT)
		return REQUEST_ERROR_TIMED_OUT;
	if (error == ECONNRESET || (error == EPIPE && conn->role == ROLE_SERVER))
		return REQUEST_ERROR_RESET;
	return REQUEST_ERROR_CLOSED;
}

/*
 * A reset or a FIN that arrives inside of a call closes the socket before the call is over. What it has moved until then is
 * delivered when it returns: a request, or an answer. Says whether there is such a call.
 */
static __noinline bool stream_is_moving(struct sock *sk, struct tcp_sock *tcp, struct request_conn *conn, int before)
{
	struct socket_state *state = socket_state_of(sk);
	struct tcp_sock___stream *fields = (void *)tcp;
	u8 sent = stream_direction_of(conn->role, true) & 1, received = !sent;
	struct stream *stream;
	u32 calls = 0;

	if (!state)
		return false;
	stream = &state->stream;
	if (before == TCP_ESTABLISHED || before == TCP_CLOSE_WAIT) { /* else its own FIN has a number too */
		if (stream->positioned[sent] ? stream->next_position[sent] != stream_position(sk, tcp, true)
					     : tcp->bytes_sent /* no call was delivered yet */)
			calls |= CONN_SENDING;
	}
	if (stream->positioned[received] ? stream->next_position[received] != stream_position(sk, tcp, false)
					 : tcp->bytes_received != fields->rcv_nxt - fields->copied_seq)
		calls |= CONN_RECEIVING;
	if (calls)
		__sync_fetch_and_or(&conn->flags, calls);
	return calls;
}

/* A call was delivered after the socket was closed. Was it the last one? Fills `end` if so. */
static __noinline bool stream_moved_last(struct sock *sk, struct request_conn *conn, u32 direction, struct request_end *end)
{
	u32 call = direction == stream_direction_of(conn->role, true) ? CONN_SENDING : CONN_RECEIVING;
	struct socket_state *state = socket_state_of(sk);
	u32 left = __sync_fetch_and_and(&conn->flags, ~call) & (CONN_SENDING | CONN_RECEIVING) & ~call;

	if (!state || !end || left || (conn->flags & (CONN_LEFT | CONN_ENDED)))
		return false;
	end->error = stream_close_error(conn, state->stream.close_error);
	end->now_ns = bpf_ktime_get_ns();
	return true;
}

/* Does this change of state end the connection? Fills `end` if so. */
static __always_inline bool stream_ends(struct sock *sk, struct request_conn *conn, int before, int after,
					struct request_end *end)
{
	struct socket_state *state;
	struct tcp_sock *tcp;
	int error;

	if (after == TCP_CLOSE)
		conn->edge_settled = 0; /* the socket may be connected anew */
	if (conn->flags & (CONN_LEFT | CONN_ENDED))
		return false;
	tcp = bpf_skc_to_tcp_sock(sk);
	if ((!tcp && !is_whole(sk)) || (conn->role == ROLE_CLIENT && stream_may_read_on(sk, tcp, before, after)))
		return false;
	if (after == TCP_CLOSE && before != TCP_CLOSE && tcp && stream_is_moving(sk, tcp, conn, before))
		return false;
	end->error = REQUEST_ERROR_CLOSED;
	if (after == TCP_CLOSE) {
		error = sk->sk_err;
		state = error || before != TCP_CLOSE ? NULL : socket_state_of(sk);
		if (state)
			error = state->stream.close_error;
		end->error = stream_close_error(conn, error);
	}
	if (!conn->edge_id) {
		state = socket_state_of(sk);
		if (state)
			conn->edge_id = edge_of(sk, state);
	}
	end->now_ns = bpf_ktime_get_ns();
	return true;
}

/*
 * Where the other end of the connection is on this host too and does not see what passes (a proxy that lets the kernel copy,
 * by splice), every request that this end saw answered is one that is missing there. `number`: of answers so far. Not asked at
 * each request, but at the end of a connection and at every walk. At each step of the end: the other end may have told of
 * itself only after the first, since a call is seen when it returns.
 */
static __noinline int stream_count_far(struct sock *sk, struct request_conn *conn, u16 number)
{
	struct request_state *shared = request_state_of(STREAM_UNKNOWN);
	u16 missing = number - conn->far_number;
	struct socket_state *state;
	struct pair *pair;

	if (!missing || !shared || !shared->counters[REQUEST_LOST_UNOBSERVED])
		return 0; /* on a host without such proxies nothing is looked up */
	state = socket_state_known(sk);
	pair = state ? bpf_map_lookup_elem(&pairs, &state->pair) : NULL;
	if (!pair || !(pair->unobserved & 1 << (conn->role == ROLE_CLIENT ? ROLE_SERVER : ROLE_CLIENT)))
		return 0;
	conn->far_number = number;
	request_count(conn->protocol, REQUEST_LOST_UNSEEN, missing);
	return 0;
}

#define STREAM_ANSWERED(conn) ((conn)->directions[STREAM_ANSWERS].number)
