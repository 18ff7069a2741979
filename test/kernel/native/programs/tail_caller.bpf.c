/* Calls into an array whose programs are another object's; counts when the slot is empty. */
#include "test.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 4);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 2);
} counts SEC(".maps"); /* 0: the slot was empty; 1: counted by the program in it */

SEC("tp_btf/sys_enter")
int BPF_PROG(knpt_caller, void *regs, long id)
{
	__u32 key = 0;
	__u64 *count;

	if (!is_target() || id != GETPPID_NUMBER)
		return 0;
	bpf_tail_call(ctx, &calls, 2);
	count = bpf_map_lookup_elem(&counts, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}
