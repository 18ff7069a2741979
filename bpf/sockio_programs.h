/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The providers' programs (see sockio.h). Included by http.bpf.c, whose http_look and http_on_data they feed.
 */
#pragma once

/*
 * What is noted of a call where it begins, by thread: a thread cannot interrupt itself.
 */
struct sockio_note {
	u64 begin_ns; /* of the call that sends */
	u64 sock;     /* the socket whose call was noted at its entry, by fentry or kprobe; 0: none */
	u64 buffer;   /* a user address, or a kernel's array of iovecs */
	u64 length;   /* bytes, or iovecs */
	u64 offset;   /* in the first iovec */
	u64 shape;    /* enum sockio_shape */
};
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sockio_note);
} sockio_notes SEC(".maps");

/* Where a provider finds the buffers, and when a send began. */
enum sockio_provider {
	FROM_SOCKET,  /* a send by what tcp_sendmsg_locked has noted, the rest by the registers of the system call */
	FROM_SYSCALL, /* by the registers; sys_enter notes when a send began */
	FROM_NOTE,    /* by what was noted at the entry of the function */
	FROM_NOWHERE, /* pages of the kernel's own */
};

/*
 * sock_send_length, sock_recv_length.
 */

/*
 * Which message of a call with several (sendmmsg, recvmmsg) is it? They come in order; after the last one, or after one
 * that failed, another call begins. recvmmsg may also stop by time, which is not seen: with a timeout it is not followed.
 */
static __always_inline bool sockio_locate_message(struct http_call *call, struct http_direction *direction,
						  struct sockio_syscall *entry, bool sends)
{
	struct http_shared *shared = http_shared_state();
	u32 index = 0;

	if ((!sends && entry->fifth) || !shared)
		return false;
	shared->messages = 1;
	call->messages = entry->buffer;
	if (direction) {
		if (direction->messages == entry->buffer && direction->message < entry->length)
			index = direction->message;
		direction->messages = entry->buffer;
		direction->message = index + 1;
	}
	entry->buffer += (u64)index * SOCKIO_MMSGHDR;
	return true;
}

/* Finds the buffers of the system call that the current task is in. False: they cannot be seen from here. `countable`:
 * all messages of one call come by here, so that it is known which this is. */
static __always_inline bool sockio_locate(struct http_call *call, struct sock *sk, struct task_struct *current,
					  struct http_direction *direction, bool countable, bool sends)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(current);
	struct sockio_syscall entry;
	struct sockio_message message;
	u32 shape;

	/* a worker's registers are left over from whoever made it; what is followed was looked at */
	if (!regs || (current->flags & (PF_KTHREAD | PF_IO_WORKER)) || (!direction && !sockio_has_file(sk)))
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
		if (!countable || !sockio_locate_message(call, direction, &entry, sends))
			return false;
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

/* Takes the buffers from what was noted at the entry of the function. */
static __always_inline bool sockio_take_note(struct http_call *call, struct sockio_note *note)
{
	note->sock = 0;
	call->iov_left = 0;
	call->left = 0;
	call->skip = note->offset;
	switch (note->shape) {
	case SHAPE_BUFFER:
		call->base = note->buffer;
		call->left = note->length;
		return true;
	case SHAPE_VECTOR:
		call->iov = note->buffer;
		call->iov_left = note->length;
		call->iov_in_kernel = 1;
		return true;
	}
	return false;
}

extern void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym __weak; /* Linux 6.2 */

/* A TCP socket as such. The cast costs nothing; the helper, which asks what it is, does. */
static __always_inline struct tcp_sock *sockio_tcp_sock(struct sock *sk, enum sockio_provider provider)
{
	if (provider == FROM_SOCKET && bpf_ksym_exists(bpf_rdonly_cast))
		return bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	return bpf_skc_to_tcp_sock(sk);
}

