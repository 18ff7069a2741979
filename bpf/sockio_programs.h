/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The providers' programs (see sockio.h). Included by http.bpf.c, whose http_look and http_on_data they feed.
 */
#pragma once

/*
 * sock_send_length, sock_recv_length.
 */

/* Finds the buffers of the system call that the current task is in. False: they cannot be seen from here. */
static __always_inline bool sockio_locate(struct http_task *task, struct sock *sk, struct task_struct *current,
					  bool sends)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(current);
	struct http_call *call = &task->call;
	struct sockio_syscall entry;
	struct sockio_message message;
	u32 shape;

	/* a worker's registers are left over from whoever made it */
	if (!regs || (current->flags & (PF_KTHREAD | PF_IO_WORKER)) || !sockio_has_file(sk))
		return false;
	sockio_read_syscall(regs, current, &entry);
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
		if (task->message_index == NO_MESSAGE)
			return false;
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

/* Where a provider finds the buffers. */
enum sockio_provider {
	FROM_SYSCALL, /* by the registers of the system call */
	FROM_NOTE,    /* by what was noted at the entry of the function */
	FROM_NOWHERE, /* pages of the kernel's own */
};

static __always_inline bool sockio_find_buffers(struct http_task *task, struct sock *sk, struct task_struct *current,
						enum sockio_provider provider, bool sends)
{
	struct http_call *call = &task->call;

	call->iov_in_kernel = 0;
	if (provider == FROM_NOWHERE)
		return false;
	if (provider == FROM_SYSCALL)
		return sockio_locate(task, sk, current, sends);
	if (task->noted != (u64)sk) { /* the program at the entry did not run: it was busy, or a kprobe was missed */
		task->message_index = NO_MESSAGE;
		return sockio_locate(task, sk, current, sends);
	}
	task->noted = 0;
	call->iov_left = 0;
	call->left = 0;
	call->skip = task->offset;
	switch (task->shape) {
	case SHAPE_BUFFER:
		call->base = task->buffer;
		call->left = task->length;
		return true;
	case SHAPE_VECTOR:
		call->iov = task->buffer;
		call->iov_left = task->length;
		call->iov_in_kernel = 1;
		return true;
	}
	return false;
}

/* The call moved nothing that counts: what was noted of it must not serve another. */
static __always_inline int sockio_forget(enum sockio_provider provider)
{
	struct http_task *task;

	if (provider != FROM_NOTE)
		return 0;
	task = bpf_task_storage_get(&http_tasks, bpf_get_current_task_btf(), 0, 0);
	if (task)
		task->noted = 0;
	return 0;
}

/*
 * Several programs on one hook. The kernel does not run a tracing program that is already running on the same
 * processor, and Linux 7.0 made tracepoints preemptible: one that was preempted counts as running, and what another
 * task does meanwhile is missed. (To forbid preemption does not help: it then happens where it is allowed again, still
 * within the program.) There a second program stands by on each hook; whichever is free does the work. A miss takes
 * two tasks that were preempted at once on one processor, and is a counted loss like all bytes that were not shown.
 */
const volatile u32 sockio_stand_by = 0; /* set once, before loading */

/* Was this call delivered by the other program? Every call moves the position. */
static __always_inline bool sockio_delivered(struct http_task *task, struct sock *sk, struct tcp_sock *tcp, bool sends)
{
	u64 to = (u64)sockio_position(sk, tcp, sends) << 1 | sends;
	bool done = task->delivered == (u64)sk && task->delivered_to == to;

	task->delivered = (u64)sk;
	task->delivered_to = to;
	return done;
}

/* Does anybody care for this socket's bytes? Its connection, or NULL where it has to be looked at first. */
static __always_inline bool sockio_wanted(struct sock *sk, struct http_conn **conn)
{
	struct http_verdict *verdict;

	*conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	if (*conn)
		return !((*conn)->flags & (HTTP_TUNNEL | HTTP_FINISHED));
	verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, 0);
	return !verdict || !verdict->left_alone;
}

