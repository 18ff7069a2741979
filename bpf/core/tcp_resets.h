/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Resets. A reset of an established connection waits in the socket's state for the account that its end
 * brings; a refusal is a failed connect, not a reset. Two programs each, as for states; resets that belong to no
 * socket are left to the first, since nothing tells the second that they were counted.
 * Included by core.bpf.c.
 */
#pragma once

static __always_inline int on_reset_received(struct sock *sk)
{
	struct socket_state *state = socket_state_of(sk);

	if (state && (state->flags & SOCKET_SUBFLOW)) {
		struct sock *whole = whole_of(sk);

		state = whole ? socket_state_of(whole) : NULL;
	}
	if (!state)
		return 0;
	if (sk->__sk_common.skc_state == TCP_SYN_SENT) {
		__sync_fetch_and_or(&state->flags, SOCKET_REFUSED);
		return 0;
	}
	if (!(__sync_fetch_and_or(&state->flags, SOCKET_RESET_RECEIVED) & SOCKET_RESET_RECEIVED))
		ATOMIC_ADD(state->resets_received, 1);
	return 0;
}

/* A reset for a segment that belongs to no socket (a closed port): the host's own, by remote address. */
static __noinline int count_unbound_reset(struct sk_buff *skb)
{
	struct range_key remote = {.prefix_bits = 128};
	struct edge_key key = {.owner = OWNER_NODE, .role = ROLE_SERVER, .transport = TRANSPORT_TCP};
	unsigned char *header = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
	u32 *words = (u32 *)remote.address;
	struct tcp_totals *totals;
	u8 version = 0;

	bpf_probe_read_kernel(&version, 1, header);
	key.family = version >> 4;
	if (key.family == 6) {
		bpf_probe_read_kernel(remote.address, 16, header + 8);
	} else if (key.family == 4) {
		words[2] = bpf_htonl(0xffff);
		bpf_probe_read_kernel(&words[3], 4, header + 12);
	} else {
		return 0;
	}
	classify_remote(&key, &remote);
	totals = tcp_totals_of(intern_edge(&key));
	if (totals)
		ATOMIC_ADD(totals->resets_sent, 1);
	return 0;
}

static __always_inline int on_reset_sent(struct sock *sk, struct sk_buff *skb, bool first)
{
	struct socket_state *state = NULL;
	struct tcp_totals *totals;

	if (sk)
		state = bpf_sk_storage_get(&sockets, sk, 0, 0); /* none for request and time-wait sockets */
	if (!state || state->self != (u64)sk || state->role == ROLE_LISTENER) {
		if (skb && first)
			count_unbound_reset(skb);
		return 0;
	}
	if (state->flags & SOCKET_SUBFLOW) {
		sk = whole_of(sk);
		state = sk ? socket_state_of(sk) : NULL;
	}
	if (!state || (state->flags & SOCKET_IGNORED))
		return 0;
	if (__sync_fetch_and_or(&state->flags, SOCKET_RESET_SENT) & SOCKET_RESET_SENT)
		return 0;
	if (!(state->flags & SOCKET_CLOSED)) {
		ATOMIC_ADD(state->resets_sent, 1);
		return 0;
	}
	totals = tcp_totals_of(state->edge_id);
	if (totals)
		ATOMIC_ADD(totals->resets_sent, 1);
	return 0;
}

#define RESET_PROGRAMS(suffix, first)                                                                          \
	SEC("tp_btf/tcp_receive_reset")                                                                        \
	int BPF_PROG(tcp_reset_received##suffix, struct sock *sk)                                              \
	{                                                                                                      \
		forbid_preemption();                                                                           \
		on_reset_received(sk);                                                                         \
		allow_preemption();                                                                            \
		return 0;                                                                                      \
	}                                                                                                      \
	SEC("tp_btf/tcp_send_reset")                                                                           \
	int BPF_PROG(tcp_reset_sent##suffix, struct sock *sk, struct sk_buff *skb)                             \
	{                                                                                                      \
		forbid_preemption();                                                                           \
		on_reset_sent(sk, skb, first);                                                                 \
		allow_preemption();                                                                            \
		return 0;                                                                                      \
	}

RESET_PROGRAMS(, true)
RESET_PROGRAMS(_backup, false)
