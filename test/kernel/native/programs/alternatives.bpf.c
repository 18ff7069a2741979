/* Programs that a kernel refuses in every way there is, and one that works: for the loader. */
#include "test.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 100);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} seen SEC(".maps");

const volatile __u32 mark = 0;

static __always_inline void count(void)
{
	__u32 key = mark;
	__u64 one = 1, *value = bpf_map_lookup_elem(&shared, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&shared, &key, &one, BPF_ANY);
}

SEC("raw_tp/sys_enter")
int knpt_works(struct bpf_raw_tracepoint_args *ctx)
{
	if (is_target() && ctx->args[1] == GETPPID_NUMBER)
		count();
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(knpt_works_too, void *regs, long id)
{
	if (is_target() && id == GETPPID_NUMBER)
		count();
	return 0;
}

/* The verifier refuses it: reads through a pointer that may be null. */
SEC("raw_tp/sys_enter")
int knpt_unsafe(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(&shared, &key);

	return *value;
}

/* libbpf refuses it: no kernel has this tracepoint. */
SEC("tp_btf/knpt_no_such_tracepoint")
int BPF_PROG(knpt_no_target)
{
	return 0;
}

/* Loads everywhere, cannot be attached anywhere. */
SEC("raw_tp/knpt_no_such_tracepoint")
int knpt_no_attach(void *ctx)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(&seen, &key);

	return value ? *value & 1 : 0;
}

SEC("fentry/bpf_fentry_test1")
int BPF_PROG(knpt_entry, int a)
{
	return 0;
}