/* A call has sent, or received, `length` bytes. */
static __always_inline int sockio_deliver(struct sock *sk, int length, int flags, bool sends,
					  enum sockio_provider provider)
{
	struct socket_state *state = NULL;
	struct http_conn *conn;
	struct http_task *task;
	struct task_struct *current;
	struct tcp_sock *tcp;
	bool seen;
	u8 role;

	if (!sk || !http_is_tcp(sk))
		return 0;
	if (length == -EAGAIN || (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)))
		return sockio_forget(provider);
	if (!sockio_wanted(sk, &conn))
		return 0;
	if (length <= 0)
		return conn && !sends ? http_on_read_end(sk, conn, length) : 0;
	if (conn) {
		role = conn->role;
	} else {
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
	if (sockio_stand_by && sockio_delivered(task, sk, tcp, sends))
		return 0;
	seen = sockio_find_buffers(task, sk, current, provider, sends) && !(flags & MSG_TRUNC);
	task->call.direction = direction_of(role, sends);
	task->call.blocks = !sends && !(flags & MSG_DONTWAIT) && !(current->flags & PF_IO_WORKER);
	task->call.total = length;
	task->call.end.now_ns = bpf_ktime_get_ns();
	task->call.begin_ns = sends && seen && task->entry_ns ? task->entry_ns : task->call.end.now_ns;
	if (provider != FROM_SYSCALL || !task->message_index)
		task->entry_ns = 0; /* of this call: the program at sys_enter may miss the next one */
	if (!conn) {
		conn = seen ? http_look(sk, state, task) : http_not_shown(sk);
		if (!conn)
			return 0;
		task->call.total = length;
	}
	return http_on_data(sk, tcp, conn, task, sends, seen);
}

#define SOCKIO_LENGTH_PROGRAMS(sent, received, provider)                                                       \
	SEC("tp_btf/sock_send_length")                                                                         \
	int BPF_PROG(sent, struct sock *sk, int length, int flags)                                             \
	{                                                                                                      \
		return sockio_deliver(sk, length, 0, true, provider);                                          \
	}                                                                                                      \
	SEC("tp_btf/sock_recv_length")                                                                         \
	int BPF_PROG(received, struct sock *sk, int length, int flags)                                         \
	{                                                                                                      \
		return sockio_deliver(sk, length, flags, false, provider);                                     \
	}

SOCKIO_LENGTH_PROGRAMS(sockio_sent, sockio_received, FROM_SYSCALL)
SOCKIO_LENGTH_PROGRAMS(sockio_sent_nested, sockio_received_nested, FROM_SYSCALL)

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

/*
 * What the kernel's functions are called with. `typed`: the verifier knows what the pointers point to.
 */

#define SOCKIO_GET(typed, pointer, field) ((typed) ? (pointer)->field : BPF_CORE_READ(pointer, field))

static __always_inline void sockio_note(struct http_task *task, struct sock *sk, struct msghdr *msg, bool typed)
{
	struct iov_iter *iter = &msg->msg_iter;
	u8 type = SOCKIO_GET(typed, iter, iter_type);

	task->noted = (u64)sk;
	task->entry_ns = bpf_ktime_get_ns();
	task->offset = SOCKIO_GET(typed, iter, iov_offset);
	task->shape = SHAPE_NONE; /* pages, registered buffers: no address of the process's */
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
	    type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		task->shape = SHAPE_BUFFER;
		task->buffer = (u64)SOCKIO_GET(typed, (struct iov_iter___ubuf *)iter, ubuf);
		task->length = SOCKIO_GET(typed, iter, count) + task->offset;
	} else if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		task->shape = SHAPE_VECTOR;
		if (bpf_core_field_exists(((struct iov_iter___named *)iter)->__iov))
			task->buffer = (u64)SOCKIO_GET(typed, (struct iov_iter___named *)iter, __iov);
		else
			task->buffer = (u64)SOCKIO_GET(typed, (struct iov_iter___iov *)iter, iov);
		task->length = SOCKIO_GET(typed, iter, nr_segs);
	}
}

