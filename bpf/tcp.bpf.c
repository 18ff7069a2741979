/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * TCP by edge. Nothing here runs per packet: the state tracepoint sees a connection begin and end, and
 * everything between is what the kernel keeps in the socket anyway, read by a walk over all sockets when
 * somebody asks (tcp_walk) and once more when the socket closes.
 *
 * Byte counts are the application's: a SYN or FIN is no byte, a retransmitted byte counts once.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "edge.h"
#include "owner.h"
#include "socket.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static const u32 latency_bounds_us[LATENCY_BOUNDS] = {100,    250,    500,	 1000,	 2500,	  5000,	   10000,   25000,
						      50000,  100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};

static __noinline int observe(struct latency_histogram *histogram, u64 us)
{
	u32 bucket = 0;

	for (int i = 0; i < LATENCY_BOUNDS; i++)
		bucket += us > latency_bounds_us[i];
	if (bucket >= LATENCY_BUCKETS) /* cannot be: said for the verifier */
		return 0;
	ATOMIC_ADD(histogram->counts[bucket], 1);
	ATOMIC_ADD(histogram->sum_us, us);
	return 0;
}

/*
 * Accounts.
 *
 * Each takes the difference between what the socket says now and what was accounted before. The close of a
 * socket takes the last one, by swapping. A walk may be at work on the same socket at that moment, on another
 * processor or interrupted in the middle; and once a socket is closed its memory may be another socket's, for
 * TCP's are reused without waiting for readers. So a walk first reads all that it wants, then makes sure that
 * the socket was not closed until then, and then replaces each value only if nobody else has.
 *
 * Differences are taken modulo 2^64: a value that was read a moment too high (a FIN counted before its flag)
 * is put right by the next one.
 */
#define TAKE(state, field, now, target, final)                                                                 \
	({                                                                                                     \
		typeof((state)->field) now_ = (now), before_ = (state)->field, found_;                         \
		if (final)                                                                                     \
			before_ = found_ = __sync_lock_test_and_set(&(state)->field, now_);                    \
		else                                                                                           \
			found_ = now_ == before_ ?                                                             \
					 before_ :                                                             \
					 __sync_val_compare_and_swap(&(state)->field, before_, now_);          \
		if (found_ == before_ && now_ != before_)                                                      \
			ATOMIC_ADD(target, now_ - before_);                                                    \
		found_ == before_ && now_ != before_;                                                          \
	})

static __always_inline u32 chronograph(struct tcp_sock *tcp, u32 now, u32 which)
{
	u32 total = which == SOL_TCP_CHRONO_RWND_LIMITED ? tcp->chrono_stat[1] : tcp->chrono_stat[2];
	u32 running = BPF_CORE_READ_BITFIELD(tcp, chrono_type);

	return running == which ? total + now - tcp->chrono_start : total;
}

/* tcp_rcv_nxt_update() counts a FIN as a byte, then tcp_fin() sets SOCK_DONE; a FIN that met a time-wait
 * minisocket was not counted and has no flag. */
static __always_inline u64 received_payload(struct sock *sk, struct tcp_sock *tcp)
{
	u64 received = tcp->bytes_received;

	return received && (sk->__sk_common.skc_flags & (1UL << SOCK_DONE)) ? received - 1 : received;
}

static __always_inline bool closed(struct socket_state *state)
{
	return __sync_fetch_and_or(&state->flags, 0) & SOCKET_CLOSED; /* with a full barrier */
}