/* Takes the buffers from what was noted on the socket when the send began, if it was this one. */
static __always_inline bool sockio_take_send(struct http_call *call, struct http_send *send, u32 position)
{
	if (!send->begin_ns || send->position != position - (u32)call->total)
		return false;
	call->begin_ns = send->begin_ns;
	call->base = send->base;
	call->left = send->left;
	call->iov = send->iov;
	call->iov_left = send->iov_left;
	call->iov_in_kernel = 1;
	call->skip = 0;
	send->begin_ns = 0;
	return true;
}

/*
 * Finds the buffers, and when the call began and ended. `conn` is NULL where the socket is not followed yet, and `state`
 * where it is. The end of a send is when its last segment left, which TCP has noted: that clock takes long to read.
 */
static __always_inline bool sockio_find(struct http_call *call, struct sock *sk, struct tcp_sock *tcp,
					struct http_conn *conn, struct socket_state *state, u32 position,
					enum sockio_provider provider, bool sends)
{
	struct http_direction *direction = conn ? &conn->directions[call->direction & 1] : NULL;
	struct task_struct *current;
	struct sockio_note *note = NULL;
	u64 begin_ns = 0;
	bool seen;

	if (provider == FROM_SOCKET && sends && conn && sockio_take_send(call, &conn->send, position)) {
		u64 left_ns = ((struct tcp_sock___sockio *)tcp)->tcp_clock_cache;

		call->end.now_ns = left_ns > call->begin_ns ? left_ns : call->begin_ns;
		return call->base;
	}
	call->iov_in_kernel = 0;
	call->end.now_ns = bpf_ktime_get_ns();
	current = bpf_get_current_task_btf();
	if (provider == FROM_SOCKET && sends && state) {
		begin_ns = state->send_ns;
		state->send_ns = 0;
	} else if (provider == FROM_NOTE || (provider == FROM_SYSCALL && sends)) {
		note = bpf_task_storage_get(&sockio_notes, current, 0, 0);
		if (note) {
			begin_ns = sends ? note->begin_ns : 0;
			note->begin_ns = 0; /* of this call: the program at its entry may miss the next one */
		}
	}
	if (provider == FROM_NOWHERE)
		seen = false;
	else if (provider == FROM_NOTE && note && note->sock == (u64)sk)
		seen = sockio_take_note(call, note);
	else /* by the registers, also where the program at the entry did not run: it was busy, or a kprobe was missed */
		seen = sockio_locate(call, sk, current, direction,
				     provider == FROM_SOCKET ? !sends || !conn : provider == FROM_SYSCALL, sends);
	call->begin_ns = seen && begin_ns ? begin_ns : call->end.now_ns;
	return seen;
}

/* The call moved nothing: what was noted of it must not serve another. */
static __always_inline int sockio_forget(struct sock *sk, bool sends, bool failed, enum sockio_provider provider)
{
	struct http_shared *shared = http_shared_state();
	struct sockio_note *note;
	struct http_conn *conn;

	if (provider == FROM_NOTE) {
		note = bpf_task_storage_get(&sockio_notes, bpf_get_current_task_btf(), 0, 0);
		if (note)
			note->sock = 0;
	}
	if (!shared || !shared->messages)
		return 0;
	conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	if (conn) {
		struct http_direction *direction = &conn->directions[direction_of(conn->role, sends) & 1];

		direction->message = failed ? 0 : direction->message + 1;
	}
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

/* Was this call delivered by the other program, though the socket is not followed? Every call moves the position. */
static __always_inline bool sockio_looked_at(struct http_verdict *verdict, u32 position, bool sends)
{
	u64 call = (u64)position << 1 | sends;
	bool done;

	if (!verdict)
		return false;
	done = verdict->delivered == call;
	verdict->delivered = call;
	return done;
}

/* The bytes of a socket that is not followed yet. Its connection, if it is one of HTTP. */
static __always_inline struct http_conn *sockio_look(struct sock *sk, struct tcp_sock *tcp, struct http_work *work,
						     u32 position, int flags, bool sends,
						     enum sockio_provider provider, bool *seen)
{
	struct http_verdict *verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, 0);
	struct http_call *call = &work->call;
	struct socket_state *state;
	struct http_conn *conn;
	u64 total = call->total;

	if (verdict && verdict->left_alone)
		return NULL;
	state = socket_state_of(sk);
	if (!state || (state->role != ROLE_CLIENT && state->role != ROLE_SERVER) ||
	    (sockio_stand_by && sockio_looked_at(verdict, position, sends)))
		return NULL;
	call->direction = direction_of(state->role, sends);
	call->messages = 0;
	*seen = sockio_find(call, sk, tcp, NULL, state, position, provider, sends) && !(flags & MSG_TRUNC);
	conn = *seen ? http_look(sk, state, work) : http_not_shown(sk);
	call->total = total;
	if (conn && call->messages) {
		conn->directions[call->direction & 1].messages = call->messages;
		conn->directions[call->direction & 1].message = 1;
	}
	return conn;
}

