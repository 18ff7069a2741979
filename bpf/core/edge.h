/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The edge table: who talks to whom, kept in the kernel and shared by every probe. This header holds
 * its records and its maps; owner.h finds who a task is, socket.h ties a socket to its edge.
 *
 * Userspace reads these structures through decoders generated from BTF: change them only here.
 */
#pragma once

#include "kernel_types.h"
#include "stream_state.h"
#include <bpf/bpf_helpers.h>

#define READ_ONCE(value) (*(const volatile typeof(value) *)&(value))
#define ATOMIC_ADD(target, amount) __sync_fetch_and_add(&(target), (amount))

/* Who measured: the side of the connection that this host holds. */
enum edge_role {
	ROLE_NONE = 0,
	ROLE_CLIENT = 1,
	ROLE_SERVER = 2,
	ROLE_LISTENER = 3,
};

/* What the remote end of an edge key is. */
enum edge_scope {
	SCOPE_EXACT = 0,  /* `address` is exact: a range that userspace asked to keep */
	SCOPE_LOCAL = 1,	    /* another owner of this host: see `peer` */
	SCOPE_EXTERNAL = 2, /* everything else, folded */
	SCOPE_RANGE = 3,    /* a named range, folded: see `range` */
	SCOPE_LOOPBACK = 4, /* loopback whose other end was not found */
};

/* Protocol numbers of IP; the names of `transport` come from here. */
enum edge_transport {
	TRANSPORT_TCP = 6,
	TRANSPORT_UDP = 17,
};

/* Owners and edges with fixed numbers; the rest are counted up from FIRST_ID. */
enum fixed_id {
	OWNER_NODE = 0,	 /* the host itself: no socket, or no process known yet */
	OWNER_OTHER = 1, /* the owner table is full */
	EDGE_OTHER_CLIENT = ROLE_CLIENT, /* the edge table is full: one per role */
	EDGE_OTHER_SERVER = ROLE_SERVER,
	EDGE_OTHER_LISTENER = ROLE_LISTENER,
	FIRST_ID = 16,
};

struct edge_key {
	u32 owner;
	u32 peer;  /* owner of the other end where it is on this host, else 0 */
	u32 range; /* id of the named range, else 0 */
	u16 local_port;	 /* host order; servers and listeners only */
	u16 remote_port; /* host order; clients only */
	u8 role;
	u8 scope;
	u8 family; /* 4 or 6; a v4-mapped address is 4 */
	u8 transport; /* enum edge_transport */
	u8 address[16]; /* v4-mapped; zero unless the scope is SCOPE_EXACT */
	/* Clients: what answers where it is not what was dialled, see nat.h. Zero where it is the same, where it is not
	 * known, where its address is none that userspace asked to keep, and where `peer` says who it is. */
	u16 reached_port; /* host order */
	u16 pad2;
	u8 reached[16];
};

struct edge {
	struct edge_key key;
	u64 opened; /* connections established since the agent started */
	s64 open;   /* established now */
	s64 sockets; /* sockets that hold this edge's number: none may remain when it is removed */
};

struct owner_key {
	u64 cgroup_id;
	char name[16]; /* comm of the thread group's leader; empty where the cgroup says it all */
};

#define CGROUP_LEVELS 4
#define CGROUP_NAME 96
struct owner_info {
	struct owner_key key;
	u64 start_boottime_ns;
	u32 id; /* written last: 0 while the record is being filled */
	u32 pid;
	u32 flags;
	u32 pad;
	char comm[16];
	char exe[32];
	char path[CGROUP_LEVELS][CGROUP_NAME]; /* directory names, the leaf first */
};
enum owner_flags {
	OWNER_KERNEL_THREAD = 1,
	OWNER_SELF = 2,
	OWNER_INIT = 4, /* the first process: it listens for others (socket activation) */
};

/* The two ends of a connection inside this host. */
struct pair {
	u32 client_owner; /* 0 until that end has said who it is */
	u32 server_owner;
	u32 closed; /* a bit per role: the last to close removes the pair */
	u32 unobserved; /* a bit per role: at that end what passes is not observed, see stream_count_far() */
};

struct range_key {
	u32 prefix_bits;
	u8 address[16];
};
enum range_kind { RANGE_KEEP = 1, RANGE_NAMED = 2 };
struct range {
	u32 kind;
	u32 id;
};

