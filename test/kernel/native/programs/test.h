/* What the test programs share. */
#pragma once
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

#if defined(__TARGET_ARCH_arm64)
#define GETPPID_FUNCTION "__arm64_sys_getppid"
#define GETPPID_NUMBER 173
#else
#define GETPPID_FUNCTION "__x64_sys_getppid"
#define GETPPID_NUMBER 110
#endif

/* Only this process is counted: the test calls getppid as often as it wants to see. */
const volatile __u32 target_pid = 0;

static __always_inline int is_target(void)
{
	return target_pid != 0 && bpf_get_current_pid_tgid() >> 32 == target_pid;
}
