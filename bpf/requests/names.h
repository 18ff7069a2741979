/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Learnt names: a path, a method, a statement crosses to userspace once, when it is seen for the first time on an edge,
 * and is a number from then on (an HTTP route, for one).
 */
#pragma once

#include "requests/maps.h"

/* Sends a name up, once; says whether it was. */
static __always_inline bool request_send_name(struct request_name_key *key, u64 now_ns, const u8 *bytes, u32 length,
					      bool cut)
{
	struct request_state *state = request_state_of(key->protocol);
	struct request_name_event *event;

	if (!state || !request_allow(&state->names, now_ns, request_names_per_second))
		return false;
	event = bpf_ringbuf_reserve(&request_events, sizeof(*event), 0);
	if (!event)
		return false;
	event->kind = REQUEST_EVENT_NAME;
	event->size = sizeof(*event);
	event->name_hash = key->name_hash;
	event->edge_id = key->edge_id;
	event->protocol = key->protocol;
	event->length = length > REQUEST_NAME ? REQUEST_NAME : length;
	event->cut = cut;
	/* all of it: a fixed size is faster, and userspace looks at `length` bytes */
	bpf_probe_read_kernel(event->name, REQUEST_NAME, bytes);
	bpf_ringbuf_submit(event, 0);
	ATOMIC_ADD(state->counters[REQUEST_NAME_EVENTS], 1);
	return true;
}

/* The number of the name that stands at `bytes`, of which REQUEST_NAME can be read. NAME_UNKNOWN: on its way. */
static __always_inline u32 request_name(struct request_conn *conn, u64 now_ns, u64 hash, const u8 *bytes, u32 length,
					bool cut)
{
	struct request_name_key key = {.name_hash = hash, .edge_id = conn->edge_id, .protocol = conn->protocol};
	u32 *name, unknown = NAME_UNKNOWN;

	if (conn->known_name && conn->known_hash == hash)
		return conn->known_name;
	name = bpf_map_lookup_elem(&request_names, &key);
	if (name) {
		conn->known_hash = hash;
		conn->known_name = *name;
		return *name;
	}
	if (bpf_map_update_elem(&request_names, &key, &unknown, BPF_NOEXIST))
		return NAME_UNKNOWN; /* another processor was first */
	if (request_send_name(&key, now_ns, bytes, length, cut))
		return NAME_UNKNOWN;
	bpf_map_delete_elem(&request_names, &key); /* to be asked again */
	request_count(key.protocol, REQUEST_LOST_NAME_EVENT, 1);
	return NAME_OVERFLOW;
}

static __always_inline void request_find_name(struct request_conn *conn, struct request *request)
{
	struct request_name_key key = {
		.name_hash = request->name_hash, .edge_id = conn->edge_id, .protocol = conn->protocol};
	u32 *name = bpf_map_lookup_elem(&request_names, &key);

	if (name)
		request->name = *name;
}
