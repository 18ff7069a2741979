/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Why a connection was not made, and where that counts. Used by connection.h, for attempts that end after the socket has
 * left TCP_CLOSE, and by connect_results.h, for those that fail before.
 */
#pragma once

#include "address.h"
#include "dialled.h"
#include "edge.h"
#include "owner.h"
#include "socket.h"
#include "tcp_account.h"
#include <bpf/bpf_core_read.h>

const volatile bool connect_attempts_kept = false; /* set once, before loading: see connect_results.h */

struct connect_attempt {
	struct bpf_task_work work;
	u32 sent; /* the socket has left TCP_CLOSE: its next state tells the rest */
	u32 pad;
};

/* Calls of connect() that are under way, by thread, where connect_results.h needs task work. Written at the beginning of a
 * call, read and removed when it returns. Full: a call that fails at once is not counted, LOST_CONNECT_RESULT counts. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct connect_attempt);
} connect_attempts SEC(".maps");

static __always_inline void connect_attempt_sent(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct connect_attempt *attempt;

	if (!connect_attempts_kept)
		return;
	attempt = bpf_map_lookup_elem(&connect_attempts, &thread);
	if (attempt)
		attempt->sent = 1;
}

/* What an answer, or the lack of one, made of a SYN. */
static __always_inline enum connect_failure failure_of_answer(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return FAILED_REFUSED;
	case ETIMEDOUT:
		return FAILED_TIMED_OUT;
	case ENETUNREACH: /* a router has no route */
	case EHOSTUNREACH:
		return FAILED_UNREACHABLE;
	case EACCES:
		return FAILED_PROHIBITED;
	case ECONNRESET:
		return FAILED_RESET;
	default:
		return FAILED_OTHER;
	}
}

/* Why connect() failed at once. */
static __always_inline enum connect_failure failure_at_once(int error)
{
	switch (error) {
	case ENETUNREACH:
		return FAILED_NO_ROUTE;
	case EHOSTUNREACH:
		return FAILED_UNREACHABLE;
	case EACCES:
	case EPERM:
		return FAILED_PROHIBITED;
	case EADDRNOTAVAIL:
		return FAILED_ADDRESS_UNAVAILABLE;
	case EINVAL:
		return FAILED_INVALID;
	default:
		return FAILED_OTHER;
	}
}

static __noinline int count_failure(struct tcp_totals *totals, u32 failure)
{
	if (!totals || failure >= CONNECT_FAILURES)
		return 0;
	ATOMIC_ADD(totals->connect_failures[failure], 1);
	return 0;
}

/* An attempt of the running task that no socket knows of: it failed before anything was sent, and before its socket had an
 * other end. Its edge is that which the attempt would have got later. */
static __noinline int count_unsent(const struct address *given, u32 error)
{
	struct range_key remote = {.prefix_bits = 128};
	struct edge_key key = {.role = ROLE_CLIENT, .transport = IPPROTO_TCP};

	if (!given)
		return 0;
	key.family = endpoint_of(given, remote.address);
	key.remote_port = bpf_ntohs(given->port);
	key.owner = current_owner();
	classify_remote(&key, &remote);
	return count_failure(tcp_totals_of(intern_edge(&key)), failure_at_once(error));
}
