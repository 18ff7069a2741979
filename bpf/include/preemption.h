/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The kernel does not run a tracing program that is already running on the same processor (Linux 6.1 for
 * tracepoints), and one that was preempted counts as running: what another task does meanwhile is missed. Linux 7.0
 * made tracepoints preemptible; functions (fentry) always were where the kernel is. A program forbids it while it
 * runs. Before 6.15 (b2bb703434bb, "bpf: Summarize sleepable global subprogs") it must not call global functions then.
 */
#pragma once

#include "kernel_types.h"
#include <bpf/bpf_helpers.h>

extern void bpf_preempt_disable(void) __ksym __weak; /* Linux 6.11 */
extern void bpf_preempt_enable(void) __ksym __weak;

static __always_inline void forbid_preemption(void)
{
	if (bpf_ksym_exists(bpf_preempt_disable) && bpf_ksym_exists(bpf_preempt_enable))
		bpf_preempt_disable();
}

static __always_inline void allow_preemption(void)
{
	if (bpf_ksym_exists(bpf_preempt_disable) && bpf_ksym_exists(bpf_preempt_enable))
		bpf_preempt_enable();
}