static __noinline int account_connection(struct sock *sk, struct socket_state *state, struct edge *edge, bool final)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	u32 now, retransmitted, out_of_order, receiver_limited, sndbuf_limited, srtt_us, pending;
	u64 sent, received;
	bool moved;

	if (!tcp)
		return 0;
	now = (u32)bpf_jiffies64();
	sent = tcp->bytes_sent - tcp->bytes_retrans;
	received = received_payload(sk, tcp);
	retransmitted = tcp->total_retrans;
	out_of_order = tcp->rcv_ooopack;
	receiver_limited = chronograph(tcp, now, SOL_TCP_CHRONO_RWND_LIMITED);
	sndbuf_limited = chronograph(tcp, now, SOL_TCP_CHRONO_SNDBUF_LIMITED);
	srtt_us = tcp->srtt_us >> 3;
	if (!final && closed(state))
		return 0;
	moved = TAKE(state, sent_bytes, sent, edge->tcp.sent_bytes, final);
	moved |= TAKE(state, received_bytes, received, edge->tcp.received_bytes, final);
	TAKE(state, retransmitted_segments, retransmitted, edge->tcp.retransmitted_segments, final);
	TAKE(state, out_of_order_segments, out_of_order, edge->tcp.out_of_order_segments, final);
	TAKE(state, receiver_limited, receiver_limited, edge->tcp.receiver_limited_jiffies, final);
	TAKE(state, sndbuf_limited, sndbuf_limited, edge->tcp.sndbuf_limited_jiffies, final);
	pending = state->resets_sent ? __sync_lock_test_and_set(&state->resets_sent, 0) : 0;
	if (pending)
		ATOMIC_ADD(edge->tcp.resets_sent, pending);
	pending = state->resets_received ? __sync_lock_test_and_set(&state->resets_received, 0) : 0;
	if (pending)
		ATOMIC_ADD(edge->tcp.resets_received, pending);
	pending = state->connect_us ? __sync_lock_test_and_set(&state->connect_us, 0) : 0;
	if (pending)
		observe(&edge->tcp.connect, pending - 1);
	if (moved && srtt_us)
		observe(&edge->tcp.rtt, srtt_us);
	return 0;
}

static __noinline int account_listener(struct sock *sk, struct socket_state *state, struct edge *edge, bool final)
{
	u32 drops = sk->sk_drops.counter;
	s32 backlog = final ? 0 : sk->sk_ack_backlog, limit = final ? 0 : sk->sk_max_ack_backlog;

	if (!final && closed(state))
		return 0;
	TAKE(state, listen_drops, drops, edge->tcp.listen_drops, final);
	TAKE(state, listen_backlog, backlog, edge->tcp.listen_backlog, final);
	TAKE(state, listen_limit, limit, edge->tcp.listen_limit, final);
	return 0;
}

static __noinline int account(struct sock *sk, struct socket_state *state, bool final)
{
	u32 id = edge_of(sk, state);
	struct edge *edge = bpf_map_lookup_elem(&edges, &id);

	if (!edge) {
		count_lost(LOST_EDGE_GONE);
		return 0;
	}
	if (state->role == ROLE_LISTENER)
		return account_listener(sk, state, edge, final);
	return account_connection(sk, state, edge, final);
}

/* A socket closes, or turns out to belong to another owner. Late accounts still find the edge's number. */
static __noinline int leave_edge(struct socket_state *state)
{
	u32 id = state->edge_id;
	struct edge *edge = id ? bpf_map_lookup_elem(&edges, &id) : NULL;

	if (!edge)
		return 0;
	ATOMIC_ADD(edge->sockets, -1);
	if (__sync_fetch_and_and(&state->flags, ~SOCKET_OPEN) & SOCKET_OPEN)
		ATOMIC_ADD(edge->open, -1);
	return 0;
}

/*
 * Owners.
 */

/* The task at work on an accepted socket is its owner, whoever listened for it. */
static __noinline int confirm_owner(struct sock *sk, struct socket_state *state, struct task_struct *task)
{
	struct acceptor_key acceptor = {};
	u32 owner;

	__sync_fetch_and_or(&state->flags, SOCKET_OWNER_CONFIRMED);
	owner = owner_of(task);
	if (owner == state->owner)
		return 0;
	if (state->edge_id) {
		account(sk, state, false);
		leave_edge(state);
		state->edge_id = 0;
	}
	acceptor.listener_owner = state->listener_owner;
	acceptor.port = state->local_port;
	bpf_map_update_elem(&acceptors, &acceptor, &owner, BPF_ANY);
	state->owner = owner;
	return 0;
}

/* With the socket's lock owned, whoever runs is the one that took it: softirq leaves such a socket alone. */
static __always_inline void confirm_current(struct sock *sk, struct socket_state *state)
{
	if (state->role != ROLE_SERVER || (state->flags & SOCKET_OWNER_CONFIRMED))
		return;
	if (sk->sk_lock.owned && !current_is_kernel_thread())
		confirm_owner(sk, state, (struct task_struct *)bpf_get_current_task());
}