/* A call has sent, or received, `length` bytes. `slot`: the program's working space. */
static __always_inline int sockio_deliver(struct sock *sk, int length, int flags, bool sends,
					  enum sockio_provider provider, u32 slot)
{
	struct http_direction *direction;
	struct task_struct *current;
	struct http_conn *conn;
	struct http_call *call;
	struct http_work *work;
	struct tcp_sock *tcp;
	u32 position;
	bool seen;

	if (!sk || !http_is_tcp(sk))
		return 0;
	if (length == -EAGAIN || (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)))
		return sockio_forget(sk, sends, true, provider);
	conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	if (conn && (conn->flags & (HTTP_TUNNEL | HTTP_FINISHED)))
		return 0;
	if (length <= 0) {
		if (conn && !sends)
			http_on_read_end(sk, conn, length);
		return sockio_forget(sk, sends, length != 0, provider);
	}
	tcp = sockio_tcp_sock(sk, provider);
	work = bpf_map_lookup_elem(&http_work, &slot);
	if (!tcp || !work)
		return 0;
	call = &work->call;
	position = sockio_position(sk, tcp, sends);
	call->total = length;
	if (!conn) {
		conn = sockio_look(sk, tcp, work, position, flags, sends, provider, &seen);
		if (!conn)
			return 0;
	} else {
		call->direction = direction_of(conn->role, sends);
		direction = &conn->directions[call->direction & 1];
		if (sockio_stand_by && direction->sequenced && direction->sequence == position)
			return 0; /* the other program was first */
		seen = sockio_find(call, sk, tcp, conn, NULL, position, provider, sends) && !(flags & MSG_TRUNC);
	}
	if (http_spans) {
		current = bpf_get_current_task_btf();
		call->blocks = !sends && !(flags & MSG_DONTWAIT) && !(current->flags & PF_IO_WORKER);
	}
	return http_on_data(sk, conn, call, position, sends, seen);
}

#define SOCKIO_SENT_PROGRAM(name, provider, slot)                                                              \
	SEC("tp_btf/sock_send_length")                                                                         \
	int BPF_PROG(name, struct sock *sk, int length, int flags)                                             \
	{                                                                                                      \
		return sockio_deliver(sk, length, 0, true, provider, slot);                                    \
	}
#define SOCKIO_RECEIVED_PROGRAM(name, provider, slot)                                                          \
	SEC("tp_btf/sock_recv_length")                                                                         \
	int BPF_PROG(name, struct sock *sk, int length, int flags)                                             \
	{                                                                                                      \
		return sockio_deliver(sk, length, flags, false, provider, slot);                               \
	}

SOCKIO_SENT_PROGRAM(sockio_sent, FROM_SOCKET, 0)
SOCKIO_SENT_PROGRAM(sockio_sent_nested, FROM_SOCKET, 1)
SOCKIO_SENT_PROGRAM(sockio_sent_entered, FROM_SYSCALL, 0)
SOCKIO_SENT_PROGRAM(sockio_sent_entered_nested, FROM_SYSCALL, 1)
SOCKIO_RECEIVED_PROGRAM(sockio_received, FROM_SOCKET, 2)
SOCKIO_RECEIVED_PROGRAM(sockio_received_nested, FROM_SOCKET, 3)

