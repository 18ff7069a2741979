/* One small program per kind of hook; each counts its hits under its own key. */
#include "test.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 32);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, __u64);
	__uint(max_entries, 64);
} cookies SEC(".maps");

static __always_inline void hit(__u32 key)
{
	__u64 *count = bpf_map_lookup_elem(&hits, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

SEC("raw_tp/sys_enter")
int knpt_raw_tp(struct bpf_raw_tracepoint_args *ctx)
{
	if (is_target() && ctx->args[1] == GETPPID_NUMBER)
		hit(0);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(knpt_tp_btf, void *regs, long id)
{
	if (is_target() && id == GETPPID_NUMBER)
		hit(1);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_getppid")
int knpt_tracepoint(void *ctx)
{
	if (is_target())
		hit(2);
	return 0;
}

/* A test run of fentry or fexit programs calls bpf_fentry_test1 once. */
SEC("fentry/bpf_fentry_test1")
int BPF_PROG(knpt_fentry, int a)
{
	if (is_target())
		hit(3);
	return 0;
}

SEC("fexit/bpf_fentry_test1")
int BPF_PROG(knpt_fexit, int a, int result)
{
	if (is_target() && result == a + 1)
		hit(4);
	return 0;
}

SEC("kprobe/" GETPPID_FUNCTION)
int knpt_kprobe(void *ctx)
{
	if (is_target())
		hit(5);
	return 0;
}

SEC("kretprobe/" GETPPID_FUNCTION)
int knpt_kretprobe(void *ctx)
{
	if (is_target())
		hit(6);
	return 0;
}

SEC("lsm/inode_mkdir")
int BPF_PROG(knpt_lsm)
{
	if (is_target())
		hit(7);
	return 0;
}

SEC("uprobe")
int knpt_uprobe(void *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx), one = 1;
	__u64 *count = bpf_map_lookup_elem(&cookies, &cookie);

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&cookies, &cookie, &one, BPF_ANY);
	return 0;
}

#define UDP_PORT_AT 36 /* Ethernet 14, IPv4 without options 20, destination port of UDP 2 */

static __always_inline int is_test_datagram(__u8 *data, __u8 *end)
{
	return data + UDP_PORT_AT + 2 <= end && data[12] == 8 && data[13] == 0 && data[23] == 17 &&
	       data[UDP_PORT_AT] == (40001 >> 8) && data[UDP_PORT_AT + 1] == (40001 & 255);
}

SEC("tc")
int knpt_tc_egress(struct __sk_buff *skb)
{
	if (is_test_datagram((void *)(long)skb->data, (void *)(long)skb->data_end))
		hit(8);
	return -1; /* TCX_NEXT, TC_ACT_UNSPEC */
}

SEC("tc")
int knpt_tc_ingress(struct __sk_buff *skb)
{
	if (is_test_datagram((void *)(long)skb->data, (void *)(long)skb->data_end))
		hit(9);
	return -1;
}

SEC("xdp")
int knpt_xdp(struct xdp_md *xdp)
{
	if (is_test_datagram((void *)(long)xdp->data, (void *)(long)xdp->data_end))
		hit(10);
	return XDP_PASS;
}

/* Lets through what a request is answered, cut to its head; drops what nobody asked for. */
SEC("socket")
int knpt_netlink(struct __sk_buff *skb)
{
	hit(13);
	return 20;
}

SEC("cgroup/connect4")
int knpt_connect4(struct bpf_sock_addr *ctx)
{
	hit(11);
	return 1;
}

SEC("sk_lookup")
int knpt_sk_lookup(struct bpf_sk_lookup *ctx)
{
	if (ctx->local_port == 40002)
		hit(12);
	return SK_PASS;
}
