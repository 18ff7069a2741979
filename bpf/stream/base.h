/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What parsers build on, in BPF and in user mode: integer types, how memory is read, and hints to the verifier.
 */
#pragma once

#ifdef __bpf__
#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;
#endif

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#ifdef __bpf__
/* A function of its own for the verifier: looked at once, with nothing known of its arguments. */
#define STREAM_FUNCTION __attribute__((noinline))
/* Makes the compiler check this very value, instead of one that it works out from it. */
#define STREAM_KEEP(value) asm volatile("" : "+r"(value))
/* Makes the compiler load from memory again what it has just stored: the verifier knows nothing of what it loads. */
#define STREAM_FORGET() asm volatile("" ::: "memory")
#else
#define STREAM_FUNCTION static inline
#define STREAM_KEEP(value)
#define STREAM_FORGET()
#endif

/* Both say 0 where it worked. */
static __always_inline long stream_read_user(void *target, u32 size, u64 address)
{
#ifdef __bpf__
	return bpf_probe_read_user(target, size, (const void *)address);
#else
	memcpy(target, (const void *)(uintptr_t)address, size);
	return 0;
#endif
}

static __always_inline long stream_copy(void *target, u32 size, const void *source)
{
#ifdef __bpf__
	return bpf_probe_read_kernel(target, size, source);
#else
	memmove(target, source, size);
	return 0;
#endif
}