struct acceptor_key {
	u32 listener_owner;
	u32 port;
};

enum socket_flags {
	SOCKET_IGNORED = 1,	   /* the agent's own */
	SOCKET_CLOSED = 2,	   /* its last account is being, or has been, taken */
	SOCKET_COUNTED = 4,	   /* in `opened` */
	SOCKET_OPEN = 8,	   /* in `open` */
	SOCKET_OWNER_CONFIRMED = 16, /* the owner was seen using it, not only listening for it */
	SOCKET_PREEXISTING = 32,   /* open before the agent was */
	SOCKET_ESTABLISHED = 64,
	SOCKET_SEEN_UNCONFIRMED = 128,
	SOCKET_RESET_SENT = 256,   /* counted; a connection is reset once */
	SOCKET_RESET_RECEIVED = 512,
	SOCKET_OWNER_SETTLED = 1024, /* what follows from SOCKET_OWNER_CONFIRMED is done: owner and edge stay */
	SOCKET_TRANSLATED = 2048, /* the socket's remote address was dialled, `other` answers */
	SOCKET_REDIRECTED = 4096, /* `other` was dialled, the socket's remote address answers */
	SOCKET_CAUGHT_UP = 8192,  /* no program saw it established; one processor has made up for that */
	SOCKET_REFUSED = 16384,   /* the peer answered the SYN by a reset */
	SOCKET_HOLDS_EDGE = 32768, /* in the edge's `sockets` */
	SOCKET_SUBFLOW = 65536,   /* one of MPTCP's paths: what it moves counts on its whole, see mptcp.h */
	SOCKET_FAILED_AT_ONCE = 131072, /* connect() is about to return with an error that has been counted */
};

/* What we know of one socket; a socket's child starts with a copy of its listener's (BPF_F_CLONE). */
struct socket_state {
	u64 self; /* the socket this belongs to: another one means a fresh copy */
	u64 pair;
	u64 start_ns;
	u32 edge_id; /* 0: not resolved yet */
	u32 owner;
	u32 listener_owner;
	u32 flags;
	u16 local_port;
	u16 remote_port;
	u8 role;
	u8 tcp_state; /* the last transition that was handled: see connection.h */
	u16 walk; /* the last one that came by, where a socket may be met twice */
	/* what has been accounted so far */
	u64 sent_bytes;
	/* what every call that moves payload touches: two cache lines, with the one before, since storage of a socket begins
	 * 8 bytes behind the start of one */
	struct stream stream;
	struct stream_sends sends;
	struct stream_messages messages;
	/* accounted so far */
	u64 received_bytes;
	u32 retransmitted_segments;
	u32 out_of_order_segments;
	u32 receiver_limited;
	u32 sndbuf_limited;
	u32 listen_drops;
	s32 listen_backlog;
	s32 listen_limit;
	u32 resets_sent; /* not yet accounted */
	u32 resets_received;
	u32 connect_us; /* not yet accounted; one more than it took, so that 0 says nothing */
	u8 other[16]; /* see SOCKET_TRANSLATED and SOCKET_REDIRECTED; v4-mapped */
	u16 other_port; /* host order */
	u8 pad2[6];
};

_Static_assert(__builtin_offsetof(struct socket_state, stream) % 64 == 56, "a stream begins with a cache line");

/* Everything that can be lost or degraded in the kernel, by number; their names come from this enum,
 * through BTF. */
enum lost_stage {
	LOST_EDGE_TABLE_FULL,	/* connections folded into `other`: not lost, but no longer named */
	LOST_OWNER_TABLE_FULL,	/* owners folded into `other` */
	LOST_PAIR_TABLE_FULL,	/* local pairs whose other end stays unnamed */
	LOST_SOCKET_STORAGE,	/* sockets without room for their state: not counted at all */
	LOST_SOCKET_UNSEEN,	/* sockets that closed without our ever having seen them */
	LOST_EDGE_GONE,		/* an account whose edge had been removed and could not be made anew */
	LOST_ESTABLISHED,	/* connections seen only at their end: counted, but without their handshake's time */
	LOST_CONNTRACK_MESSAGE,	/* entries of connection tracking that are not laid out as we know them */
	LOST_MPTCP_PAYLOAD,	/* connections of MPTCP on a kernel that does not say what they move, see mptcp.h */
	LOST_CONNECT_RESULT,	/* calls of connect() whose result is not seen: one that fails at once is not counted */
	LOST_STAGES,
};