/*
 * The life of a connection.
 */

/* The initial sequence numbers of both ends, in the client's order. At the moment that a connection is
 * established each end has seen one sequence number of each direction used: the SYN's. */
static __always_inline u64 pair_of(struct tcp_sock *tcp, u8 role)
{
	if (role == ROLE_CLIENT)
		return (u64)tcp->snd_una << 32 | tcp->rcv_nxt;
	return (u64)tcp->rcv_nxt << 32 | tcp->snd_una;
}

static __always_inline u16 local_port_of(struct sock *sk)
{
	return sk->__sk_common.skc_num;
}

static __always_inline int on_connect(struct sock *sk)
{
	struct socket_state first = {.self = (u64)sk, .role = ROLE_CLIENT, .tcp_state = TCP_SYN_SENT}, *state;

	if (current_is_agent())
		first.flags = SOCKET_IGNORED;
	else
		first.owner = current_owner();
	first.start_ns = bpf_ktime_get_ns();
	state = bpf_sk_storage_get(&sockets, sk, &first, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		count_lost(LOST_SOCKET_STORAGE);
	else if (state->self == (u64)sk && state->start_ns != first.start_ns)
		*state = first; /* a socket used again after connect() failed, or after shutdown and reuse */
	return 0;
}

static __always_inline int on_listen(struct sock *sk)
{
	struct socket_state first = {.self = (u64)sk, .role = ROLE_LISTENER, .tcp_state = TCP_LISTEN}, *state;

	if (current_is_agent())
		first.flags = SOCKET_IGNORED;
	else
		first.owner = current_owner();
	first.listener_owner = first.owner;
	first.local_port = local_port_of(sk);
	first.start_ns = bpf_ktime_get_ns();
	first.listen_drops = sk->sk_drops.counter;
	state = bpf_sk_storage_get(&sockets, sk, &first, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state)
		count_lost(LOST_SOCKET_STORAGE);
	else if (state->start_ns != first.start_ns)
		*state = first;
	return 0;
}

static __always_inline int on_established_client(struct sock *sk, struct socket_state *state)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct pair pair = {.client_owner = state->owner};
	u64 duration_us = (bpf_ktime_get_ns() - state->start_ns) / 1000;

	if (!tcp)
		return 0;
	state->local_port = local_port_of(sk);
	state->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	state->pair = pair_of(tcp, ROLE_CLIENT);
	state->connect_us = duration_us > 0xfffffffe ? 0xffffffff : duration_us + 1;
	if (bpf_map_update_elem(&pairs, &state->pair, &pair, BPF_ANY))
		count_lost(LOST_PAIR_TABLE_FULL);
	__sync_fetch_and_or(&state->flags, SOCKET_ESTABLISHED);
	return 0;
}

/* The state is a copy of the listener's, from which only the owner is taken over. */
static __always_inline int on_established_server(struct sock *sk, struct socket_state *state)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct socket_state mine = {.role = ROLE_SERVER, .tcp_state = TCP_ESTABLISHED};
	struct pair *pair;

	if (!tcp)
		return 0;
	mine.owner = state->owner;
	mine.listener_owner = state->owner;
	mine.flags = (state->flags & SOCKET_IGNORED) | SOCKET_ESTABLISHED;
	mine.start_ns = bpf_ktime_get_ns();
	mine.local_port = local_port_of(sk);
	mine.remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	mine.pair = pair_of(tcp, ROLE_SERVER);
	*state = mine;
	/* Last, and with a barrier: until now a walk takes this for a copy and passes it by. */
	__sync_lock_test_and_set(&state->self, (u64)sk);
	/* Tell the client's end who listens: it may be resolved before this one is. */
	pair = bpf_map_lookup_elem(&pairs, &mine.pair);
	if (pair)
		pair->server_owner = mine.owner;
	return 0;
}

static __always_inline enum connect_failure failure_of(struct sock *sk)
{
	switch (sk->sk_err) {
	case ECONNREFUSED:
		return FAILED_REFUSED;
	case ETIMEDOUT:
		return FAILED_TIMED_OUT;
	case ENETUNREACH:
	case EHOSTUNREACH:
		return FAILED_UNREACHABLE;
	case ECONNRESET:
		return FAILED_RESET;
	default:
		return FAILED_OTHER;
	}
}

