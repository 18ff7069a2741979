/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Ties a socket to its edge, as late as possible: by the time of the first account the reader of an
 * accepted socket, and the other end of a local connection, are known. Used by every probe that has a
 * socket in its hand: `socket_state_of`, then `edge_of`.
 */
#pragma once

#include "address.h"
#include "edge.h"
#include "established.h"
#include "mptcp.h"
#include "owner.h"
#include <bpf/bpf_endian.h>

static const struct edge no_edge;

/* What is known of a socket. NULL: nothing, or it is the agent's own. */
static __always_inline struct socket_state *socket_state_of(struct sock *sk)
{
	struct socket_state *state = bpf_sk_storage_get(&sockets, sk, 0, 0);

	if (!state || (state->flags & SOCKET_IGNORED))
		return NULL;
	if (state->self == (u64)sk && (state->flags & SOCKET_ESTABLISHED))
		return state;
	return catch_up(sk, state);
}

/* The same where the socket's memory may be another one's by now: nothing is concluded from it. */
static __always_inline struct socket_state *socket_state_known(struct sock *sk)
{
	struct socket_state *state = bpf_sk_storage_get(&sockets, sk, 0, 0);

	if (!state || state->self != (u64)sk || (state->flags & SOCKET_IGNORED))
		return NULL;
	return state;
}

/* Fills scope, range and address of a key from a remote address. */
static __noinline int classify_remote(struct edge_key *key, const struct range_key *lookup)
{
	struct range *range = bpf_map_lookup_elem(&ranges, lookup);

	if (range && range->kind == RANGE_NAMED) {
		key->scope = SCOPE_RANGE;
		key->range = range->id;
	} else if (range && !(key->peer && key->role == ROLE_SERVER)) {
		/* A client keeps what it dialled even where the other end is known: it may be a Service. */
		key->scope = SCOPE_EXACT;
		__builtin_memcpy(key->address, lookup->address, 16);
	} else if (key->peer) {
		key->scope = SCOPE_LOCAL;
	} else if (is_loopback(lookup->address, key->family)) {
		key->scope = SCOPE_LOOPBACK;
	} else {
		key->scope = SCOPE_EXTERNAL;
	}
	return 0;
}

/* What answers, where that is not what was dialled. Addresses that userspace did not ask to keep would be one edge each. */
static __always_inline void keep_reached(struct edge_key *key, const struct range_key *reached, u16 port)
{
	struct range *range = bpf_map_lookup_elem(&ranges, reached);

	if (!range || range->kind != RANGE_KEEP)
		return;
	__builtin_memcpy(key->reached, reached->address, 16);
	key->reached_port = port;
}

static __always_inline u32 other_edge(u8 role)
{
	count_lost(LOST_EDGE_TABLE_FULL);
	return role;
}

/* The number of an edge, made if it is new. Never fails: a full table answers EDGE_OTHER_*. */
static __noinline u32 intern_edge(struct edge_key *key)
{
	struct edge_state *state;
	struct edge *edge;
	u32 id, *known = bpf_map_lookup_elem(&edge_ids, key);

	if (known)
		return *known;
	state = shared_state();
	if (!state)
		return other_edge(key->role);
	id = FIRST_ID + __sync_fetch_and_add(&state->edges_made, 1);
	if (bpf_map_update_elem(&edges, &id, &no_edge, BPF_NOEXIST))
		return other_edge(key->role);
	edge = bpf_map_lookup_elem(&edges, &id);
	if (!edge)
		return other_edge(key->role);
	edge->key = *key;
	if (bpf_map_update_elem(&edge_ids, key, &id, BPF_NOEXIST)) {
		bpf_map_delete_elem(&edges, &id);
		known = bpf_map_lookup_elem(&edge_ids, key);
		return known ? *known : other_edge(key->role);
	}
	return id;
}

/* Both ends look each other up here; the second finds the first. */
static __always_inline u32 peer_of(struct socket_state *state)
{
	struct pair *pair = state->pair ? bpf_map_lookup_elem(&pairs, &state->pair) : NULL;

	if (!pair)
		return 0;
	if (state->role == ROLE_SERVER) {
		pair->server_owner = state->owner;
		return pair->client_owner;
	}
	pair->client_owner = state->owner;
	return pair->server_owner;
}

/* A connection enters `opened` once and `open` until it closes. A walk and a close may be at work on one
 * socket at the same time on two processors; every step is an atomic one, so each counts once. */
