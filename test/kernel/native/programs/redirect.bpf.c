/* Socket-level load balancing, as Cilium does it: connect() to a Service's address goes to one of two backends. */
#include "test.h"
#include <bpf/bpf_endian.h>

struct address {
	__u32 words[4];
};
struct service {
	struct address address, backends[2];
	__u32 port, backend_port; /* host order */
};

/* Two entries: IPv4 (in the last word), IPv6. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct service);
} services SEC(".maps");

SEC("cgroup/connect4")
int redirect4(struct bpf_sock_addr *ctx)
{
	__u32 key = 0;
	struct service *service = bpf_map_lookup_elem(&services, &key);

	if (!service || ctx->user_ip4 != service->address.words[3] || ctx->user_port != bpf_htons(service->port))
		return 1;
	ctx->user_ip4 = service->backends[bpf_get_prandom_u32() & 1].words[3];
	ctx->user_port = bpf_htons(service->backend_port);
	return 1;
}

SEC("cgroup/connect6")
int redirect6(struct bpf_sock_addr *ctx)
{
	__u32 key = 1;
	struct service *service = bpf_map_lookup_elem(&services, &key);
	struct address *to;

	if (!service || ctx->user_ip6[0] != service->address.words[0] || ctx->user_ip6[1] != service->address.words[1] ||
	    ctx->user_ip6[2] != service->address.words[2] || ctx->user_ip6[3] != service->address.words[3] ||
	    ctx->user_port != bpf_htons(service->port))
		return 1;
	to = bpf_get_prandom_u32() & 1 ? &service->backends[1] : &service->backends[0];
	ctx->user_ip6[0] = to->words[0];
	ctx->user_ip6[1] = to->words[1];
	ctx->user_ip6[2] = to->words[2];
	ctx->user_ip6[3] = to->words[3];
	ctx->user_port = bpf_htons(service->backend_port);
	return 1;
}
