/* Iterators: over the elements of a map given at attach time, and over tasks. */
#include "test.h"

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *map;
	void *key;
	void *value;
} __attribute__((preserve_access_index));

struct task_struct {
	int pid;
	int tgid;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 100000);
} walked SEC(".maps");

struct element {
	__u32 key;
	__u32 zero;
	__u64 value;
};

SEC("iter/bpf_map_elem")
int knpt_elements(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *key = ctx->key;
	__u64 *value = ctx->value;
	struct element element = {};

	if (!key || !value)
		return 0;
	element.key = *key;
	element.value = *value;
	bpf_seq_write(ctx->meta->seq, &element, sizeof(element));
	return 0;
}

SEC("iter/task")
int knpt_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task; /* read once: the verifier follows the check by register */
	__u32 pid;

	if (!task)
		return 0;
	pid = task->tgid;
	if (target_pid == 0 || pid == target_pid)
		bpf_seq_write(ctx->meta->seq, &pid, sizeof(pid));
	return 0;
}
