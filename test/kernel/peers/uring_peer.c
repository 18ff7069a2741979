/*
 * An HTTP/1 client and server that send and receive by io_uring, for the kernel tests. System calls only, no library.
 *
 *   uring_peer serve PORT HOW          prints "ready", serves one connection after the other until it is killed
 *   uring_peer ask   PORT HOW COUNT    makes COUNT requests over one connection; exit code 0: all were answered
 *
 * HOW, for both directions:
 *   send       SEND, RECV
 *   message    SENDMSG, RECVMSG, over several pieces
 *   write      WRITE, READ
 *   vector     WRITEV, READV, over several pieces
 *   worker     SEND, RECV by worker threads (IOSQE_ASYNC)
 *   poller     SEND, RECV by the thread that polls the ring (IORING_SETUP_SQPOLL)
 *   multishot  RECV once for many pieces, into buffers that the ring picks (Linux 6.0)
 *   zerocopy   SEND_ZC (Linux 6.0), RECV
 *   fixed      WRITE_FIXED, READ_FIXED: buffers that the kernel knows by number
 *   exit       RECV completes on the way out of other system calls, which read something else that looks like HTTP;
 *              plain send()
 *
 * Exit code 77: this kernel has no such operation.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* newer than the headers of some distributions */
#define OP_SEND_ZC 47
#define RECV_MULTISHOT (1U << 1) /* in ioprio */
#define SKIP_SUCCESS (1U << 6) /* of an entry: no completion, unless it fails */
#define CQE_MORE (1U << 1)
#define CQE_NOTIFICATION (1U << 3)

#define ENTRIES 8
#define SIZE (1 << 16)
#define PIECE 512 /* of the buffers that the ring picks */
#define PIECES 32
#define GROUP 7
#define UNSUPPORTED 77

enum how { SEND, MESSAGE, WRITE, VECTOR, WORKER, POLLER, MULTISHOT, ZEROCOPY, FIXED, EXIT, HOWS };
static const char *const names[HOWS] = {"send",	  "message",  "write", "vector", "worker",
					"poller", "multishot", "zerocopy", "fixed", "exit"};

struct completion {
	int res;
	uint32_t flags;
};

static enum how how;
static int ring;
static _Atomic uint32_t *sq_tail, *cq_head, *cq_tail, *sq_flags;
static uint32_t *sq_array, sq_mask, cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static char out[SIZE], in[SIZE], picked[PIECES][PIECE], text[SIZE + 1];
static size_t text_length; /* of `text`: received, and not yet used */

static void fail(const char *what)
{
	int error = errno;

	perror(what);
	exit(error == EINVAL || error == ENOSYS || error == EOPNOTSUPP ? UNSUPPORTED : 1);
}

static void check(int result, const char *what)
{
	if (result >= 0)
		return;
	errno = -result;
	fail(what);
}

static void set_up(void)
{
	struct io_uring_params params = {.flags = how == POLLER ? IORING_SETUP_SQPOLL : 0, .sq_thread_idle = 2000};
	struct iovec fixed[2] = {{out, SIZE}, {in, SIZE}};
	char *rings;

	ring = syscall(__NR_io_uring_setup, ENTRIES, &params);
	if (ring < 0)
		fail("io_uring_setup");
	/* one mapping for both queues (IORING_FEAT_SINGLE_MMAP, Linux 5.4) */
	rings = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
	if (rings == MAP_FAILED || sqes == MAP_FAILED)
		fail("mmap");
	sq_tail = (void *)(rings + params.sq_off.tail);
	sq_flags = (void *)(rings + params.sq_off.flags);
	sq_mask = *(uint32_t *)(rings + params.sq_off.ring_mask);
	sq_array = (void *)(rings + params.sq_off.array);
	cq_head = (void *)(rings + params.cq_off.head);
	cq_tail = (void *)(rings + params.cq_off.tail);
	cq_mask = *(uint32_t *)(rings + params.cq_off.ring_mask);
	cqes = (void *)(rings + params.cq_off.cqes);
	if (how == FIXED && syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, fixed, 2) < 0)
		fail("IORING_REGISTER_BUFFERS");
}

static struct io_uring_sqe *next_sqe(void)
{
	struct io_uring_sqe *sqe = &sqes[*sq_tail & sq_mask];

	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

/* Hands over the entry that next_sqe() gave; waits for `wait` completions. */
static void submit(unsigned int wait)
{
	uint32_t tail = *sq_tail;
	unsigned int flags = wait ? IORING_ENTER_GETEVENTS : 0;

	sq_array[tail & sq_mask] = tail & sq_mask;
	*sq_tail = tail + 1;
	if (how == POLLER && (*sq_flags & IORING_SQ_NEED_WAKEUP))
		flags |= IORING_ENTER_SQ_WAKEUP;
	if (syscall(__NR_io_uring_enter, ring, 1, wait, flags, NULL, 0) < 0 && errno != EINTR)
		fail("io_uring_enter");
}

static struct completion take(void)
{
	struct io_uring_cqe *cqe;
	struct completion done;