static __always_inline int on_connect_failed(struct sock *sk, struct socket_state *state)
{
	struct edge *edge;
	u32 id;

	state->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	id = edge_of(sk, state);
	edge = bpf_map_lookup_elem(&edges, &id);
	if (!edge) {
		count_lost(LOST_EDGE_GONE);
		return 0;
	}
	account_connection(sk, state, edge, true); /* a SYN sent again is a retransmitted segment */
	switch (failure_of(sk)) { /* a variable index into a map value costs more than five adds */
	case FAILED_REFUSED:
		ATOMIC_ADD(edge->tcp.connect_failures[FAILED_REFUSED], 1);
		break;
	case FAILED_TIMED_OUT:
		ATOMIC_ADD(edge->tcp.connect_failures[FAILED_TIMED_OUT], 1);
		break;
	case FAILED_UNREACHABLE:
		ATOMIC_ADD(edge->tcp.connect_failures[FAILED_UNREACHABLE], 1);
		break;
	case FAILED_RESET:
		ATOMIC_ADD(edge->tcp.connect_failures[FAILED_RESET], 1);
		break;
	default:
		ATOMIC_ADD(edge->tcp.connect_failures[FAILED_OTHER], 1);
	}
	leave_edge(state);
	return 0;
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

static __always_inline int on_close(struct sock *sk, struct socket_state *state)
{
	/* First the flag, then the account: from here on a walk keeps its hands off. */
	__sync_fetch_and_or(&state->flags, SOCKET_CLOSED);
	account(sk, state, true);
	leave_edge(state);
	leave_pair(state);
	return 0;
}

static __always_inline int on_transition(struct sock *sk, int before, int after, bool first)
{
	struct socket_state *state;

	/* Nothing to learn from these; half of all transitions. */
	if (after == TCP_SYN_RECV || after == TCP_CLOSE_WAIT || after == TCP_FIN_WAIT2 || after == TCP_TIME_WAIT)
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (state && state->self == (u64)sk) {
		if (state->tcp_state == after)
			return 0; /* the other program has been here */
		state->tcp_state = after;
	}
	if (after == TCP_SYN_SENT)
		return on_connect(sk);
	if (after == TCP_LISTEN)
		return on_listen(sk);
	if (!state) {
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
	if (state->self != (u64)sk)
		return 0; /* a child that never was established: nothing of its listener's is its own */
	confirm_current(sk, state);
	if (after != TCP_CLOSE)
		return 0;
	if (state->role == ROLE_CLIENT && !(state->flags & SOCKET_ESTABLISHED))
		return on_connect_failed(sk, state);
	return on_close(sk, state);
}

/*
 * Two programs on one tracepoint. Since Linux 6.1 the kernel does not run a tracing program that is already
 * running on the same processor, and a softirq may well close one connection while a system call is closing
 * another: the event would be gone. Whichever of the two is free handles it; the other sees that in the
 * socket's state. Two are enough: TCP changes state in a system call and in softirq, and nowhere else.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int before, int after)
{
	return on_transition(sk, before, after, true);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state_nested, struct sock *sk, int before, int after)
{
	return on_transition(sk, before, after, false);
}

/*
 * Resets. A reset of an established connection waits in the socket's state for the account that its end
 * brings; a refusal is a failed connect, not a reset.
 */
SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_reset_received, struct sock *sk)
{
	struct socket_state *state = socket_state_of(sk);

	if (state && sk->__sk_common.skc_state != TCP_SYN_SENT)
		ATOMIC_ADD(state->resets_received, 1);
	return 0;
}

struct ipv4_addresses {
	__be32 source, destination;
};

/* A reset for a segment that belongs to no socket (a closed port): the host's own, by remote address. */
static __noinline int count_unbound_reset(struct sk_buff *skb)
{
	struct range_key remote = {.prefix_bits = 128};
	struct edge_key key = {.owner = OWNER_NODE, .role = ROLE_SERVER};
	unsigned char *header = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
	u32 *words = (u32 *)remote.address;
	struct edge *edge;
	u8 version = 0;
	u32 id;

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
	id = intern_edge(&key);
	edge = bpf_map_lookup_elem(&edges, &id);
	if (edge)
		ATOMIC_ADD(edge->tcp.resets_sent, 1);
	else
		count_lost(LOST_EDGE_GONE);
	return 0;
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_reset_sent, struct sock *sk, struct sk_buff *skb)
{
	struct socket_state *state = NULL;
	struct edge *edge;
	u32 id;

	if (sk)
		state = bpf_sk_storage_get(&sockets, sk, 0, 0); /* none for request and time-wait sockets */
	if (!state || state->self != (u64)sk || state->role == ROLE_LISTENER) {
		if (skb)
			count_unbound_reset(skb);
		return 0;
	}
	if (state->flags & SOCKET_IGNORED)
		return 0;
	if (!(state->flags & SOCKET_CLOSED)) {
		ATOMIC_ADD(state->resets_sent, 1);
		return 0;
	}
	id = state->edge_id;
	edge = bpf_map_lookup_elem(&edges, &id);
	if (edge)
		ATOMIC_ADD(edge->tcp.resets_sent, 1);
	else
		count_lost(LOST_EDGE_GONE);
	return 0;
}

/* A client's end is established a moment before the other end is: leave it time to say who it is. */
static __always_inline bool settled(struct socket_state *state)
{
	struct pair *pair;

	if (state->edge_id || state->role != ROLE_CLIENT || !state->pair)
		return true;
	pair = bpf_map_lookup_elem(&pairs, &state->pair);
	return !pair || pair->server_owner || bpf_ktime_get_ns() - state->start_ns > 100000000;
}

/*
 * The walk: every socket that we know, at collection.
 */
SEC("iter/bpf_sk_storage_map")
int tcp_walk(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct edge_state *shared = shared_state();
	struct sock *sk = ctx->sk;
	struct socket_state *state;

	if (!sk || !shared)
		return 0;
	state = socket_state_of(sk);
	if (!state)
		return 0;
	ATOMIC_ADD(shared->walked_sockets, 1);
	if (!ctx->meta->seq_num) {
		/* two walks give userspace the length of a jiffy */
		shared->jiffies = bpf_jiffies64();
		shared->now_ns = bpf_ktime_get_ns();
	}
	if (state->role != ROLE_LISTENER) {
		if (!(state->flags & SOCKET_ESTABLISHED))
			return 0; /* still connecting */
		if (state->role == ROLE_SERVER && !(state->flags & (SOCKET_OWNER_CONFIRMED | SOCKET_CLOSED)) &&
		    (__sync_fetch_and_or(&state->flags, SOCKET_SEEN_UNCONFIRMED) & SOCKET_SEEN_UNCONFIRMED))
			ATOMIC_ADD(shared->unconfirmed, 1);
	}
	if (state->flags & SOCKET_CLOSED || !settled(state))
		return 0;
	account(sk, state, false);
	return 0;
}

/*
 * Sockets that were open before: whoever holds a descriptor owns it. Run at start (find_listeners, then
 * find_sockets), and the second again when accepted sockets wait for somebody to be seen reading them.
 */
static __always_inline u64 mix64(u64 x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	x ^= x >> 33;
	return x;
}

static __always_inline u64 endpoint_hash(const u32 address[4], u16 port, u32 netns)
{
	return mix64(mix64((u64)address[0] << 32 | address[1]) ^ mix64((u64)address[2] << 32 | address[3]) ^
		     mix64((u64)netns << 32 | port));
}

/* The sequence numbers that both ends began with are long gone: the addresses, in no order, have to do. */
static __noinline u64 pair_of_old(struct sock *sk, u32 netns)
{
	u32 local[4] = {}, remote[4] = {};
	u8 family = remote_address(sk, (u8 *)remote);

	if (sk->__sk_common.skc_family == AF_INET6) {
		local[0] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0];
		local[1] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1];
		local[2] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2];
		local[3] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3];
	} else {
		local[2] = bpf_htonl(0xffff);
		local[3] = sk->__sk_common.skc_rcv_saddr;
	}
	if (!is_loopback((u8 *)remote, family))
		netns = 0; /* the other end may live in another one */
	return endpoint_hash(local, local_port_of(sk), netns) +
	       endpoint_hash(remote, bpf_ntohs(sk->__sk_common.skc_dport), netns);
}

