/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The object of Redis: commands, their answers and durations by edge, counted where they happen. The stream layer hands in
 * the bytes (stream/protocol.h), redis_conn.h and what it stands on understand them, bpf/requests/ counts.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "protocol/redis/redis_names.h"
#define REQUEST_FAILED_FROM REDIS_FIRST_ERROR
#include "stream/protocol.h"
#include "protocol/redis/redis_conn.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Bring the enumerations into BTF, where userspace finds their names. */
const enum redis_command redis_first_command = REDIS_COMMAND_NONE;
const enum redis_status redis_first_status = REDIS_STATUS_NONE;

PROTOCOL(redis, STREAM_REDIS, REDIS_PIPELINE)