/* The first piece of what is sent, and where the others are. */
static __always_inline void sockio_note_send(struct http_send *send, struct msghdr *msg)
{
	struct iov_iter *iter = &msg->msg_iter;
	const struct iovec *iov;

	send->base = 0; /* pages, registered buffers: no address of the process's */
	send->iov_left = 0;
	if (iter->iter_type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		send->base = (u64)((struct iov_iter___ubuf *)iter)->ubuf + iter->iov_offset;
		send->left = iter->count;
	} else if (iter->iter_type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		iov = ((struct iov_iter___named *)iter)->__iov;
		send->base = (u64)iov->iov_base + iter->iov_offset;
		send->left = iov->iov_len - iter->iov_offset;
		send->iov = (u64)(iov + 1);
		send->iov_left = iter->nr_segs - 1;
	}
}

/*
 * When a send begins: once for every buffer that the kernel fills, before it does. The first one counts: it finds that
 * all before it was delivered.
 */
static __always_inline int sockio_send_begins(struct sock *sk, struct msghdr *msg)
{
	struct http_verdict *verdict;
	struct socket_state *state;
	struct http_conn *conn;
	struct tcp_sock *tcp;

	if (!sk || !msg)
		return 0;
	conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	if (conn) {
		struct http_direction *direction = &conn->directions[direction_of(conn->role, true) & 1];
		u32 position;

		tcp = sockio_tcp_sock(sk, FROM_SOCKET);
		if (!tcp || (conn->flags & (HTTP_TUNNEL | HTTP_FINISHED)))
			return 0;
		position = sockio_position(sk, tcp, true);
		if (conn->send.begin_ns && (!direction->sequenced || direction->sequence != position))
			return 0;
		conn->send.begin_ns = bpf_ktime_get_ns();
		conn->send.position = position;
		sockio_note_send(&conn->send, msg);
		return 0;
	}
	verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, 0);
	if (verdict && verdict->left_alone)
		return 0;
	state = socket_state_of(sk);
	if (state && !state->send_ns)
		state->send_ns = bpf_ktime_get_ns();
	return 0;
}

#define SOCKIO_BEGIN_PROGRAM(name)                                                                             \
	SEC("tp_btf/tcp_sendmsg_locked")                                                                       \
	int BPF_PROG(name, struct sock *sk, struct msghdr *msg)                                                \
	{                                                                                                      \
		return sockio_send_begins(sk, msg);                                                            \
	}

SOCKIO_BEGIN_PROGRAM(sockio_begins)
SOCKIO_BEGIN_PROGRAM(sockio_begins_nested)

/* The same by system calls. Most of them are none, and a thread that never used a network has no storage. */
SEC("tp_btf/sys_enter")
int BPF_PROG(sockio_sys_enter, struct pt_regs *regs, long number)
{
	u32 shape = sockio_shape(number);
	struct sockio_note *note;

	if (!(shape & SHAPE_SENDS))
		return 0;
	note = bpf_task_storage_get(&sockio_notes, bpf_get_current_task_btf(), 0,
				    shape & SHAPE_NETWORK ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (note)
		note->begin_ns = bpf_ktime_get_ns();
	return 0;
}

/*
 * What the kernel's functions are called with. `typed`: the verifier knows what the pointers point to.
 */

#define SOCKIO_GET(typed, pointer, field) ((typed) ? (pointer)->field : BPF_CORE_READ(pointer, field))

static __always_inline void sockio_note(struct sockio_note *note, struct sock *sk, struct msghdr *msg, bool typed)
{
	struct iov_iter *iter = &msg->msg_iter;
	u8 type = SOCKIO_GET(typed, iter, iter_type);

	note->sock = (u64)sk;
	note->begin_ns = bpf_ktime_get_ns();
	note->offset = SOCKIO_GET(typed, iter, iov_offset);
	note->shape = SHAPE_NONE; /* pages, registered buffers: no address of the process's */
	if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
	    type == bpf_core_enum_value(enum iter_type, ITER_UBUF)) {
		note->shape = SHAPE_BUFFER;
		note->buffer = (u64)SOCKIO_GET(typed, (struct iov_iter___ubuf *)iter, ubuf);
		note->length = SOCKIO_GET(typed, iter, count) + note->offset;
	} else if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC)) {
		note->shape = SHAPE_VECTOR;
		if (bpf_core_field_exists(((struct iov_iter___named *)iter)->__iov))
			note->buffer = (u64)SOCKIO_GET(typed, (struct iov_iter___named *)iter, __iov);
		else
			note->buffer = (u64)SOCKIO_GET(typed, (struct iov_iter___iov *)iter, iov);
		note->length = SOCKIO_GET(typed, iter, nr_segs);
	}
}