static __always_inline void join_pair(struct socket_state *state)
{
	struct pair nobody = {}, *pair;

	bpf_map_update_elem(&pairs, &state->pair, &nobody, BPF_NOEXIST);
	pair = bpf_map_lookup_elem(&pairs, &state->pair);
	if (!pair)
		count_lost(LOST_PAIR_TABLE_FULL);
	else if (state->role == ROLE_CLIENT)
		pair->client_owner = state->owner;
	else
		pair->server_owner = state->owner;
}

static __noinline int adopt_old_connection(struct sock *sk, struct task_struct *task, u32 netns, u32 flags)
{
	struct socket_state first = {.self = (u64)sk};
	struct listen_key listen = {.netns = netns, .port = local_port_of(sk)};
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	u32 now = (u32)bpf_jiffies64();

	if (!tcp)
		return 0;
	first.role = bpf_map_lookup_elem(&listen_ports, &listen) ? ROLE_SERVER : ROLE_CLIENT;
	first.flags = flags | SOCKET_ESTABLISHED | SOCKET_COUNTED | SOCKET_PREEXISTING | SOCKET_OWNER_CONFIRMED;
	first.owner = first.listener_owner = owner_of(task);
	first.start_ns = bpf_ktime_get_ns();
	first.local_port = listen.port;
	first.remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	first.pair = pair_of_old(sk, netns);
	first.sent_bytes = tcp->bytes_sent - tcp->bytes_retrans;
	first.received_bytes = tcp->bytes_received;
	if (first.received_bytes && (sk->__sk_common.skc_flags & (1UL << SOCK_DONE)))
		first.received_bytes--;
	first.retransmitted_segments = tcp->total_retrans;
	first.out_of_order_segments = tcp->rcv_ooopack;
	first.receiver_limited = chronograph(tcp, now, SOL_TCP_CHRONO_RWND_LIMITED);
	first.sndbuf_limited = chronograph(tcp, now, SOL_TCP_CHRONO_SNDBUF_LIMITED);
	if (!bpf_sk_storage_get(&sockets, sk, &first, BPF_SK_STORAGE_GET_F_CREATE))
		count_lost(LOST_SOCKET_STORAGE);
	else
		join_pair(&first);
	return 0;
}

