/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Linux 7.0 made tracepoints preemptible: a program that was preempted counts as running, and the kernel runs none inside
 * itself. Those that must not miss an event forbid preemption while they work. A tail call is refused in between.
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
