/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the stream layer knows of a connection (see bpf/stream/). It lives in the socket's own state, so that a
 * connection costs one storage and one lookup for everything, and a second storage, its protocol's, only where it is
 * followed; a stream without a socket in hand (TLS in a library) keeps the same structure in a map.
 */
#pragma once

#include "stream/base.h"

/* Protocols by number: the index of their programs in every PROG_ARRAY. Made of their list. */
enum stream_protocol {
	STREAM_UNKNOWN = 0, /* not classified: nothing is called for it */
#define STREAM_PROTOCOL(number, name) number,
#include "protocol/protocols.h"
#undef STREAM_PROTOCOL
	STREAM_PROTOCOLS_END, /* behind the last one */
	STREAM_PROTOCOLS = 8, /* room in the arrays */
};
_Static_assert(STREAM_PROTOCOLS_END <= STREAM_PROTOCOLS, "`refused` has a bit for each protocol, and the arrays an element");

enum stream_flags {
	STREAM_IGNORED = 1,    /* of no protocol that is known, or of none any more: one look-up is all that it costs */
	STREAM_UNOBSERVED = 2, /* bytes passed unobserved, or said nothing, before it was classified */
};

/* 64 bytes: they count for every socket. */
struct stream {
	u32 flags;    /* enum stream_flags, by atomic operations: two threads may be at work, one per direction */
	u8 protocol;  /* enum stream_protocol */
	u8 refused;   /* a bit for each protocol that it turned out not to be */
	u16 looks;    /* that were in vain, at a connection that was open before the agent */
	u32 next_position[2]; /* by direction: the sequence number that comes next */
	u8 positioned[2];     /* `next_position` is valid */
	u16 close_error;      /* the socket's error when it closed; the process that is told of it takes it off the socket */
	u32 pad;
	u64 answered_ns; /* when something like an answer passed before it was classified; 0: never */
	u64 pad2[4];	 /* to the end of the cache line */
};
_Static_assert(sizeof(struct stream) == 64, "a stream is one cache line");

/* What is known of the calls that are under way on a socket (bpf/stream/begin.h). */
struct stream_sends {
	u64 begin_ns; /* when the call that sends began; 0: none is under way */
	u64 base;     /* user address of its first piece; 0: only the kernel sees what is sent */
	u64 left;     /* the length of that */
	u64 iov;      /* the kernel's array of the others */
	u32 iov_left;
	u32 position; /* TCP sequence number of its first byte */
};
/* Calls with several messages (sendmmsg, recvmmsg), by direction: they come in order. */
struct stream_messages {
	u64 array[2];
	u16 length[2]; /* of the array: a call with another one is another call, though programs often use one array for all */
	u16 seen[2];
};