static __always_inline int sockio_note_entry(struct sock *sk, struct msghdr *msg, bool typed)
{
	struct sockio_note *note = bpf_task_storage_get(&sockio_notes, bpf_get_current_task_btf(), 0,
							BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (note)
		sockio_note(note, sk, msg, typed);
	else
		http_count(HTTP_LOST_STORAGE, 1);
	return 0;
}

/*
 * fentry.
 */

/* Does anybody care for this socket's bytes? */
static __always_inline bool sockio_wanted(struct sock *sk)
{
	struct http_conn *conn = bpf_sk_storage_get(&http_conns, sk, 0, 0);
	struct http_verdict *verdict;

	if (conn)
		return !(conn->flags & (HTTP_TUNNEL | HTTP_FINISHED));
	verdict = bpf_sk_storage_get(&http_verdicts, sk, 0, 0);
	return !verdict || !verdict->left_alone;
}

static __always_inline int sockio_enter(struct sock *sk, struct msghdr *msg)
{
	return sk && http_is_tcp(sk) && sockio_wanted(sk) ? sockio_note_entry(sk, msg, true) : 0;
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

SOCKIO_SENT_PROGRAM(sockio_sent_noted, FROM_NOTE, 0)
SOCKIO_SENT_PROGRAM(sockio_sent_noted_nested, FROM_NOTE, 1)
SOCKIO_RECEIVED_PROGRAM(sockio_received_noted, FROM_NOTE, 2)
SOCKIO_RECEIVED_PROGRAM(sockio_received_noted_nested, FROM_NOTE, 3)

SEC("fexit/tcp_sendmsg")
int BPF_PROG(sockio_send_exit, struct sock *sk, struct msghdr *msg, size_t size, int result)
{
	return sockio_deliver(sk, result, 0, true, FROM_NOTE, 0);
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(sockio_receive_exit, struct sock *sk, struct msghdr *msg, size_t size, int flags, int *address_length,
	     int result)
{
	return sockio_deliver(sk, result, flags, false, FROM_NOTE, 2);
}

/* Before 5.19, ec095263a965 ("net: remove noblock parameter from recvmsg() entities"). */
SEC("fexit/tcp_recvmsg")
int BPF_PROG(sockio_receive_exit_nonblock, struct sock *sk, struct msghdr *msg, size_t size, int nonblock, int flags,
	     int *address_length, int result)
{
	return sockio_deliver(sk, result, nonblock ? flags | MSG_DONTWAIT : flags, false, FROM_NOTE, 2);
}

/* sendfile and splice before 6.5, dc97391e6610 ("sock: Remove ->sendpage*() in favour of sendmsg(MSG_SPLICE_PAGES)"). */
SEC("fexit/tcp_sendpage")
int BPF_PROG(sockio_sendpage_exit, struct sock *sk, void *page, int offset, size_t size, int flags, int result)
{
	return sockio_deliver(sk, result, 0, true, FROM_NOWHERE, 1);
}
