/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A protocol that only counts how often it is called: it claims the streams of one port as soon as they are established.
 * For protocols.test.ts.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "core/edge.h"
#include "core/owner.h"
#include "core/socket.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define CLAIMED 7 /* a slot that no protocol has */

const volatile u16 claimed_port = 0;

/* TCP state, or 0 for a walk → how often it was called for it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, u64);
} called SEC(".maps");

static __always_inline int count_call(u32 state)
{
	u64 *count = bpf_map_lookup_elem(&called, &state);

	if (count)
		ATOMIC_ADD(*count, 1);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(knpt_claim, struct sock *sk, int before, int after)
{
	struct socket_state *state = after == TCP_ESTABLISHED ? socket_state_of(sk) : NULL;

	if (state && (state->local_port == claimed_port || state->remote_port == claimed_port))
		state->stream.protocol = CLAIMED;
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(knpt_end, struct sock *sk, int before, int after)
{
	return count_call(after);
}

SEC("iter/bpf_sk_storage_map")
int knpt_walk(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	return count_call(0);
}

SEC("iter/task_file")
int knpt_walk_files(struct bpf_iter__task_file *ctx)
{
	return count_call(0);
}
