/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The providers' programs (see sockio.h). Included by http.bpf.c, whose http_look and http_on_data they feed.
 */
#pragma once

/*
 * sock_send_length, sock_recv_length.
 */

/* Finds the buffers of the system call that the current task is in. False: they cannot be seen from here. */
static __always_inline bool sockio_locate(struct http_task *task, struct task_struct *current, bool sends)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(current);
	struct http_call *call = &task->call;
	struct sockio_syscall entry;
	struct sockio_message message;
	u32 shape;

	if (!regs || (current->flags & PF_KTHREAD))
		return false;
	sockio_read_syscall(regs, &entry);
	shape = sockio_shape(entry.number);
	if (!!(shape & SHAPE_SENDS) != sends)
		return false;
	call->iov_left = 0;
	call->left = 0;
	call->skip = 0;
	switch (shape & 7) {
	case SHAPE_BUFFER:
		call->base = entry.buffer;
		call->left = entry.length;
		return true;
	case SHAPE_VECTOR:
		call->iov = entry.buffer;
		call->iov_left = entry.length;
		return true;
	case SHAPE_MESSAGES:
		entry.buffer += (u64)task->message_index++ * SOCKIO_MMSGHDR;
		/* fall through */
	case SHAPE_MESSAGE:
		if (bpf_probe_read_user(&message, sizeof(message), (const void *)entry.buffer))
			return false;
		call->iov = message.iov;
		call->iov_left = message.iov_count;
		return true;
	}
	return false;
}

static __always_inline int sockio_on_length(struct sock *sk, int length, int flags, bool sends)
{
	struct socket_state *state = NULL;
	struct http_conn *conn;
	struct http_task *task;
	struct task_struct *current;
	struct tcp_sock *tcp;
	bool seen;
	u8 role;

	if (!sk || !http_is_tcp(sk) || (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)))
		return 0;
	conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	if (length <= 0)
		return conn && !sends ? http_on_read_end(sk, conn, length) : 0;
	if (conn) {
		if (conn->flags & (HTTP_TUNNEL | HTTP_FINISHED))
			return 0;
		role = conn->role;
	} else {
		struct http_verdict *verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, 0);

		if (verdict && verdict->left_alone)
			return 0;
		state = socket_state_of(sk);
		if (!state || (state->role != ROLE_CLIENT && state->role != ROLE_SERVER))
			return 0;
		role = state->role;
	}
	tcp = bpf_skc_to_tcp_sock(sk);
	current = bpf_get_current_task_btf();
	task = bpf_task_storage_get(&http_tasks, current, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!tcp || !task) {
		http_count(HTTP_LOST_STORAGE, 1);
		return 0;
	}
	seen = sockio_locate(task, current, sends) && !(flags & MSG_TRUNC);
	task->call.direction = direction_of(role, sends);
	task->call.total = length;
	task->call.end.now_ns = bpf_ktime_get_ns();
	task->call.begin_ns = sends && seen && task->entry_ns ? task->entry_ns : task->call.end.now_ns;
	if (!conn) {
		conn = seen ? http_look(sk, state, task) : NULL;
		if (!conn)
			return 0;
		task->call.total = length;
	}
	return http_on_data(sk, tcp, conn, task, sends, seen);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sockio_sent, struct sock *sk, int length, int flags)
{
	return sockio_on_length(sk, length, 0, true);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sockio_received, struct sock *sk, int length, int flags)
{
	return sockio_on_length(sk, length, flags, false);
}

/* When a send begins. Most system calls are none, and a thread that never used a network has no storage. */
SEC("tp_btf/sys_enter")
int BPF_PROG(sockio_sys_enter, struct pt_regs *regs, long number)
{
	u32 shape = sockio_shape(number);
	struct http_task *task;

	if (!(shape & SHAPE_SENDS) && (shape & 7) != SHAPE_MESSAGES)
		return 0;
	task = bpf_task_storage_get(&http_tasks, bpf_get_current_task_btf(), 0,
				    shape & SHAPE_NETWORK ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (task) {
		task->entry_ns = bpf_ktime_get_ns();
		task->message_index = 0;
	}
	return 0;
}
