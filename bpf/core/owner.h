/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Who is this task? Interns (cgroup, process name) into a small number, and writes down, at that
 * moment, all that naming it later needs: a process may be gone a millisecond from now.
 */
#pragma once

#include "edge.h"
#include <bpf/bpf_core_read.h>

static const struct owner_info no_owner;

/* The kernfs node of the hierarchy that carries containers and units on this host. A hybrid host may
 * keep every process in v2's root, so userspace says which one to read. */
static __always_inline struct kernfs_node *cgroup_node(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *subsystem = NULL;

	if (cgroup_subsystem < 0)
		return BPF_CORE_READ(set, dfl_cgrp, kn);
	bpf_probe_read_kernel(&subsystem, sizeof(subsystem),
			      (void *)set + bpf_core_field_offset(set->subsys) +
				      (cgroup_subsystem & 15) * sizeof(void *));
	return BPF_CORE_READ(subsystem, cgroup, kn);
}

static __always_inline struct kernfs_node *parent_node(struct kernfs_node *node)
{
	struct kernfs_node___parent_rcu *renamed = (void *)node;
	struct kernfs_node___parent *classic = (void *)node;

	if (bpf_core_field_exists(renamed->__parent))
		return BPF_CORE_READ(renamed, __parent);
	return BPF_CORE_READ(classic, parent);
}

static __noinline int describe_owner(struct owner_info *info, struct task_struct *task,
				     struct task_struct *leader)
{
	struct kernfs_node *node = cgroup_node(task);
	const unsigned char *exe;

	info->start_boottime_ns = BPF_CORE_READ(leader, start_boottime);
	info->pid = BPF_CORE_READ(leader, tgid);
	BPF_CORE_READ_STR_INTO(&info->comm, leader, comm);
	exe = BPF_CORE_READ(leader, mm, exe_file, f_path.dentry, d_name.name);
	if (exe)
		bpf_probe_read_kernel_str(info->exe, sizeof(info->exe), exe);
	if (BPF_CORE_READ(leader, flags) & PF_KTHREAD)
		info->flags |= OWNER_KERNEL_THREAD;
	if (agent_tgid && info->pid == agent_tgid)
		info->flags |= OWNER_SELF;
	if (info->pid == 1)
		info->flags |= OWNER_INIT;
	for (int level = 0; level < CGROUP_LEVELS; level++) {
		const char *name = node ? BPF_CORE_READ(node, name) : NULL;
		if (!name)
			break;
		bpf_probe_read_kernel_str(info->path[level], CGROUP_NAME, name);
		node = parent_node(node);
	}
	return 0;
}

static __noinline u32 intern_owner(struct owner_key *key, struct task_struct *task, struct task_struct *leader)
{
	struct edge_state *state = shared_state();
	struct owner_info *info;
	u32 id, *winner;

	if (!state)
		return OWNER_OTHER;
	id = FIRST_ID + __sync_fetch_and_add(&state->owners_made, 1);
	if (bpf_map_update_elem(&owners, &id, &no_owner, BPF_NOEXIST))
		goto full;
	info = bpf_map_lookup_elem(&owners, &id);
	if (!info)
		goto full;
	info->key = *key;
	describe_owner(info, task, leader);
	if (bpf_map_update_elem(&owner_ids, key, &id, BPF_NOEXIST)) {
		/* Another processor was first, or the table is full. */
		bpf_map_delete_elem(&owners, &id);
		winner = bpf_map_lookup_elem(&owner_ids, key);
		if (winner)
			return *winner;
		goto full;
	}
	info->id = id;
	return id;
full:
	ATOMIC_ADD(state->lost[LOST_OWNER_TABLE_FULL], 1);
	return OWNER_OTHER;
}

/* "MainThread", what Node.js 24 calls every program's main thread; as two words, since BPF has no memcmp */
static __always_inline bool is_generic(const char name[16])
{
	union {
		char text[16];
		u64 words[2];
	} generic = {.text = "MainThread"};

	return ((const u64 *)name)[0] == generic.words[0] && ((const u64 *)name)[1] == generic.words[1];
}

/* What tells a process from others of its cgroup: its name, or its executable's where the name says nothing. */
static __always_inline void name_owner(struct owner_key *key, struct task_struct *leader)
{
	const unsigned char *exe;

	if (agent_tgid && (u32)BPF_CORE_READ(leader, tgid) == agent_tgid) {
		__builtin_memcpy(key->name, "kubenetprobe", 13); /* an owner apart from others that run on Node.js */
		return;
	}
	BPF_CORE_READ_STR_INTO(&key->name, leader, comm);
	if (!is_generic(key->name))
		return;
	exe = BPF_CORE_READ(leader, mm, exe_file, f_path.dentry, d_name.name);
	if (exe)
		bpf_probe_read_kernel_str(key->name, sizeof(key->name), exe);
}

/* The owner number of a task. Call it only where the task is known to act on the socket. */
static __noinline u32 owner_of(struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct owner_key key = {};
	u32 *id;

	if (BPF_CORE_READ(leader, flags) & PF_KTHREAD) {
		/* kworker/3:1 and its like: one owner, whatever the worker is called today */
		__builtin_memcpy(key.name, "kernel", 7);
	} else {
		key.cgroup_id = BPF_CORE_READ(cgroup_node(task), id);
		if (!bpf_map_lookup_elem(&named_cgroups, &key.cgroup_id))
			name_owner(&key, leader);
	}
	id = bpf_map_lookup_elem(&owner_ids, &key);
	return id ? *id : intern_owner(&key, task, leader);
}

static __always_inline u32 current_owner(void)
{
	return owner_of((struct task_struct *)bpf_get_current_task());
}

static __always_inline bool current_is_agent(void)
{
	return agent_tgid && (u32)(bpf_get_current_pid_tgid() >> 32) == agent_tgid;
}

static __always_inline bool current_is_kernel_thread(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	return BPF_CORE_READ(task, flags) & PF_KTHREAD;
}
