/* Maps of every kind that the agent uses, and programs that fill some of them on test runs. */
#include "test.h"

struct counters {
	__u64 requests;
	__u64 bytes;
};

struct narrow {
	__u32 counts[4];
};

#define MAP(name, kind, key_type, value_type, entries)                                                         \
	struct {                                                                                               \
		__uint(type, BPF_MAP_TYPE_##kind);                                                             \
		__type(key, key_type);                                                                         \
		__type(value, value_type);                                                                     \
		__uint(max_entries, entries);                                                                  \
	} name SEC(".maps")

MAP(plain, HASH, __u32, struct counters, 20000);
MAP(least_recent, LRU_HASH, __u32, struct counters, 20000);
MAP(per_cpu, PERCPU_HASH, __u32, struct counters, 20000);
MAP(per_cpu_narrow, PERCPU_ARRAY, __u32, struct narrow, 100);
MAP(flat, ARRAY, __u32, struct counters, 1000);
MAP(odd, PERCPU_HASH, __u32, struct { char c[13]; }, 100);

struct prefix {
	__u32 bits;
	__u8 address[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct prefix);
	__type(value, __u32);
	__uint(max_entries, 5000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} prefixes SEC(".maps");

/* Adds one request of as many bytes as the packet is long to the keys 0..9, on whichever CPU it runs. */
SEC("tc")
int knpt_add(struct __sk_buff *skb)
{
	for (__u32 i = 0; i < 10; i++) {
		__u32 key = i; /* its address is taken, which hides a loop's variable from the verifier */
		struct counters *found = bpf_map_lookup_elem(&per_cpu, &key);
		struct counters first = {1, skb->len};
		__u32 column = key & 3;
		struct narrow *narrow;

		if (found) {
			found->requests += 1;
			found->bytes += skb->len;
		} else {
			bpf_map_update_elem(&per_cpu, &key, &first, BPF_ANY);
		}
		narrow = bpf_map_lookup_elem(&per_cpu_narrow, &key);
		if (narrow)
			narrow->counts[column] += 1;
	}
	return 0;
}
