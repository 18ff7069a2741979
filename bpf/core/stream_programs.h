/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where the core hands over to the protocol that a connection carries: at the end of a connection and at every walk. Each
 * protocol's own object has the programs; userspace puts them here by `enum stream_protocol`. An empty slot falls through.
 */
#pragma once

#include "stream_state.h"
#include <bpf/bpf_helpers.h>

/* Set once, before loading. Off on arm64 before Linux 6.0, which refuses tail calls in programs with subprograms. */
const volatile bool stream_programs_called = true;

#define STREAM_PROGRAMS(name)                                                                                  \
	struct {                                                                                               \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                         \
		__uint(max_entries, STREAM_PROTOCOLS);                                                         \
		__type(key, u32);                                                                              \
		__type(value, u32);                                                                            \
	} name SEC(".maps")

/* On tp_btf/inet_sock_set_state, after FIN_WAIT1, LAST_ACK and CLOSE: the socket's own accounts are taken. */
STREAM_PROGRAMS(stream_end_programs);
/* On tp_btf/tcp_destroy_sock, where the end is not told yet: the kernel left the program out that would have seen CLOSE, or
 * a process went on reading what had arrived before that. */
STREAM_PROGRAMS(stream_destroy_programs);
/* On iter/bpf_sk_storage_map over `sockets`, for every socket whose stream has a protocol. */
STREAM_PROGRAMS(stream_walk_programs);
/* On iter/task_file, once per walk and socket whose stream has a protocol. */
STREAM_PROGRAMS(stream_walk_file_programs);

static __always_inline void call_stream_program(void *ctx, void *programs, u32 protocol)
{
	if (stream_programs_called && protocol)
		bpf_tail_call(ctx, programs, protocol);
}
