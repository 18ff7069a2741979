/* The programs for tail_caller.bpf.c: one of its prototype, one of another. */
#include "test.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 2);
} counts SEC(".maps");

static __always_inline void count_called(void)
{
	__u32 key = 1;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(knpt_callee, void *regs, long id)
{
	count_called();
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(knpt_stranger)
{
	count_called();
	return 0;
}
