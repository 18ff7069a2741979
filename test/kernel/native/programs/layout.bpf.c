/* A struct with everything that a decoder has to get right, filled with known values. */
#include "test.h"

enum colour { RED = 1, GREEN = 200, BLUE = 300 };

struct inner {
	__u16 port;
	__u8 address[16];
};

struct awkward {
	__u8 flag;
	__u64 wide;
	__s64 negative;
	__s32 small;
	__s16 smaller;
	__s8 smallest;
	char comm[16];
	char path[3][8];
	struct inner inner;
	union {
		__u32 by_number;
		__u8 by_bytes[4];
	};
	_Bool truth;
	enum colour colour;
	__u32 low : 5, middle : 17, high : 10;
	__u64 totals[4];
	__u16 few[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct inner);
	__type(value, struct awkward);
	__uint(max_entries, 8);
} samples SEC(".maps");

SEC("tc")
int knpt_sample(struct __sk_buff *skb)
{
	struct awkward value = {
		.flag = 255,
		.wide = 0xfedcba9876543210ULL,
		.negative = -1234567890123456789LL,
		.small = -2000000000,
		.smaller = -30000,
		.smallest = -128,
		.comm = "nginx: worker",
		.path = {"kubepods", "b\xc3\xa9ta", ""},
		.inner = {.port = 65535, .address = {1, 2, 3}},
		.by_number = 0x01020304,
		.truth = 1,
		.colour = BLUE,
		.low = 21,
		.middle = 100000,
		.high = 1023,
		.totals = {0, 1, 9007199254740993ULL, 18446744073709551615ULL},
		.few = {1, 2, 65535},
	};
	struct inner key = {.port = 80};

	bpf_map_update_elem(&samples, &key, &value, BPF_ANY);
	return 0;
}
