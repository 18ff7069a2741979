/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Attempts to connect that fail before a SYN is sent: no route, a route that forbids, a program or rule that refuses. The
 * socket changes no state then, so only the result of the call tells. Two ways to see it:
 *
 *   fexit	   the exit of tcp_v4_connect and tcp_v6_connect, which sees every attempt, io_uring's too
 *   task work	   (Linux 6.18) where fexit is refused: a cgroup program at the beginning of connect() asks the kernel to call
 *		   back when the thread returns to its process; the registers have the result then. Sees the system call
 *		   connect() only. Costs some microseconds per call, and nothing elsewhere.
 *
 * Neither looks at an attempt whose failure the socket's state tells (connection.h).
 * Included by core.bpf.c.
 */
#pragma once

static __always_inline int on_connect_result(struct sock *sk, void *from, int length, int result)
{
	struct address given = {};
	struct socket_state *state;
	u64 user_length = 0;
	void *argument;

	if (result >= 0)
		return 0;
	state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (state && state->self == (u64)sk &&
	    (__sync_fetch_and_and(&state->flags, ~SOCKET_FAILED_AT_ONCE) & SOCKET_FAILED_AT_ONCE))
		return 0;
	if (current_is_agent())
		return 0;
	/* What the process has dialled, before any program replaced it, is what the edge is named by. */
	argument = current_is_kernel_thread() ? NULL : connect_argument(&user_length);
	if ((argument && read_address(&given, argument, user_length, true)) || read_address(&given, from, length, false))
		count_unsent(&given, -result);
	return 0;
}

SEC("fexit/tcp_v4_connect")
int BPF_PROG(core_connect4_result, struct sock *sk, void *address, int length, int result)
{
	forbid_preemption();
	on_connect_result(sk, address, length, result);
	allow_preemption();
	return 0;
}

/* A v4-mapped address goes through the program above as well. */
SEC("fexit/tcp_v6_connect")
int BPF_PROG(core_connect6_result, struct sock *sk, void *address, int length, int result)
{
	u8 endpoint[16] = {};
	struct address given = {};

	if (result >= 0 || (read_address(&given, address, length, false) && endpoint_of(&given, endpoint) == 4))
		return 0;
	forbid_preemption();
	on_connect_result(sk, address, length, result);
	allow_preemption();
	return 0;
}

extern int bpf_task_work_schedule_resume_impl(struct task_struct *task, struct bpf_task_work *work, void *map__map,
					      bpf_task_work_callback_t callback, void *aux__prog) __ksym __weak;

/* The running call has returned: the registers have what it says. */
static int connect_returned(struct bpf_map *map, void *key, void *value)
{
	struct connect_attempt *attempt = value;
	struct address given = {};
	u64 length = 0;
	void *argument;
	long result;

	if (!attempt || attempt->sent)
		goto done;
	argument = connect_argument(&length);
	result = call_result();
	if (!argument || result >= 0 || result < -133 /* EHWPOISON; beyond are those that only the kernel sees */ ||
	    result == -EINPROGRESS || result == -EALREADY)
		goto done;
	if (read_address(&given, argument, length, true))
		count_unsent(&given, -result);
done:
	bpf_map_delete_elem(&connect_attempts, key);
	return 0;
}

static __always_inline int connect_begins(struct bpf_sock_addr *call)
{
	struct connect_attempt none = {}, *attempt;
	u64 thread = bpf_get_current_pid_tgid(), length;

	if (call->type != SOCK_STREAM || (call->protocol != IPPROTO_TCP && call->protocol != IPPROTO_MPTCP))
		return 1;
	if (current_is_agent() || !connect_argument(&length))
		return 1;
	bpf_map_update_elem(&connect_attempts, &thread, &none, BPF_ANY);
	attempt = bpf_map_lookup_elem(&connect_attempts, &thread);
	if (attempt && !bpf_task_work_schedule_resume_impl(bpf_get_current_task_btf(), &attempt->work, &connect_attempts,
							   connect_returned, NULL))
		return 1;
	count_lost(LOST_CONNECT_RESULT);
	bpf_map_delete_elem(&connect_attempts, &thread); /* nobody else would */
	return 1;
}

SEC("cgroup/connect4")
int core_connect4_begins(struct bpf_sock_addr *call)
{
	return connect_begins(call);
}

SEC("cgroup/connect6")
int core_connect6_begins(struct bpf_sock_addr *call)
{
	return connect_begins(call);
}
