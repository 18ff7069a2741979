/*
 * An HTTP/1 client and server for the kernel tests, which send and receive by any call that there is. What it receives
 * has to be what the other sent, or it ends with an error.
 *
 *   http_peer serve PORT SEND RECEIVE          prints "ready", serves one connection after the other until it is killed
 *   http_peer ask   PORT SEND RECEIVE COUNT    makes COUNT requests over one connection; each line on its standard
 *                   input makes COUNT more over the same, "done" is printed behind each; its end closes it
 *
 * SEND: write writev sendto sendmsg sendmmsg; sendfile splice (the body only), and by io_uring: uring-send uring-sendmsg
 * uring-write uring-writev uring-send-worker (IOSQE_ASYNC) uring-send-zerocopy (Linux 6.0) uring-write-fixed.
 * RECEIVE: read readv recvfrom recvmsg recvmmsg recvmmsg-timeout peek, and by io_uring: uring-recv uring-recvmsg uring-read uring-readv
 * uring-recv-worker uring-recv-multishot (Linux 6.0) uring-read-fixed uring-recv-exit (on the way out of others).
 * A SEND that ends in "+poller" leaves io_uring to the kernel's own thread (IORING_SETUP_SQPOLL).
 * With MPTCP in its environment its sockets are of MPTCP.
 * What takes several pieces gets them cut within the first line. Exit code 77: this kernel has no such operation.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "http_peer_uring.h"

#define SIZE (1 << 16)
#define TRAPS 400
static const char trap[] = "GET /trap HTTP/1.1\r\n\r\n"; /* what bodies are made of */
#define BODY (TRAPS * (sizeof(trap) - 1))

static const char *send_name, *receive_name;
static char out[SIZE], in[SIZE], text[SIZE + 1];
static size_t text_length; /* of `text`: received, and not yet used */

static int is(const char *name, const char *what)
{
	return !strcmp(name, what);
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

/* One message for each piece that is not empty. */
static int cut_messages(struct mmsghdr *messages, struct iovec *pieces, char *buffer, size_t length)
{
	int cuts = cut(pieces, buffer, length), count = 0;

	memset(messages, 0, 5 * sizeof(*messages));
	for (int i = 0; i < cuts; i++)
		if (pieces[i].iov_len) {
			messages[count].msg_hdr.msg_iov = &pieces[i];
			messages[count++].msg_hdr.msg_iovlen = 1;
		}
	return count;
}

static ssize_t sum(const struct mmsghdr *messages, int count)
{
	ssize_t bytes = 0;

	for (int i = 0; i < count; i++)
		bytes += messages[i].msg_len;
	return count < 0 ? count : bytes;
}

/* Puts what was received together: a message that came in pieces leaves room behind it. */
static ssize_t gather(const struct mmsghdr *messages, int count, char *buffer)
{
	ssize_t bytes = 0;

	for (int i = 0; i < count; i++) {
		memmove(buffer + bytes, messages[i].msg_hdr.msg_iov->iov_base, messages[i].msg_len);
		bytes += messages[i].msg_len;
	}
	return count < 0 ? count : bytes;
}

static ssize_t send_some(int fd, char *buffer, size_t length)
{
	struct iovec pieces[5];
	struct mmsghdr messages[5];
	int cuts = cut(pieces, buffer, length);
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = cuts};

	if (is(send_name, "write") || is(send_name, "sendfile") || is(send_name, "splice"))
		return write(fd, buffer, length);
	if (is(send_name, "writev"))
		return writev(fd, pieces, cuts);
	if (is(send_name, "sendto"))
		return send(fd, buffer, length, 0);
	if (is(send_name, "sendmsg"))
		return sendmsg(fd, &message, 0);
	if (is(send_name, "sendmmsg"))
		return sum(messages, sendmmsg(fd, messages, cut_messages(messages, pieces, buffer, length), 0));
	if (is(send_name, "uring-send"))
		return ring_do(IORING_OP_SEND, fd, buffer, length, 0);
	if (is(send_name, "uring-send-worker"))
		return ring_do(IORING_OP_SEND, fd, buffer, length, IOSQE_ASYNC);
	if (is(send_name, "uring-sendmsg"))
		return ring_do(IORING_OP_SENDMSG, fd, &message, 1, 0);
	if (is(send_name, "uring-write"))
		return ring_do(IORING_OP_WRITE, fd, buffer, length, 0);
	if (is(send_name, "uring-writev"))
		return ring_do(IORING_OP_WRITEV, fd, pieces, cuts, 0);
	if (is(send_name, "uring-send-zerocopy"))
		return ring_send_zerocopy(fd, buffer, length);
	if (is(send_name, "uring-write-fixed"))
		return ring_fixed(IORING_OP_WRITE_FIXED, fd, buffer, length, 0);
	errno = EPROTO;
	return -1;
}

/* A body out of a file, by pages that this process does not touch. */
static void send_file(int fd, const char *body, size_t length)
{
	FILE *file = tmpfile();
	int pipes[2];
	loff_t at = 0;

	if (!file || fwrite(body, 1, length, file) != length || fflush(file) || pipe(pipes))
		fail("file");
	while ((size_t)at < length) {
		if (is(send_name, "sendfile")) {
			if (sendfile(fd, fileno(file), &at, length - at) <= 0)
				fail("sendfile");
			continue;
		}
		for (ssize_t left = splice(fileno(file), &at, pipes[1], NULL, length - at, 0), moved; left; left -= moved) {
			moved = left < 0 ? left : splice(pipes[0], NULL, fd, NULL, left, 0);
			if (moved <= 0)
				fail("splice");
		}
	}
	fclose(file);
	close(pipes[0]);
	close(pipes[1]);
}

