/* For sets of attachments: calls counted by the cookie of the place, packets and bytes by interface and direction. */
#include "test.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u64);
	__uint(max_entries, 256);
} cookies SEC(".maps");

struct traffic {
	__u64 packets, bytes;
};

/* key: interface index, and in the highest bit whether it is egress */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct traffic);
	__uint(max_entries, 64);
} traffic SEC(".maps");

static __always_inline int count_cookie(void *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx), zero = 0;
	__u64 *count;

	bpf_map_update_elem(&cookies, &cookie, &zero, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&cookies, &cookie);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

SEC("uprobe")
int knpt_call(void *ctx)
{
	return count_cookie(ctx);
}

SEC("?uprobe.multi")
int knpt_call_multi(void *ctx)
{
	return count_cookie(ctx);
}

static __always_inline int count_packet(struct __sk_buff *skb, __u32 direction)
{
	__u32 key = skb->ifindex | direction;
	struct traffic *seen, none = {};

	bpf_map_update_elem(&traffic, &key, &none, BPF_NOEXIST);
	seen = bpf_map_lookup_elem(&traffic, &key);
	if (seen) {
		__sync_fetch_and_add(&seen->packets, 1);
		__sync_fetch_and_add(&seen->bytes, skb->len);
	}
	return -1; /* TCX_NEXT, TC_ACT_UNSPEC */
}

SEC("tc")
int knpt_in(struct __sk_buff *skb)
{
	return count_packet(skb, 0);
}

SEC("tc")
int knpt_out(struct __sk_buff *skb)
{
	return count_packet(skb, 1u << 31);
}

SEC("xdp")
int knpt_frame(struct xdp_md *xdp)
{
	__u32 key = xdp->ingress_ifindex;
	struct traffic *seen, none = {};

	bpf_map_update_elem(&traffic, &key, &none, BPF_NOEXIST);
	seen = bpf_map_lookup_elem(&traffic, &key);
	if (seen) {
		__sync_fetch_and_add(&seen->packets, 1);
		__sync_fetch_and_add(&seen->bytes, xdp->data_end - xdp->data);
	}
	return XDP_PASS;
}

SEC("cgroup/connect4")
int knpt_connect(struct bpf_sock_addr *ctx)
{
	__u64 cookie = bpf_get_current_cgroup_id(), zero = 0;
	__u64 *count;

	bpf_map_update_elem(&cookies, &cookie, &zero, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&cookies, &cookie);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 1;
}