/* Only so that the enums are in BTF, from where userspace takes names and numbers. */
const enum lost_stage first_lost_stage = LOST_EDGE_TABLE_FULL;
const enum edge_role first_edge_role = ROLE_NONE;
const enum edge_scope first_edge_scope = SCOPE_EXACT;
const enum edge_transport first_edge_transport = TRANSPORT_TCP;
const enum fixed_id first_fixed_id = OWNER_NODE;
const enum range_kind first_range_kind = RANGE_KEEP;
const enum stream_protocol first_stream_protocol = STREAM_UNKNOWN;

/*
 * Set once, before loading.
 */
const volatile u32 agent_tgid = 0;	 /* its own traffic is ignored; 0: every process counts */
const volatile s32 cgroup_subsystem = -1; /* v1: the kernel's number of the controller (enum cgroup_subsys_id); -1: v2 */

/* edge number → who it is and how many connections it has; what a probe counts is in maps of the probe's own, by this
 * number. Written by every program that meets a socket, read in batches at collection.
 * Sized by limits.edges; when it is full, new edges share EDGE_OTHER_* and LOST_EDGE_TABLE_FULL counts. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, struct edge);
} edges SEC(".maps");

/* edge key → number. The same size as `edges`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct edge_key);
	__type(value, u32);
} edge_ids SEC(".maps");

/* owner number → who it is. Written once per owner, where it is first seen. Sized by limits.owners;
 * when full, new owners share OWNER_OTHER. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, struct owner_info);
} owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct owner_key);
	__type(value, u32);
} owner_ids SEC(".maps");

/* cgroup id → 1 where the cgroup names the workload (containers, units) and process names would only
 * multiply edges. Written by userspace when it has understood a cgroup. LRU: forgetting is harmless. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, u64);
	__type(value, u32);
} named_cgroups SEC(".maps");

/* What is known of every socket. No size: it lives and dies with the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_state);
} sockets SEC(".maps");

/* Connections of this host whose two ends may both be here. The key is the pair of initial sequence
 * numbers, the one thing that both ends know and no NAT changes. LRU: the oldest go first. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct pair);
} pairs SEC(".maps");

/* Who serves what another listens for (socket activation): (listener, port) → owner that reads. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct acceptor_key);
	__type(value, u32);
} acceptors SEC(".maps");

struct listen_key {
	u32 netns;
	u32 port;
};

/* Ports that were listened on when the agent started → who listens: tells the two ends of older connections apart, and
 * what an older MPTCP listener accepts over plain TCP. Written by find_listeners, read by find_sockets and where a connection
 * is established. Full: such a connection counts as a client's, or not at all. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct listen_key);
	__type(value, u32);
} listen_ports SEC(".maps");

/* Address ranges that are more than `external`. Written by userspace. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct range_key);
	__type(value, struct range);
} ranges SEC(".maps");

/* Written by the kernel only, so that userspace never has to write back what it read. Counts only grow. */
struct edge_state {
	u32 edges_made;
	u32 owners_made;
	u32 walks; /* of core_walk_files */
	u32 pad;
	u64 unconfirmed; /* accepted sockets that two walks have seen, and that no process was seen reading */
	u64 walked_sockets;
	u64 queued_before; /* in accept queues, by the kernel's own count, when the agent started: no process held them */
	u64 queued_now;	   /* in the queues of the same listeners, at the last walk */
	u64 old_found;	   /* accepted sockets from before the agent that a process was found to hold */
	u64 jiffies; /* a pair of readings from which userspace works out HZ */
	u64 now_ns;
	u64 lost[LOST_STAGES];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct edge_state);
} edge_state SEC(".maps");

static __always_inline struct edge_state *shared_state(void)
{
	u32 zero = 0;
	return bpf_map_lookup_elem(&edge_state, &zero);
}

static __always_inline void count_lost(enum lost_stage stage)
{
	struct edge_state *state = shared_state();
	if (state)
		ATOMIC_ADD(state->lost[stage], 1);
}