static __noinline int adopt_old_listener(struct sock *sk, struct task_struct *task, u32 netns, u32 flags)
{
	struct socket_state first = {.self = (u64)sk, .role = ROLE_LISTENER, .flags = flags | SOCKET_PREEXISTING};
	struct listen_key listen = {.netns = netns, .port = local_port_of(sk)};
	u32 yes = 1;

	first.owner = first.listener_owner = owner_of(task);
	first.start_ns = bpf_ktime_get_ns();
	first.local_port = listen.port;
	first.listen_drops = sk->sk_drops.counter;
	bpf_map_update_elem(&listen_ports, &listen, &yes, BPF_ANY);
	if (!bpf_sk_storage_get(&sockets, sk, &first, BPF_SK_STORAGE_GET_F_CREATE))
		count_lost(LOST_SOCKET_STORAGE);
	return 0;
}

static __always_inline int visit_file(struct bpf_iter__task_file *ctx, bool listeners)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket_state *state;
	struct socket *socket;
	struct sock *sk;
	u32 netns, flags;
	u8 now;

	if (!file || !task)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || sk->sk_protocol != IPPROTO_TCP ||
	    (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6))
		return 0;
	state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (state) {
		if (state->self == (u64)sk && state->role == ROLE_SERVER &&
		    !(state->flags & (SOCKET_OWNER_CONFIRMED | SOCKET_IGNORED | SOCKET_CLOSED)))
			confirm_owner(sk, state, task);
		return 0;
	}
	now = sk->__sk_common.skc_state;
	if (now == TCP_CLOSE || now == TCP_SYN_SENT || now == TCP_SYN_RECV)
		return 0;
	netns = sk->__sk_common.skc_net.net->ns.inum;
	flags = agent_tgid && (u32)task->tgid == agent_tgid ? SOCKET_IGNORED : 0;
	if (now == TCP_LISTEN)
		return adopt_old_listener(sk, task, netns, flags);
	return listeners ? 0 : adopt_old_connection(sk, task, netns, flags);
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
