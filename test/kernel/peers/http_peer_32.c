/*
 * An HTTP/1 client and server of 32 bits for the kernel tests: without any library, since hosts have none of 32 bits, so that
 * every way into the kernel is the one that it is told.
 *
 *   http_peer_32 serve PORT WAY          prints "ready", serves one connection after the other until it is killed
 *   http_peer_32 ask   PORT WAY COUNT    makes COUNT requests over one connection, closes it, prints "done"
 *
 * WAY: read (and write) readv recvfrom recvmsg recvmmsg; socketcall-recv socketcall-recvfrom socketcall-recvmsg
 * socketcall-recvmmsg. What takes several pieces gets them cut within the first line.
 */
typedef unsigned int u32;
typedef unsigned short u16;

enum {
	EXIT = 1, READ = 3, WRITE = 4, CLOSE = 6, SOCKETCALL = 102, READV = 145, WRITEV = 146, RECVMMSG = 337,
	SENDMMSG = 345, SENDTO = 369, SENDMSG = 370, RECVFROM = 371, RECVMSG = 372
};
enum {
	SOCKET = 1, BIND, CONNECT, LISTEN, ACCEPT, SEND = 9, RECV, CALL_SENDTO, CALL_RECVFROM, CALL_SENDMSG = 16,
	CALL_RECVMSG, CALL_RECVMMSG = 19, CALL_SENDMMSG
};

struct piece {
	void *base;
	u32 length;
};
struct message {
	void *name;
	u32 name_length;
	struct piece *pieces;
	u32 count;
	void *control;
	u32 control_length, flags, length; /* as in struct mmsghdr */
};

/* What would be a sixth argument is the length of an address that is not given. */
static int call(int number, u32 a, u32 b, u32 c, u32 d, u32 e)
{
	int result;

	asm volatile("int $0x80" : "=a"(result) : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
	return result;
}

static int socketcall(u32 which, u32 a, u32 b, u32 c, u32 d, u32 e)
{
	u32 arguments[6] = {a, b, c, d, e};

	return call(SOCKETCALL, which, (u32)arguments, 0, 0, 0);
}

static u32 length_of(const char *text)
{
	u32 length = 0;

	while (text[length])
		length++;
	return length;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static void leave(int code)
{
	call(EXIT, code, 0, 0, 0, 0);
	__builtin_unreachable();
}

static u32 number_of(const char *text)
{
	u32 number = 0;

	while (*text)
		number = number * 10 + *text++ - '0';
	return number;
}

static const char *way;
static int by_socketcall;
static struct piece pieces[3];
static struct message messages[3];

/* Cut within the first line: two pieces of one message, or a message for each. */
static void cut(char *buffer, u32 length, int each)
{
	pieces[0] = (struct piece){buffer, 3};
	pieces[1] = (struct piece){buffer + 3, 0};
	pieces[2] = (struct piece){buffer + 3, length - 3};
	for (int i = 0; i < 3; i++)
		messages[i] = (struct message){.pieces = pieces + i, .count = each ? 1 : 3};
	messages[1].pieces = pieces + 2; /* an empty message would say nothing */
}

static int transfer(int fd, char *buffer, u32 length, int sends)
{
	int s = by_socketcall, result = 0;
	u32 message = (u32)messages, vector = (u32)pieces;

	cut(buffer, length, same(way, "recvmmsg"));
	if (same(way, "read"))
		return call(sends ? WRITE : READ, fd, (u32)buffer, length, 0, 0);
	if (same(way, "readv"))
		return call(sends ? WRITEV : READV, fd, vector, 3, 0, 0);
	if (same(way, "recv"))
		return socketcall(sends ? SEND : RECV, fd, (u32)buffer, length, 0, 0);
	if (same(way, "recvfrom"))
		return s ? socketcall(sends ? CALL_SENDTO : CALL_RECVFROM, fd, (u32)buffer, length, 0, 0)
			 : call(sends ? SENDTO : RECVFROM, fd, (u32)buffer, length, 0, 0);
	if (same(way, "recvmsg"))
		return s ? socketcall(sends ? CALL_SENDMSG : CALL_RECVMSG, fd, message, 0, 0, 0)
			 : call(sends ? SENDMSG : RECVMSG, fd, message, 0, 0, 0);
	if (!same(way, "recvmmsg"))
		leave(3);
	result = s ? socketcall(sends ? CALL_SENDMMSG : CALL_RECVMMSG, fd, message, 2, 0, 0)
		   : call(sends ? SENDMMSG : RECVMMSG, fd, message, 2, 0, 0);
	if (result <= 0)
		return result;
	result = 0;
	for (int i = 0; i < 2; i++)
		result += messages[i].length;
	return result;
}

static void send_all(int fd, char *text)
{
	if (transfer(fd, text, length_of(text), 1) != (int)length_of(text))
		leave(4);
}

/* Up to an empty line; both messages have no body. recvmmsg waits for both of its messages. False: the connection's end. */
static int receive(int fd, u32 expected)
{
	static char in[4096];
	u32 got = 0;

	while (got < expected) {
		int more = transfer(fd, in, same(way, "recvmmsg") ? expected : sizeof(in), 0);

		if (more <= 0)
			return 0;
		got += more;
	}
	return 1;
}

static char answer[] = "HTTP/1.1 204 No Content\r\nServer: 32\r\n\r\n";
static char asked[64];

static void compose(void)
{
	const char *parts[] = {"GET /", way, by_socketcall ? "/socketcall" : "", " HTTP/1.1\r\nHost: a\r\n\r\n"};
	u32 at = 0;

	for (int i = 0; i < 4; i++)
		for (const char *c = parts[i]; *c; c++)
			asked[at++] = *c;
}

static void serve(int fd, void *address)
{
	if (socketcall(BIND, fd, (u32)address, 16, 0, 0) || socketcall(LISTEN, fd, 8, 0, 0, 0))
		leave(5);
	call(WRITE, 1, (u32) "ready\n", 6, 0, 0);
	for (;;) {
		int accepted = socketcall(ACCEPT, fd, 0, 0, 0, 0);

		while (receive(accepted, length_of(asked)))
			send_all(accepted, answer);
		call(CLOSE, accepted, 0, 0, 0, 0);
	}
}

static void ask(int fd, void *address, u32 count)
{
	if (socketcall(CONNECT, fd, (u32)address, 16, 0, 0))
		leave(6);
	while (count--) {
		send_all(fd, asked);
		if (!receive(fd, length_of(answer)))
			leave(7);
	}
	call(CLOSE, fd, 0, 0, 0, 0);
	call(WRITE, 1, (u32) "done\n", 5, 0, 0);
	leave(0);
}

__attribute__((used)) static void run(u32 *stack)
{
	char **argv = (char **)(stack + 1);
	u16 address[8] = {2 /* AF_INET */};
	u32 port;
	int fd = socketcall(SOCKET, 2, 1 /* SOCK_STREAM */, 0, 0, 0);

	if (*stack < 4)
		leave(2);
	port = number_of(argv[2]);
	address[1] = port >> 8 | port << 8;
	address[2] = 127;
	address[3] = 1 << 8;
	way = argv[3];
	for (const char *c = way; *c; c++)
		if (*c == '-') {
			by_socketcall = 1;
			way = c + 1;
		}
	compose();
	if (same(argv[1], "serve"))
		serve(fd, address);
	ask(fd, address, *stack > 4 ? number_of(argv[4]) : 1);
}

asm(".globl _start\n_start:\n\tmovl %esp, %eax\n\tandl $-16, %esp\n\tsubl $12, %esp\n\tpushl %eax\n\tcall run\n");
