/*
 * Both ends of HTTP/1 connections that follow a script to the byte. It knows nothing of HTTP: differential_traffic.ts
 * has made what is sent, how it is cut into calls, and what comes of it.
 *
 *   differential_peer DIRECTORY PORT
 *
 * DIRECTORY holds what clients send (`requests`) and servers send (`answers`) over all connections, one behind the other,
 * and a script for each (`client`, `server`), one step a line:
 *
 *   open              connect, accept
 *   send HOW SIZE...  the next bytes of one's own, in one call with pieces of these sizes: write writev send sendmsg sendmmsg
 *                     sendfile splice; more: send with MSG_MORE
 *   receive HOW UNTIL SIZE...  until UNTIL bytes of the other's have come since the first connection, by calls with room
 *                     of these sizes: read readv recv recvmsg recvmmsg; waitall: MSG_WAITALL, and no more room than up to
 *                     UNTIL; peek: MSG_PEEK in front of each
 *   tell, await       a sign to the other by a pipe: what was told after a step is later than it
 *   end               the other has closed
 *   broken            the other has reset
 *   shut              SHUT_WR
 *   close, reset
 *
 * What is received has to be what the other has. Exit code 0: both scripts went through to their last line.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECES 16
#define ROOM (1 << 17) /* of one piece */

struct bytes {
	char *at;
	size_t length;
	int fd;
};

static struct sockaddr_in address = {.sin_family = AF_INET};
static struct bytes own, others;
static size_t sent, received; /* of them */
static int listener = -1, connection = -1, signs;
static const char *role;
static unsigned long line_number;
static char rooms[PIECES][ROOM];

static void fail(const char *what)
{
	fprintf(stderr, "%s, line %lu: %s: %s; %zu sent, %zu received\n", role, line_number, what, strerror(errno), sent,
		received);
	exit(1);
}

static int is(const char *name, const char *what)
{
	return !strcmp(name, what);
}

static struct bytes read_file(const char *name)
{
	struct bytes bytes = {.fd = open(name, O_RDONLY)};
	struct stat status;

	if (bytes.fd < 0 || fstat(bytes.fd, &status))
		fail(name);
	bytes.length = status.st_size;
	if (!bytes.length)
		return bytes;
	bytes.at = malloc(bytes.length);
	if (!bytes.at || read(bytes.fd, bytes.at, bytes.length) != (ssize_t)bytes.length)
		fail(name);
	return bytes;
}

