/* See shared_here.bpf.c. */
#include "test.h"

enum state { STATE_NEW, STATE_OLD };

struct alike_there {
	__u64 count;
	enum state state;
	__u32 owner;
};

struct swapped {
	__u32 second;
	__u32 first;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct alike_there);
	__uint(max_entries, 10);
} alike SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct swapped);
	__uint(max_entries, 10);
} different SEC(".maps");
