/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The object of HTTP/1: requests, durations, sizes by edge, counted where they happen. The stream layer hands in the bytes
 * (stream/protocol.h), http1_fast_path.h and what it stands on understand them, bpf/requests/ counts.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#define REQUEST_FAILED_FROM 500
#include "stream/protocol.h"
#include "protocol/http1/http1_fast_path.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Brings the enumeration into BTF, where userspace finds its names. */
const enum http1_method http1_first_method = HTTP1_METHOD_NONE;

PROTOCOL(http1, STREAM_HTTP1, HTTP1_PIPELINE)
