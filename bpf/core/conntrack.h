/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reads connection tracking's own messages inside the kernel. The agent has a netlink socket that is subscribed to new
 * connections; this is its filter. The kernel runs it on every message, at the moment that the first packet of a
 * connection leaves the host, and throws the message away: none of them reaches userspace. The entries that were there
 * before are asked for once, and pass through here too.
 */
#pragma once

#include "edge.h"
#include "nat.h"

/* include/uapi/linux/netlink.h, include/uapi/linux/netfilter/nfnetlink*.h */
#define NLMSG_MIN_TYPE 0x10
#define NLM_F_MULTI 2
#define NLA_F_NESTED 0x8000
#define CONNTRACK_NEW 0x0100 /* NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW */
enum { CTA_TUPLE_ORIG = 1, CTA_TUPLE_REPLY = 2 };
enum { CTA_TUPLE_IP = 1, CTA_TUPLE_PROTO = 2 };
enum { CTA_IP_V4_SRC = 1, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST };
enum { CTA_PROTO_NUM = 1, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT };

/* As much of a message as userspace gets to see of what it asked for: to count, and to learn of errors. */
#define MESSAGE_HEAD 20
/* A datagram of a dump is a page at most where the reader's buffer is smaller than that, and an entry of TCP takes
 * more than 160 bytes; pages of 64 KiB are cut to 8 KiB by the kernel (NLMSG_GOODSIZE). */
#define MESSAGES_MAX 128

struct message_head {
	u32 length;
	u16 type;
	u16 flags;
	u32 sequence;
	u32 port_id;
	u8 family;
	u8 version;
	__be16 resource;
};

struct attribute {
	u16 length;
	u16 type;
};

/* A tuple as the kernel writes it since 2.6.14 (ctnetlink_dump_tuples); every head is checked. */
struct tuple_ports {
	struct attribute proto, number_head;
	u8 number;
	u8 pad[3];
	struct attribute source_head;
	__be16 source;
	u16 pad2;
	struct attribute destination_head;
	__be16 destination;
	u16 pad3;
};
struct tuple_v4 {
	struct attribute tuple, ip, source_head;
	u32 source;
	struct attribute destination_head;
	u32 destination;
	struct tuple_ports ports;
};
struct tuple_v6 {
	struct attribute tuple, ip, source_head;
	u32 source[4];
	struct attribute destination_head;
	u32 destination[4];
	struct tuple_ports ports;
};

static __always_inline bool is_attribute(const struct attribute *attribute, u16 type, u16 length)
{
	return (attribute->type & ~NLA_F_NESTED) == type && attribute->length == length;
}

static __always_inline bool are_ports(const struct tuple_ports *ports)
{
	return is_attribute(&ports->proto, CTA_TUPLE_PROTO, sizeof(*ports)) &&
	       is_attribute(&ports->number_head, CTA_PROTO_NUM, 5) &&
	       is_attribute(&ports->source_head, CTA_PROTO_SRC_PORT, 6) &&
	       is_attribute(&ports->destination_head, CTA_PROTO_DST_PORT, 6);
}

enum reading { READ, OTHER_PROTOCOL, UNREADABLE };

/* Reads one tuple at `offset`; `next` is where the attribute after it begins. */
static __always_inline enum reading read_tuple(struct __sk_buff *skb, u32 offset, u8 family, u16 type,
					       struct connection_key *key, u32 *next)
{
	union {
		struct tuple_v4 v4;
		struct tuple_v6 v6;
	} tuple;
	u32 *client = (u32 *)key->client, *server = (u32 *)key->server;
	struct tuple_ports *ports;

