/* Writes one numbered record for every getppid of the target; what does not fit is counted. */
#include "test.h"

struct numbered_event {
	__u32 kind;
	__u32 size;
	__u64 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 2);
} totals SEC(".maps");

SEC("raw_tp/sys_enter")
int knpt_ring(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 written = 0, lost = 1;
	__u64 *total;
	struct numbered_event event = {.kind = 7, .size = sizeof(event)};

	if (!is_target() || ctx->args[1] != GETPPID_NUMBER)
		return 0;
	total = bpf_map_lookup_elem(&totals, &written);
	if (!total)
		return 0;
	event.number = __sync_fetch_and_add(total, 1);
	if (bpf_ringbuf_output(&events, &event, sizeof(event), 0)) {
		total = bpf_map_lookup_elem(&totals, &lost);
		if (total)
			__sync_fetch_and_add(total, 1);
	}
	return 0;
}
