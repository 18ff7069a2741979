/*
 * The benches' load generator, on loopback only.
 *   load accept SECONDS PAIRS [RATE]     connects, one byte each way, closes, RATE times a second or as fast as it goes;
 *                                        prints {"connections":N,"seconds":S,"cpu":C}, C of processor time, both ends
 *   load hold PORTS CONNECTIONS MILLIS   holds CONNECTIONS to each of PORTS ports, 100 bytes both ways on each of them
 *                                        per interval; prints "ready", ends by a signal
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* A listening socket on 127.0.0.`host`, any port; its address is left in `address`. */
static int listen_on(int host, struct sockaddr_in *address)
{
	socklen_t size = sizeof(*address);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	*address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000u + host) };
	if (bind(fd, (struct sockaddr *)address, size) || listen(fd, 4096))
		die("listen");
	getsockname(fd, (struct sockaddr *)address, &size);
	return fd;
}

static int connect_to(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		die("connect");
	return fd;
}

/* ---- accept ---- */

struct pair {
	struct sockaddr_in address;
	double interval; /* seconds between two connections; 0: none */
	int listener;
	unsigned long connections;
};
static atomic_bool stop;

static void *serve(void *argument)
{
	struct pair *pair = argument;
	char byte;

	for (;;) {
		int fd = accept4(pair->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			return NULL; /* shut down */
		if (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) != 1)
			die("write");
		close(fd);
	}
}

static void *ask(void *argument)
{
	struct pair *pair = argument;
	double start = now();
	char byte = 'x';

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		double early = pair->interval ? start + pair->connections * pair->interval - now() : 0;

		if (early > 0) {
			usleep(early * 1e6 + 500); /* then a few at once: sleeping is dear, too */
			continue;
		}
		int fd = connect_to(&pair->address);

		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			die("exchange");
		/* The server closes first: it keeps the time-wait socket, so that our ports do not run out. */
		if (read(fd, &byte, 1))
			die("end");
		pair->connections++;
		close(fd);
	}
	return NULL;
}

static double cpu_seconds(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static int accept_loop(double seconds, int count, double rate)
{
	struct pair *pairs = calloc(count, sizeof(*pairs));
	pthread_t servers[count], clients[count];
	unsigned long total = 0;
	double start = now();

	for (int i = 0; i < count; i++) {
		pairs[i].listener = listen_on(1 + i, &pairs[i].address);
		pairs[i].interval = rate > 0 ? count / rate : 0;
		pthread_create(&servers[i], NULL, serve, &pairs[i]);
		pthread_create(&clients[i], NULL, ask, &pairs[i]);
	}
	usleep(seconds * 1e6);
	atomic_store(&stop, 1);
	for (int i = 0; i < count; i++) {
		pthread_join(clients[i], NULL);
		shutdown(pairs[i].listener, SHUT_RDWR);
		pthread_join(servers[i], NULL);
		total += pairs[i].connections;
	}
	printf("{\"connections\":%lu,\"seconds\":%.6f,\"cpu\":%.6f}\n", total, now() - start, cpu_seconds());
	return 0;
}

/* ---- hold ---- */

static void exchange(int from, int to)
{
	char bytes[100] = { 0 };

	if (write(from, bytes, sizeof(bytes)) != sizeof(bytes))
		die("write");
	if (recv(to, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes))
		die("read");
}

static _Noreturn void hold(int ports, int per_port, int millis)
{
	struct rlimit limit = { 2 * ports * per_port + ports + 64, 2 * ports * per_port + ports + 64 };
	int total = ports * per_port;
	int *clients = calloc(total, sizeof(int)), *servers = calloc(total, sizeof(int));

	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
	for (int port = 0, i = 0; port < ports; port++) {
		struct sockaddr_in address;
		int listener = listen_on(1, &address);

		for (int k = 0; k < per_port; k++, i++) {
			clients[i] = connect_to(&address);
			servers[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			if (servers[i] < 0)
				die("accept");
		}
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		double start = now();

		for (int i = 0; i < total; i++) {
			exchange(clients[i], servers[i]);
			exchange(servers[i], clients[i]);
		}
		double rest = millis / 1e3 - (now() - start);

		if (rest > 0)
			usleep(rest * 1e6);
	}
}

int main(int argc, char **argv)
{
	if ((argc == 4 || argc == 5) && !strcmp(argv[1], "accept"))
		return accept_loop(atof(argv[2]), atoi(argv[3]), argc == 5 ? atof(argv[4]) : 0);
	if (argc == 5 && !strcmp(argv[1], "hold"))
		hold(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	fprintf(stderr, "usage: load accept SECONDS PAIRS [RATE] | load hold PORTS CONNECTIONS MILLIS\n");
	return 2;
}
