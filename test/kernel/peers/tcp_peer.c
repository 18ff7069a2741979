/*
 * A TCP client and server for the kernel tests: it does exactly what it is told and prints, as one JSON
 * object, what it did by its own count. The tests hold our figures against these.
 *
 *   tcp_peer serve   NAME ADDRESS PORT THREADS     serves until its standard input ends, then prints
 *   tcp_peer connect NAME ADDRESS PORT CONNECTIONS UP DOWN CLOSE THREADS
 *   tcp_peer hold    NAME ADDRESS PORT CONNECTIONS UP DOWN     keeps the connections open; each line on its
 *                    standard input moves UP and DOWN bytes once more over each, its end closes them
 *   tcp_peer again   NAME ADDRESS PORT OTHER_PORT  connects to PORT, in vain, says so by "ready"; a line on its standard
 *                    input connects the same socket to OTHER_PORT
 *   tcp_peer listen  NAME ADDRESS PORT BACKLOG     listens and never accepts
 *   tcp_peer pass    NAME ADDRESS PORT SERVER_NAME listens, and leaves accepting to a child of another name
 *
 * With MPTCP in its environment its sockets are of MPTCP. NAME becomes the process's name. CLOSE is who ends a connection and how: client, server, reset (by the client).
 * A request is 17 bytes: UP, DOWN (64-bit, host order) and who closes; UP counts these 17 bytes too.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct request {
	uint64_t up, down;
	uint8_t close;
} __attribute__((packed));

static struct {
	uint64_t connections, sent, received, refused, timed_out, unreachable, reset, other, errors;
} done;
static struct sockaddr_storage address;
static socklen_t address_length;
static int family, protocol;

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define ADD(field, n) __atomic_fetch_add(&done.field, (n), __ATOMIC_RELAXED)

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void resolve(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
	if (getaddrinfo(host, port, &hints, &found))
		die("getaddrinfo");
	memcpy(&address, found->ai_addr, found->ai_addrlen);
	address_length = found->ai_addrlen;
	family = found->ai_family;
}

static void print(void)
{
	printf("{\"connections\":%lu,\"sent\":%lu,\"received\":%lu,\"refused\":%lu,\"timed_out\":%lu,"
	       "\"unreachable\":%lu,\"reset\":%lu,\"other\":%lu,\"errors\":%lu}\n",
	       done.connections, done.sent, done.received, done.refused, done.timed_out, done.unreachable,
	       done.reset, done.other, done.errors);
	fflush(stdout);
}

static __thread char buffer[1 << 17];

static int send_all(int fd, const void *data, uint64_t size)
{
	while (size) {
		const void *from = data ? data : buffer;
		ssize_t n = send(fd, from, size < sizeof(buffer) ? size : sizeof(buffer), MSG_NOSIGNAL);
		if (n <= 0)
			return -1;
		ADD(sent, n);
		size -= n;
		if (data)
			data += n;
	}
	return 0;
}

static int receive_all(int fd, void *data, uint64_t size)
{
	while (size) {
		ssize_t n = recv(fd, data ? data : buffer, size < sizeof(buffer) ? size : sizeof(buffer), 0);
		if (n <= 0)
			return -1;
		ADD(received, n);
		size -= n;
		if (data)
			data += n;
	}
	return 0;
}

static void serve_connection(int fd)
{
	struct request request;

	ADD(connections, 1);
	while (!receive_all(fd, &request, sizeof(request))) {
		if (receive_all(fd, NULL, request.up - sizeof(request)) || send_all(fd, NULL, request.down)) {
			ADD(errors, 1);
			break;
		}
		if (request.close == 's')
			break;
	}
	close(fd);
}

static void *serve_one(void *fd)
{
	serve_connection((int)(intptr_t)fd);
	return NULL;
}

static int listening;
static int thread_each;
static void *serve_loop(void *unused)
{
	for (;;) {
		int fd = accept(listening, NULL, NULL);
		if (fd < 0)
			continue;
		if (thread_each) {
			pthread_t t;
			pthread_create(&t, NULL, serve_one, (void *)(intptr_t)fd);
			pthread_detach(t);
		} else {
			serve_connection(fd);
		}
	}
	return unused;
}

static int listen_on(int backlog)
{
	int yes = 1, no = 0, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	if (bind(fd, (struct sockaddr *)&address, address_length) || listen(fd, backlog))
		die("listen");
	printf("ready\n");
	fflush(stdout);
	return fd;
}

static void wait_for_end_of_input(void)
{
	char c;
	while (read(0, &c, 1) > 0)
		;
}

static int connect_one(void)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	if (connect(fd, (struct sockaddr *)&address, address_length) == 0) {
		ADD(connections, 1);
		return fd;
	}
	switch (errno) {
	case ECONNREFUSED: ADD(refused, 1); break;
	case ETIMEDOUT: ADD(timed_out, 1); break;
	case EHOSTUNREACH:
	case ENETUNREACH: ADD(unreachable, 1); break;
	case ECONNRESET: ADD(reset, 1); break;
	default: ADD(other, 1);
	}
	close(fd);
	return -1;
}

static struct request request;
static long share;
static void *connect_loop(void *unused)
{
	for (long i = 0; i < share; i++) {
		char c;
		int fd = connect_one();
		if (fd < 0)
			continue;
		if (send_all(fd, &request, sizeof(request)) || send_all(fd, NULL, request.up - sizeof(request)) ||
		    receive_all(fd, NULL, request.down))
			ADD(errors, 1);
		if (request.close == 's')
			while (recv(fd, &c, 1, 0) > 0)
				;
		if (request.close == 'r') {
			struct linger hard = {.l_onoff = 1};
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		}
		close(fd);
	}
	return unused;
}

int main(int argc, char **argv)
{
	if (argc < 6)
		return fprintf(stderr, "see the head of tcp_peer.c\n"), 2;
	const char *mode = argv[1];
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, argv[2]);
	resolve(argv[3], argv[4]);
	protocol = getenv("MPTCP") ? IPPROTO_MPTCP : 0;
	long number = atol(argv[5]);

	if (!strcmp(mode, "serve")) {
		listening = listen_on(4096);
		thread_each = number == 0;
		for (long i = 0; i < (number ? number : 1); i++) {
			pthread_t t;
			pthread_create(&t, NULL, serve_loop, NULL);
		}
		wait_for_end_of_input();
	} else if (!strcmp(mode, "connect")) {
		request = (struct request){strtoull(argv[6], 0, 0), strtoull(argv[7], 0, 0), argv[8][0]};
		long threads = atol(argv[9]);
		pthread_t t[256];
		share = number / threads;
		for (long i = 0; i < threads; i++)
			pthread_create(&t[i], NULL, connect_loop, NULL);
		for (long i = 0; i < threads; i++)
			pthread_join(t[i], NULL);
	} else if (!strcmp(mode, "hold")) {
		request = (struct request){strtoull(argv[6], 0, 0), strtoull(argv[7], 0, 0), 'c'};
		int *fds = calloc(number, sizeof(int));
		for (long i = 0; i < number; i++)
			if ((fds[i] = connect_one()) < 0)
				die("connect");
		printf("ready\n");
		fflush(stdout);
		char c;
		while (read(0, &c, 1) > 0) {
			if (c != '\n')
				continue;
			for (long i = 0; i < number; i++)
				if (send_all(fds[i], &request, sizeof(request)) ||
				    send_all(fds[i], NULL, request.up - sizeof(request)) ||
				    receive_all(fds[i], NULL, request.down))
					ADD(errors, 1);
			print();
		}
	} else if (!strcmp(mode, "again")) {
		int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);
		if (!connect(fd, (void *)&address, address_length))
			die("connected");
		printf("ready\n");
		fflush(stdout);
		char c;
		while (read(0, &c, 1) > 0) {
			((struct sockaddr_in *)&address)->sin_port = htons(number); /* where IPv6 has it too */
			if (connect(fd, (void *)&address, address_length))
				die("connect");
			ADD(connections, 1);
			print();
		}
	} else if (!strcmp(mode, "listen")) {
		listening = listen_on(number);
		wait_for_end_of_input();
	} else if (!strcmp(mode, "pass")) {
		/* Like an init system: it listens, another process accepts and serves. */
		listening = listen_on(4096);
		pid_t child = fork();
		if (!child) {
			prctl(PR_SET_NAME, argv[5]);
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			thread_each = 1;
			serve_loop(NULL);
		}
		wait_for_end_of_input();
		kill(child, SIGTERM);
		waitpid(child, NULL, 0);
		return 0;
	} else {
		return fprintf(stderr, "unknown mode %s\n", mode), 2;
	}
	print();
	return 0;
}