static __noinline int count_open(struct socket_state *state, struct edge *edge)
{
	u32 before = __sync_fetch_and_or(&state->flags, SOCKET_COUNTED | SOCKET_OPEN);

	if (!(before & SOCKET_COUNTED))
		ATOMIC_ADD(edge->opened, 1);
	if (before & SOCKET_OPEN)
		return 0;
	ATOMIC_ADD(edge->open, 1);
	if ((before & SOCKET_CLOSED) && (__sync_fetch_and_and(&state->flags, ~SOCKET_OPEN) & SOCKET_OPEN))
		ATOMIC_ADD(edge->open, -1);
	return 0;
}

/* Gives the socket its edge, unless another processor has just done so; answers the one that holds. */
static __always_inline u32 adopt_edge(struct socket_state *state, u32 id)
{
	u32 first = __sync_val_compare_and_swap(&state->edge_id, 0, id), before;
	struct edge *edge;

	if (first)
		return first;
	edge = bpf_map_lookup_elem(&edges, &id);
	if (!edge) {
		count_lost(LOST_EDGE_GONE);
		return id;
	}
	ATOMIC_ADD(edge->sockets, 1);
	before = __sync_fetch_and_or(&state->flags, SOCKET_HOLDS_EDGE);
	if (state->flags & SOCKET_ESTABLISHED)
		count_open(state, edge);
	/* Closed, and maybe left already: bytes may be read after that. Whoever takes the mark away leaves. */
	if ((before & SOCKET_CLOSED) && (__sync_fetch_and_and(&state->flags, ~SOCKET_HOLDS_EDGE) & SOCKET_HOLDS_EDGE))
		ATOMIC_ADD(edge->sockets, -1);
	return id;
}

/* The remote end of a client: what it dialled and, unless the peer is known, what answers. */
static __noinline int classify_server(struct edge_key *key, struct range_key *remote, struct socket_state *state)
{
	struct range_key reached = {.prefix_bits = 128};
	u16 port = state->other_port;

	key->remote_port = state->remote_port;
	if (state->flags & SOCKET_REDIRECTED) {
		reached = *remote;
		port = state->remote_port;
		__builtin_memcpy(remote->address, state->other, 16);
		key->remote_port = state->other_port;
	} else if (state->flags & SOCKET_TRANSLATED) {
		__builtin_memcpy(reached.address, state->other, 16);
	} else {
		return classify_remote(key, remote);
	}
	if (!key->peer)
		keep_reached(key, &reached, port);
	return classify_remote(key, remote);
}

/* An accepted whole: its first subflow knows what tells both ends. */
static __noinline int complete_whole(struct sock *sk, struct socket_state *state)
{
	struct tcp_sock *tcp = (struct tcp_sock *)first_subflow(sk);
	u32 sent, received;

	if (!tcp)
		return 0;
	sent = BPF_CORE_READ(tcp, snd_una) - (u32)BPF_CORE_READ(tcp, bytes_acked);
	received = BPF_CORE_READ(tcp, rcv_nxt) - (u32)BPF_CORE_READ(tcp, bytes_received);
	state->pair = (u64)received << 32 | sent;
	state->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	return 0;
}

static __noinline u32 resolve_edge(struct sock *sk, struct socket_state *state)
{
	struct range_key remote = {.prefix_bits = 128};
	struct edge_key key = {.owner = state->owner, .role = state->role, .transport = TRANSPORT_TCP};
	u32 id;

	if (state->role == ROLE_LISTENER) {
		key.local_port = state->local_port;
		key.family = sk->__sk_common.skc_family == AF_INET6 ? 6 : 4;
	} else {
		key.family = remote_address(sk, remote.address);
		if (!state->pair && is_whole(sk))
			complete_whole(sk, state);
		key.peer = peer_of(state);
		if (state->role == ROLE_SERVER) {
			key.local_port = state->local_port;
			classify_remote(&key, &remote);
		} else {
			classify_server(&key, &remote, state);
		}
	}
	/* Closed, unless it is the close itself that asks: the address just read may be another socket's. */
	id = state->flags & SOCKET_CLOSED ? state->edge_id : 0;
	return id ? id : adopt_edge(state, intern_edge(&key));
}

/* The edge of a socket, resolved the first time that it is asked for. */
static __always_inline u32 edge_of(struct sock *sk, struct socket_state *state)
{
	return state->edge_id ? state->edge_id : resolve_edge(sk, state);
}
