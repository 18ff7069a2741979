/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The object of the stream layer: the programs on the hooks that see bytes (begin.h, deliver.h), and the maps that all
 * protocols share.
 */
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "stream/deliver.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