/* One message for each piece. */
static void messages_of(struct mmsghdr *messages, struct iovec *pieces, int count)
{
	memset(messages, 0, count * sizeof(*messages));
	for (int i = 0; i < count; i++) {
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
}

static ssize_t sum(const struct mmsghdr *messages, int count)
{
	ssize_t bytes = 0;

	for (int i = 0; i < count; i++)
		bytes += messages[i].msg_len;
	return count < 0 ? count : bytes;
}

static ssize_t send_spliced(size_t length)
{
	loff_t at = sent;
	int pipes[2];
	ssize_t moved;

	if (pipe(pipes))
		return -1;
	moved = splice(own.fd, &at, pipes[1], NULL, length, 0);
	if (moved > 0)
		moved = splice(pipes[0], NULL, connection, NULL, moved, 0);
	close(pipes[0]);
	close(pipes[1]);
	return moved;
}

static ssize_t send_pieces(const char *how, struct iovec *pieces, int count, size_t length)
{
	struct mmsghdr messages[PIECES];
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
	off_t at = sent;

	if (is(how, "write"))
		return write(connection, pieces[0].iov_base, length);
	if (is(how, "send"))
		return send(connection, pieces[0].iov_base, length, MSG_NOSIGNAL);
	if (is(how, "more"))
		return send(connection, pieces[0].iov_base, length, MSG_NOSIGNAL | MSG_MORE);
	if (is(how, "writev"))
		return writev(connection, pieces, count);
	if (is(how, "sendmsg"))
		return sendmsg(connection, &message, MSG_NOSIGNAL);
	if (is(how, "sendfile"))
		return sendfile(connection, own.fd, &at, length);
	if (is(how, "splice"))
		return send_spliced(length);
	if (is(how, "sendmmsg")) {
		messages_of(messages, pieces, count);
		return sum(messages, sendmmsg(connection, messages, count, MSG_NOSIGNAL));
	}
	errno = EPROTO;
	return -1;
}

/* The sizes of a line, at most PIECES. */
static int read_sizes(size_t *sizes)
{
	int count = 0;

	for (char *word; count < PIECES && (word = strtok(NULL, " \n"));)
		sizes[count++] = strtoul(word, NULL, 10);
	return count;
}

static void send_step(void)
{
	const char *how = strtok(NULL, " \n");
	struct iovec pieces[PIECES];
	size_t sizes[PIECES], length = 0;
	int count = read_sizes(sizes);
	ssize_t done;

	for (int i = 0; i < count; i++) {
		pieces[i] = (struct iovec){sizes[i] ? own.at + sent + length : NULL, sizes[i]};
		length += sizes[i];
	}
	if (sent + length > own.length)
		fail("script");
	done = send_pieces(how, pieces, count, length);
	if (done != (ssize_t)length)
		fail(how);
	sent += length;
}

/* Compares what is in the pieces with what the other has. */
static void check(struct iovec *pieces, size_t length)
{
	for (; length; pieces++) {
		size_t part = pieces->iov_len < length ? pieces->iov_len : length;

		if (received + part > others.length || memcmp(pieces->iov_base, others.at + received, part))
			fail("other bytes were sent");
		received += part;
		length -= part;
	}
}

static ssize_t receive_pieces(const char *how, struct iovec *pieces, int count)
{
	struct mmsghdr messages[PIECES];
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
	ssize_t got;
	int i;

	if (is(how, "read"))
		return read(connection, pieces[0].iov_base, pieces[0].iov_len);
	if (is(how, "readv"))
		return readv(connection, pieces, count);
	if (is(how, "recv"))
		return recv(connection, pieces[0].iov_base, pieces[0].iov_len, 0);
	if (is(how, "waitall"))
		return recv(connection, pieces[0].iov_base, pieces[0].iov_len, MSG_WAITALL);
	if (is(how, "recvmsg"))
		return recvmsg(connection, &message, 0);
	if (is(how, "peek")) {
		got = recvmsg(connection, &message, MSG_PEEK);
		return got < 0 ? got : recvmsg(connection, &message, 0);
	}
	if (is(how, "recvmmsg")) {
		messages_of(messages, pieces, count);
		got = recvmmsg(connection, messages, count, MSG_WAITFORONE, NULL);
		for (i = 0; i < got; i++)
			pieces[i].iov_len = messages[i].msg_len;
		return sum(messages, got);
	}
	errno = EPROTO;
	return -1;
}

static void receive_step(void)
{
	const char *how = strtok(NULL, " \n");
	size_t until = strtoul(strtok(NULL, " \n"), NULL, 10), sizes[PIECES];
	int count = read_sizes(sizes);
	struct iovec pieces[PIECES];
	ssize_t got;

	while (received < until) {
		for (int i = 0; i < count; i++)
			pieces[i] = (struct iovec){rooms[i], sizes[i] < ROOM ? sizes[i] : ROOM};
		if (is(how, "waitall") && pieces[0].iov_len > until - received)
			pieces[0].iov_len = until - received;
		got = receive_pieces(how, pieces, count);
		if (!got)
			errno = 0;
		if (got <= 0)
			fail(how);
		check(pieces, got);
	}
}

static void open_step(void)
{
	int one = 1;

	if (listener >= 0) {
		connection = accept(listener, NULL, NULL);
	} else {
		connection = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(connection, (void *)&address, sizeof(address)))
			fail("connect");
	}
	if (connection < 0)
		fail("open");
	setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void close_step(int reset)
{
	struct linger hard = {.l_onoff = 1};

	if (reset)
		setsockopt(connection, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	if (close(connection))
		fail("close");
}

static void step(char *line)
{
	const char *what = strtok(line, " \n");
	char byte = 0;

	if (is(what, "open"))
		open_step();
	else if (is(what, "send"))
		send_step();
	else if (is(what, "receive"))
		receive_step();
	else if (is(what, "tell") ? write(signs, &byte, 1) == 1 : is(what, "await") && read(signs, &byte, 1) == 1)
		return;
	else if (is(what, "end") && !read(connection, &byte, 1))
		return;
	else if (is(what, "broken") && read(connection, &byte, 1) < 0 && errno == ECONNRESET)
		return;
	else if (is(what, "shut"))
		shutdown(connection, SHUT_WR);
	else if (is(what, "close") || is(what, "reset"))
		close_step(is(what, "reset"));
	else
		fail(what);
}

static void follow(void)
{
	size_t room = 0;
	char *line = NULL;
	FILE *script = fopen(role, "r");

	if (!script)
		fail("script");
	alarm(120); /* never hangs */
	memset(rooms, 1, sizeof(rooms));
	if (mlockall(MCL_CURRENT | MCL_FUTURE)) /* a page that is not there cannot be read: that is a loss, and another test */
		fail("mlockall");
	own = read_file(listener >= 0 ? "answers" : "requests");
	others = read_file(listener >= 0 ? "requests" : "answers");
	while (getline(&line, &room, script) > 0) {
		line_number++;
		step(line);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	int pair[2], one = 1, status, failed = 0;
	pid_t server;

	role = "main";
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (argc < 3 || chdir(argv[1]) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		fail("see the head of differential_peer.c");
	address.sin_port = htons(atoi(argv[2]));
	listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (void *)&address, sizeof(address)) || listen(listener, 16))
		fail("listen");
	signal(SIGPIPE, SIG_IGN);
	server = fork();
	if (!server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		role = "server";
		signs = pair[0];
		close(pair[1]);
		follow();
	}
	close(listener);
	listener = -1;
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		role = "client";
		signs = pair[1];
		close(pair[0]);
		follow();
	}
	for (int i = 0; i < 2 && !failed; i++)
		failed = wait(&status) < 0 || status;
	return failed; /* which ends the other */
}
