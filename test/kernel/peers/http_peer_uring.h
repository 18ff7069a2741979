/*
 * io_uring for http_peer.c: one operation at a time, by system calls only. Exit code 77 where the kernel has no such
 * operation.
 */
#pragma once

#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
#define PIECE 512 /* of the buffers that the ring picks */
#define PIECES 32
#define GROUP 7
#define UNSUPPORTED 77

#define WAITING 64 /* completions */

enum tag { OTHER, MULTISHOT }; /* user_data of an entry and of its completions */

struct completion {
	int res;
	uint32_t flags;
	uint64_t tag;
};

static int ring;
static _Atomic uint32_t *sq_tail, *cq_head, *cq_tail, *sq_flags;
static uint32_t *sq_array, sq_mask, cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static char picked[PIECES][PIECE];

static void fail(const char *what)
{
	int error = errno;

	perror(what);
	exit(error == EINVAL || error == ENOSYS || error == EOPNOTSUPP ? UNSUPPORTED : 1);
}

/* A result of the ring's, or -errno. */
static ssize_t checked(ssize_t result, const char *what)
{
	if (result >= 0)
		return result;
	errno = -result;
	fail(what);
	return 0;
}

static void set_up_ring(unsigned int flags, const struct iovec *fixed, unsigned int count)
{
	struct io_uring_params params = {.flags = flags, .sq_thread_idle = 2000};
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
	if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, fixed, count) < 0)
		fail("IORING_REGISTER_BUFFERS");
}

static struct io_uring_sqe *next_sqe(int opcode, int fd, void *address, size_t length)
{
	struct io_uring_sqe *sqe = &sqes[*sq_tail & sq_mask];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = opcode;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)address;
	sqe->len = length;
	return sqe;
}

/* Hands over the entry that next_sqe() gave; waits for `wait` completions. */
static void submit(unsigned int wait)
{
	uint32_t tail = *sq_tail;
	unsigned int flags = wait ? IORING_ENTER_GETEVENTS : 0;

	sq_array[tail & sq_mask] = tail & sq_mask;
	*sq_tail = tail + 1;
	if (*sq_flags & IORING_SQ_NEED_WAKEUP)
		flags |= IORING_ENTER_SQ_WAKEUP;
	if (syscall(__NR_io_uring_enter, ring, 1, wait, flags, NULL, 0) < 0 && errno != EINTR)
		fail("io_uring_enter");
}

/* The next completion of the queue. */
static struct completion take_any(void)
{
	struct io_uring_cqe *cqe;
	struct completion done;

	while (*cq_head == *cq_tail)
		if (syscall(__NR_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 && errno != EINTR)
			fail("io_uring_enter");
	cqe = &cqes[*cq_head & cq_mask];
	done = (struct completion){cqe->res, cqe->flags, cqe->user_data};
	*cq_head = *cq_head + 1;
	return done;
}

/* The next completion of the multishot receive, or of anything else; what comes meanwhile of the other waits. */
static struct completion take(enum tag tag)
{
	static struct completion waiting[2][WAITING];
	static unsigned int first[2], last[2];
	struct completion done;

	if (first[tag] != last[tag])
		return waiting[tag][first[tag]++ % WAITING];
	for (;;) {
		done = take_any();
		if (done.tag == tag)
			return done;
		if (last[done.tag] - first[done.tag] == WAITING)
			exit(1);
		waiting[done.tag][last[done.tag]++ % WAITING] = done;
	}
}

static ssize_t ring_do(int opcode, int fd, void *address, size_t length, unsigned int flags)
{
	next_sqe(opcode, fd, address, length)->flags = flags;
	submit(1);
	return checked(take(OTHER).res, "io_uring operation");
}

/* The buffer may be used again only when a second completion says so. */
static ssize_t ring_send_zerocopy(int fd, void *address, size_t length)
{
	struct completion done;

	next_sqe(OP_SEND_ZC, fd, address, length);
	submit(1);
	done = take(OTHER);
	checked(done.res, "SEND_ZC");
	if ((done.flags & CQE_MORE) && !(take(OTHER).flags & CQE_NOTIFICATION))
		exit(1);
	return done.res;
}

static ssize_t ring_fixed(int opcode, int fd, void *address, size_t length, int index)
{
	next_sqe(opcode, fd, address, length)->buf_index = index;
	submit(1);
	return checked(take(OTHER).res, "operation on a fixed buffer");
}

/* Gives the ring buffers to pick from. A completion would stand between those of the receive. */
static void provide(unsigned int first, unsigned int count)
{
	struct io_uring_sqe *sqe = next_sqe(IORING_OP_PROVIDE_BUFFERS, count, picked[first], PIECE);

	sqe->off = first;
	sqe->buf_group = GROUP;
	sqe->flags = SKIP_SUCCESS;
	submit(0);
}

static ssize_t ring_receive_multishot(int fd, char *buffer)
{
	static int armed_for = -1, provided;
	struct completion done;
	unsigned int id;

	if (!provided++)
		provide(0, PIECES);
	do {
		if (armed_for != fd) {
			struct io_uring_sqe *sqe = next_sqe(IORING_OP_RECV, fd, NULL, 0);

			sqe->user_data = MULTISHOT;
			sqe->ioprio = RECV_MULTISHOT;
			sqe->buf_group = GROUP;
			sqe->flags = IOSQE_BUFFER_SELECT;
			submit(0);
			armed_for = fd;
		}
		done = take(MULTISHOT);
		if (!(done.flags & CQE_MORE))
			armed_for = -1;
	} while (done.res == -ENOBUFS);
	checked(done.res, "multishot receive");
	if (!(done.flags & IORING_CQE_F_BUFFER))
		return done.res;
	id = done.flags >> IORING_CQE_BUFFER_SHIFT;
	memcpy(buffer, picked[id], done.res);
	provide(id, 1);
	return done.res;
}

/* Something else to read, which looks like what this end would receive. */
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

/* The receive completes on the way out of other system calls; none of them waits for it. */
static ssize_t ring_receive_at_exit(int fd, char *buffer, size_t room)
{
	static int file = -1;
	static char other[1 << 14];
	uint32_t before = *cq_tail;

	if (file < 0)
		file = decoy();
	next_sqe(IORING_OP_RECV, fd, buffer, room);
	submit(0);
	while (*cq_tail == before) {
		lseek(file, 0, SEEK_SET);
		if (read(file, other, sizeof(other)) <= 0)
			fail("read");
	}
	return checked(take(OTHER).res, "receive");
}