static void send_all(int fd, size_t length)
{
	size_t body = is(send_name, "sendfile") || is(send_name, "splice") ? BODY : 0;

	for (size_t at = 0; at < length - body;) {
		ssize_t sent = send_some(fd, out + at, length - body - at);

		if (sent <= 0)
			fail(send_name);
		at += sent;
	}
	if (body)
		send_file(fd, out + length - body, body);
}

static ssize_t receive_some(int fd, char *buffer, size_t room)
{
	struct iovec pieces[5];
	struct mmsghdr messages[5];
	int cuts = cut(pieces, buffer, room);
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = cuts};
	struct timespec minute = {.tv_sec = 60};

	if (is(receive_name, "read"))
		return read(fd, buffer, room);
	if (is(receive_name, "readv"))
		return readv(fd, pieces, cuts);
	if (is(receive_name, "recvfrom"))
		return recv(fd, buffer, room, 0);
	if (is(receive_name, "peek"))
		return recv(fd, buffer, room, MSG_PEEK) < 0 ? -1 : recv(fd, buffer, room, 0);
	if (is(receive_name, "recvmsg"))
		return recvmsg(fd, &message, 0);
	if (is(receive_name, "recvmmsg"))
		return gather(messages, recvmmsg(fd, messages, cut_messages(messages, pieces, buffer, room), MSG_WAITFORONE, NULL),
			      buffer);
	if (is(receive_name, "recvmmsg-timeout"))
		return gather(messages,
			      recvmmsg(fd, messages, cut_messages(messages, pieces, buffer, room), MSG_WAITFORONE, &minute),
			      buffer);
	if (is(receive_name, "uring-recv"))
		return ring_do(IORING_OP_RECV, fd, buffer, room, 0);
	if (is(receive_name, "uring-recv-worker"))
		return ring_do(IORING_OP_RECV, fd, buffer, room, IOSQE_ASYNC);
	if (is(receive_name, "uring-recvmsg"))
		return ring_do(IORING_OP_RECVMSG, fd, &message, 1, 0);
	if (is(receive_name, "uring-read"))
		return ring_do(IORING_OP_READ, fd, buffer, room, 0);
	if (is(receive_name, "uring-readv"))
		return ring_do(IORING_OP_READV, fd, pieces, cuts, 0);
	if (is(receive_name, "uring-recv-multishot"))
		return ring_receive_multishot(fd, buffer);
	if (is(receive_name, "uring-read-fixed"))
		return ring_fixed(IORING_OP_READ_FIXED, fd, buffer, room, 1);
	if (is(receive_name, "uring-recv-exit"))
		return ring_receive_at_exit(fd, buffer, room);
	errno = EPROTO;
	return -1;
}

/* Receives one message that has to start like this. 0: the end of the connection. */
static int receive_message(int fd, const char *start)
{
	size_t head, length;
	ssize_t got;
	char *end;

	for (;;) {
		text[text_length] = '\0';
		end = strstr(text, "\r\n\r\n");
		if (end) {
			head = end + 4 - text;
			length = head + BODY;
			if (text_length >= length)
				break;
		}
		got = receive_some(fd, in, 4096);
		if (got < 0)
			fail(receive_name);
		if (!got)
			return 0;
		memcpy(text + text_length, in, got);
		text_length += got;
	}
	if (strncmp(text, start, strlen(start))) {
		fprintf(stderr, "received: %.40s\n", text);
		exit(1);
	}
	for (size_t at = head; at < length; at += sizeof(trap) - 1)
		if (memcmp(text + at, trap, sizeof(trap) - 1))
			exit(1);
	memmove(text, text + length, text_length - length);
	text_length -= length;
	return 1;
}

/* A message with a body that looks like many others. */
static size_t compose(const char *start)
{
	size_t length = sprintf(out, "%s\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", start, BODY);

	for (int i = 0; i < TRAPS; i++, length += sizeof(trap) - 1)
		memcpy(out + length, trap, sizeof(trap) - 1);
	return length;
}

static int tcp_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, getenv("MPTCP") ? 262 /* IPPROTO_MPTCP */ : 0), one = 1;

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
		while (receive_message(fd, "POST "))
			send_all(fd, compose("HTTP/1.1 200 OK"));
		close(fd);
	}
}

static void ask(struct sockaddr_in *address, int count)
{
	int fd = tcp_socket();
	char line[256];

	if (connect(fd, (void *)address, sizeof(*address)))
		fail("connect");
	snprintf(line, sizeof(line), "POST /%s/%s HTTP/1.1", send_name, receive_name);
	do {
		for (int i = 0; i < count; i++) {
			send_all(fd, compose(line));
			if (!receive_message(fd, "HTTP/1.1 200 "))
				exit(1);
		}
		puts("done");
		fflush(stdout);
	} while (fgets(in, SIZE, stdin));
	close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct iovec fixed[2] = {{out, SIZE}, {in, SIZE}};
	char *poller;

	if (argc < 5)
		return fprintf(stderr, "see the head of http_peer.c\n"), 2;
	poller = strstr(argv[3], "+poller");
	if (poller)
		*poller = '\0';
	send_name = argv[3];
	receive_name = argv[4];
	address.sin_port = htons(atoi(argv[2]));
	if (strstr(send_name, "uring") || strstr(receive_name, "uring"))
		set_up_ring(poller ? IORING_SETUP_SQPOLL : 0, fixed, 2);
	if (is(argv[1], "serve"))
		serve(&address);
	ask(&address, argc > 5 ? atoi(argv[5]) : 1);
	return 0;
}