	while (*cq_head == *cq_tail)
		if (syscall(__NR_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 && errno != EINTR)
			fail("io_uring_enter");
	cqe = &cqes[*cq_head & cq_mask];
	done = (struct completion){cqe->res, cqe->flags};
	*cq_head = *cq_head + 1;
	return done;
}

/* Cuts a buffer into pieces, the first line within. */
static int cut(struct iovec *pieces, char *buffer, size_t length)
{
	static const size_t sizes[] = {2, 3, 0, 6};
	int count = 0;

	for (int i = 0; i < 4 && length > sizes[i]; i++) {
		pieces[count++] = (struct iovec){buffer, sizes[i]};
		buffer += sizes[i];
		length -= sizes[i];
	}
	pieces[count++] = (struct iovec){buffer, length};
	return count;
}

static ssize_t send_some(int fd, char *buffer, size_t length)
{
	struct iovec pieces[5];
	struct msghdr message = {.msg_iov = pieces};
	struct io_uring_sqe *sqe;
	struct completion cqe;

	if (how == EXIT)
		return send(fd, buffer, length, 0);
	sqe = next_sqe();
	sqe->fd = fd;
	sqe->addr = (uintptr_t)buffer;
	sqe->len = length;
	switch (how) {
	case MESSAGE:
		message.msg_iovlen = cut(pieces, buffer, length);
		sqe->opcode = IORING_OP_SENDMSG;
		sqe->addr = (uintptr_t)&message;
		sqe->len = 1;
		break;
	case VECTOR:
		sqe->opcode = IORING_OP_WRITEV;
		sqe->addr = (uintptr_t)pieces;
		sqe->len = cut(pieces, buffer, length);
		break;
	case WRITE:
		sqe->opcode = IORING_OP_WRITE;
		break;
	case FIXED:
		sqe->opcode = IORING_OP_WRITE_FIXED;
		break;
	case ZEROCOPY:
		sqe->opcode = OP_SEND_ZC;
		break;
	default:
		sqe->opcode = IORING_OP_SEND;
		sqe->flags = how == WORKER ? IOSQE_ASYNC : 0;
	}
	submit(1);
	cqe = take();
	check(cqe.res, "send");
	if (how == ZEROCOPY && (cqe.flags & CQE_MORE) && !(take().flags & CQE_NOTIFICATION))
		exit(1); /* now the buffer may be used again */
	return cqe.res;
}

static void send_all(int fd, size_t length)
{
	for (size_t at = 0; at < length;)
		at += send_some(fd, out + at, length - at);
}

/* Gives the ring a buffer, to be picked for what arrives. */
static void provide(unsigned int first, unsigned int count)
{
	struct io_uring_sqe *sqe = next_sqe();

	sqe->opcode = IORING_OP_PROVIDE_BUFFERS;
	sqe->fd = count;
	sqe->addr = (uintptr_t)picked[first];
	sqe->len = PIECE;
	sqe->off = first;
	sqe->buf_group = GROUP;
	sqe->flags = SKIP_SUCCESS; /* completions of the receive may be in front */
	submit(0);
}

static ssize_t receive_multishot(int fd, char *buffer)
{
	static int armed_for = -1;
	struct completion cqe;
	unsigned int id;

	for (;;) {
		if (armed_for != fd) {
			struct io_uring_sqe *sqe = next_sqe();

			sqe->opcode = IORING_OP_RECV;
			sqe->fd = fd;
			sqe->ioprio = RECV_MULTISHOT;
			sqe->buf_group = GROUP;
			sqe->flags = IOSQE_BUFFER_SELECT;
			submit(0);
			armed_for = fd;
		}
		cqe = take();
		if (!(cqe.flags & CQE_MORE))
			armed_for = -1;
		if (cqe.res != -ENOBUFS)
			break;
	}
	check(cqe.res, "recv");
	if (!(cqe.flags & IORING_CQE_F_BUFFER))
		return cqe.res;
	id = cqe.flags >> IORING_CQE_BUFFER_SHIFT;
	memcpy(buffer, picked[id], cqe.res);
	provide(id, 1);
	return cqe.res;
}

/* Something else to read, with what this end would receive in it, but for another path and status. */
static int decoy(void)
{
	static const char both[] = "GET /decoy HTTP/1.1\r\nHost: a\r\n\r\nHTTP/1.1 500 Decoy\r\nContent-Length: 0\r\n\r\n";
	FILE *file = tmpfile();

	if (!file)
		fail("tmpfile");
	for (int i = 0; i < 400; i++)
		fputs(both, file);
	fflush(file);
	return fileno(file);
}

/* The receive completes while other system calls are made; none of them waits for it. */
static ssize_t receive_at_exit(int fd, char *buffer, size_t room)
{
	static int file = -1;
	static char other[SIZE];
	struct io_uring_sqe *sqe = next_sqe();
	uint32_t before = *cq_tail;

	if (file < 0)
		file = decoy();
	sqe->opcode = IORING_OP_RECV;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)buffer;
	sqe->len = room;
	submit(0);
	while (*cq_tail == before) {
		lseek(file, 0, SEEK_SET);
		if (read(file, other, room) <= 0)
			fail("read");
	}
	return take().res;
}

static ssize_t receive_some(int fd, char *buffer, size_t room)
{
	struct iovec pieces[5];
	struct msghdr message = {.msg_iov = pieces};
	struct io_uring_sqe *sqe;
	struct completion cqe;

	if (how == MULTISHOT)
		return receive_multishot(fd, buffer);
	if (how == EXIT)
		return receive_at_exit(fd, buffer, room);
	sqe = next_sqe();
	sqe->fd = fd;
	sqe->addr = (uintptr_t)buffer;
	sqe->len = room;
	switch (how) {
	case MESSAGE:
		message.msg_iovlen = cut(pieces, buffer, room);
		sqe->opcode = IORING_OP_RECVMSG;
		sqe->addr = (uintptr_t)&message;
		sqe->len = 1;
		break;
	case VECTOR:
		sqe->opcode = IORING_OP_READV;
		sqe->addr = (uintptr_t)pieces;
		sqe->len = cut(pieces, buffer, room);
		break;
	case WRITE:
		sqe->opcode = IORING_OP_READ;
		break;
	case FIXED:
		sqe->opcode = IORING_OP_READ_FIXED;
		sqe->buf_index = 1;
		break;
	default:
		sqe->opcode = IORING_OP_RECV;
		sqe->flags = how == WORKER ? IOSQE_ASYNC : 0;
	}
	submit(1);
	cqe = take();
	check(cqe.res, "receive");
	return cqe.res;
}

/* Receives one message into `text` and steps over it; its head stays readable there until the next call. 0: the end. */
static int message(int fd)
{
	static size_t used;
	size_t length;
	ssize_t got;
	char *end;

	memmove(text, text + used, text_length - used);
	text_length -= used;
	used = 0;
	for (;;) {
		text[text_length] = '\0';
		end = strstr(text, "\r\n\r\n");
		if (end) {
			length = end + 4 - text + strtoul(strstr(text, "Content-Length: ") + 16, NULL, 10);
			if (text_length >= length)
				break;
		}
		got = receive_some(fd, in, 4096);
		check(got, "receive");
		if (!got)
			return 0;
		memcpy(text + text_length, in, got);
		text_length += got;
	}
	used = length;
	return 1;
}

/* A message with a body that looks like many others. */
static size_t compose(const char *start)
{
	static const char trap[] = "GET /trap HTTP/1.1\r\n\r\n";
	size_t body = 400 * (sizeof(trap) - 1), length;

	length = sprintf(out, "%s\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", start, body);
	for (int i = 0; i < 400; i++) {
		memcpy(out + length, trap, sizeof(trap) - 1);
		length += sizeof(trap) - 1;
	}
	return length;
}

static int tcp_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void serve(struct sockaddr_in *address)
{
	int listener = tcp_socket();

	if (bind(listener, (void *)address, sizeof(*address)) || listen(listener, 16))
		fail("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			fail("accept");
		text_length = 0;
		while (message(fd))
			send_all(fd, compose("HTTP/1.1 200 OK"));
		close(fd);
	}
}

static int ask(struct sockaddr_in *address, int count)
{
	int fd = tcp_socket();
	char line[64];

	if (connect(fd, (void *)address, sizeof(*address)))
		fail("connect");
	sprintf(line, "POST /%s HTTP/1.1", names[how]);
	for (int i = 0; i < count; i++) {
		send_all(fd, compose(line));
		if (!message(fd) || strncmp(text, "HTTP/1.1 200 ", 13))
			return 1;
	}
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	if (argc < 4)
		return fprintf(stderr, "see the head of uring_peer.c\n"), 2;
	while (how < HOWS && strcmp(argv[3], names[how]))
		how++;
	if (how == HOWS)
		return fprintf(stderr, "no such way: %s\n", argv[3]), 2;
	address.sin_port = htons(atoi(argv[2]));
	set_up();
	if (how == MULTISHOT)
		provide(0, PIECES);
	if (!strcmp(argv[1], "serve"))
		serve(&address);
	return ask(&address, argc > 4 ? atoi(argv[4]) : 1);
}