	if (family == AF_INET) {
		if (bpf_skb_load_bytes(skb, offset, &tuple.v4, sizeof(tuple.v4)))
			return OTHER_PROTOCOL; /* ICMP's are shorter; TCP's never are the last */
		ports = &tuple.v4.ports;
		if (ports->number != IPPROTO_TCP)
			return OTHER_PROTOCOL;
		if (!is_attribute(&tuple.v4.ip, CTA_TUPLE_IP, 20) ||
		    !is_attribute(&tuple.v4.source_head, CTA_IP_V4_SRC, 8) ||
		    !is_attribute(&tuple.v4.destination_head, CTA_IP_V4_DST, 8) || !are_ports(ports))
			return UNREADABLE;
		client[2] = server[2] = bpf_htonl(0xffff);
		client[3] = tuple.v4.source;
		server[3] = tuple.v4.destination;
	} else {
		if (bpf_skb_load_bytes(skb, offset, &tuple.v6, sizeof(tuple.v6)))
			return OTHER_PROTOCOL;
		ports = &tuple.v6.ports;
		if (ports->number != IPPROTO_TCP)
			return OTHER_PROTOCOL;
		if (!is_attribute(&tuple.v6.ip, CTA_TUPLE_IP, 44) ||
		    !is_attribute(&tuple.v6.source_head, CTA_IP_V6_SRC, 20) ||
		    !is_attribute(&tuple.v6.destination_head, CTA_IP_V6_DST, 20) || !are_ports(ports))
			return UNREADABLE;
		__builtin_memcpy(client, tuple.v6.source, 16);
		__builtin_memcpy(server, tuple.v6.destination, 16);
	}
	/* Both families: the head of the tuple comes first. A zone of its own may follow within. */
	if ((tuple.v4.tuple.type & ~NLA_F_NESTED) != type)
		return UNREADABLE;
	key->client_port = bpf_ntohs(ports->source);
	key->server_port = bpf_ntohs(ports->destination);
	*next = offset + ((tuple.v4.tuple.length + 3) & ~3);
	return READ;
}

/* A reply comes from what was dialled, unless the address is translated. */
static __always_inline bool same_server(const struct connection_key *key, const struct connection_key *reply)
{
	const u32 *dialled = (const u32 *)key->server, *answers = (const u32 *)reply->client;

	return dialled[0] == answers[0] && dialled[1] == answers[1] && dialled[2] == answers[2] &&
	       dialled[3] == answers[3] && key->server_port == reply->client_port;
}

/* Takes in one entry of connection tracking. Global, so that the verifier looks at it once. */
__noinline int learn_translation(struct __sk_buff *skb, u32 offset, u8 family)
{
	struct connection_key key = {}, reply = {};
	struct backend backend = {};
	enum reading reading;
	u32 next = 0, end = 0;

	if (family != AF_INET && family != AF_INET6)
		return 0;
	reading = read_tuple(skb, offset, family, CTA_TUPLE_ORIG, &key, &next);
	if (reading == READ)
		reading = read_tuple(skb, next, family, CTA_TUPLE_REPLY, &reply, &end);
	else if (reading == OTHER_PROTOCOL)
		return 0;
	if (reading != READ) {
		count_lost(LOST_CONNTRACK_MESSAGE);
		return 0;
	}
	if (same_server(&key, &reply)) {
		bpf_map_delete_elem(&backends, &key); /* what another connection with these ports left */
		return 0;
	}
	__builtin_memcpy(backend.address, reply.client, 16);
	backend.port = reply.client_port;
	bpf_map_update_elem(&backends, &key, &backend, BPF_ANY);
	return 0;
}

/* The messages of one datagram; says how many bytes of it userspace shall see. */
SEC("socket")
int conntrack_messages(struct __sk_buff *skb)
{
	struct message_head head;
	u32 offset = 0, visible = 0;

	for (int i = 0; i < MESSAGES_MAX; i++) {
		if (bpf_skb_load_bytes(skb, offset, &head, sizeof(head)))
			return visible;
		if (head.type == CONNTRACK_NEW)
			learn_translation(skb, offset + sizeof(head), head.family);
		if ((head.flags & NLM_F_MULTI) || head.type < NLMSG_MIN_TYPE)
			visible = MESSAGE_HEAD;
		if (head.length < sizeof(struct message_head) || head.length > 0xffff)
			return visible;
		offset += (head.length + 3) & ~3;
	}
	count_lost(LOST_CONNTRACK_MESSAGE);
	return visible;
}
