/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the stream layer knows of a connection (see bpf/stream/). It lives in the socket's own state, so that a
 * connection costs one storage and one lookup for everything; a stream without a socket in hand (TLS in a library) keeps
 * the same structure in a map.
 */
#pragma once

#include "kernel_types.h"

/* Protocols by number: the index of their programs in every PROG_ARRAY. Append only. */
enum stream_protocol {
	STREAM_UNKNOWN = 0, /* not classified: nothing is called for it */
	STREAM_HTTP1 = 1,
	STREAM_REDIS = 2,
	STREAM_PROTOCOLS = 8, /* room in the arrays */
};

/* 64 bytes: they count for every socket. */
struct stream {
	u64 id;
	u32 edge_id; /* as of the last message; 0: not resolved yet */
	u8 role;
	u8 transport;
	u8 protocol; /* enum stream_protocol */
	u8 flags;
	u32 next_position[2]; /* by direction: the sequence number that comes next */
	u32 in_flight;
	u32 reserved;
	u64 last_ns[2]; /* by direction: when bytes moved last */
	u64 reserved2[2];
};
_Static_assert(sizeof(struct stream) == 64, "a stream is one cache line");