static __always_inline int sockio_note_entry(struct sock *sk, struct msghdr *msg, bool typed)
{
	struct http_task *task = bpf_task_storage_get(&http_tasks, bpf_get_current_task_btf(), 0,
						      BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (task)
		sockio_note(task, sk, msg, typed);
	else
		http_count(HTTP_LOST_STORAGE, 1);
	return 0;
}

/*
 * fentry.
 */

static __always_inline int sockio_enter(struct sock *sk, struct msghdr *msg)
{
	struct http_conn *conn;

	return sk && http_is_tcp(sk) && sockio_wanted(sk, &conn) ? sockio_note_entry(sk, msg, true) : 0;
}

#define SOCKIO_ENTRY_PROGRAM(name, function)                                                                   \
	SEC("fentry/" function)                                                                                \
	int BPF_PROG(name, struct sock *sk, struct msghdr *msg)                                                \
	{                                                                                                      \
		return sockio_enter(sk, msg);                                                                  \
	}

SOCKIO_ENTRY_PROGRAM(sockio_send_entry, "tcp_sendmsg")
SOCKIO_ENTRY_PROGRAM(sockio_send_entry_nested, "tcp_sendmsg")
SOCKIO_ENTRY_PROGRAM(sockio_receive_entry, "tcp_recvmsg")
SOCKIO_ENTRY_PROGRAM(sockio_receive_entry_nested, "tcp_recvmsg")

/*
 * kprobe. Neither kprobe nor kretprobe may look into a socket's storage: the tracepoints say how the call ended.
 * That needs no kretprobe, of which the kernel has only so many at once.
 */

static __always_inline int sockio_enter_kprobe(void *ctx)
{
	if (sockio_is_x86()) {
		struct pt_regs___sockio_x86 *x86 = ctx;

		return sockio_note_entry((void *)x86->di, (void *)x86->si, false);
	} else {
		struct pt_regs___sockio_arm64 *arm64 = ctx;

		return sockio_note_entry((void *)arm64->regs[0], (void *)arm64->regs[1], false);
	}
}

SEC("kprobe/tcp_sendmsg")
int sockio_send_kprobe(void *ctx)
{
	return sockio_enter_kprobe(ctx);
}

SEC("kprobe/tcp_recvmsg")
int sockio_receive_kprobe(void *ctx)
{
	return sockio_enter_kprobe(ctx);
}

/*
 * How what was noted ended: by the tracepoints, or by fexit where these are not there.
 */

SOCKIO_LENGTH_PROGRAMS(sockio_sent_noted, sockio_received_noted, FROM_NOTE)
SOCKIO_LENGTH_PROGRAMS(sockio_sent_noted_nested, sockio_received_noted_nested, FROM_NOTE)

SEC("fexit/tcp_sendmsg")
int BPF_PROG(sockio_send_exit, struct sock *sk, struct msghdr *msg, size_t size, int result)
{
	return sockio_deliver(sk, result, 0, true, FROM_NOTE);
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(sockio_receive_exit, struct sock *sk, struct msghdr *msg, size_t size, int flags, int *address_length,
	     int result)
{
	return sockio_deliver(sk, result, flags, false, FROM_NOTE);
}

/* Before 5.19, ec095263a965 ("net: remove noblock parameter from recvmsg() entities"). */
SEC("fexit/tcp_recvmsg")
int BPF_PROG(sockio_receive_exit_nonblock, struct sock *sk, struct msghdr *msg, size_t size, int nonblock, int flags,
	     int *address_length, int result)
{
	return sockio_deliver(sk, result, nonblock ? flags | MSG_DONTWAIT : flags, false, FROM_NOTE);
}

/* sendfile and splice before 6.5, dc97391e6610 ("sock: Remove ->sendpage*() in favour of sendmsg(MSG_SPLICE_PAGES)"). */
SEC("fexit/tcp_sendpage")
int BPF_PROG(sockio_sendpage_exit, struct sock *sk, void *page, int offset, size_t size, int flags, int result)
{
	return sockio_deliver(sk, result, 0, true, FROM_NOWHERE);
}
