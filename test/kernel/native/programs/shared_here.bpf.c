/* Two maps that shared_there.bpf.c has too: one laid out alike, one with the same sizes and another order. */
#include "test.h"

enum state { STATE_NEW, STATE_OLD };

struct same {
	__u64 count;
	enum state state;
	__u32 owner;
};

struct swapped {
	__u32 first;
	__u32 second;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct same);
	__uint(max_entries, 10);
} alike SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct swapped);
	__uint(max_entries, 10);
} different SEC(".maps");
