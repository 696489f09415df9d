/*
 * A client that does one thing on the network COUNT times and prints what one time cost,
 * in nanoseconds: the median over nine chunks.
 *
 *   net_client connect  ADDRESS PORT COUNT    socket and connect
 *   net_client poll     ADDRESS PORT COUNT    the same without blocking, and the wait for it
 *   net_client name     NAME    PORT COUNT    getaddrinfo, socket and connect
 *   net_client get      ADDRESS PORT COUNT    a whole HTTP request to the host "localhost"
 *   net_client lookup   NAME    PORT COUNT    getaddrinfo
 *
 * The server closes first and this waits for that outside of what is timed (but for
 * `get`): connections must not pile up in its queue, where a full one costs a second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "chunks.h"

static const char *host, *port;
static struct sockaddr_in address;

static void drain_and_close(int fd)
{
	/* A reset leaves nothing in TIME_WAIT: rounds must not eat up the ports. */
	struct linger reset = { 1, 0 };
	char bytes[4096];

	while (read(fd, bytes, sizeof bytes) > 0)
		;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	close(fd);
}

static int open_connection(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (connect(fd, (const struct sockaddr *)to, sizeof *to))
		die("connect");
	return fd;
}

static double once_connect(void)
{
	double start = now(), took;
	int fd = open_connection(&address);

	took = now() - start;
	drain_and_close(fd);
	return took;
}

static double once_poll(void)
{
	double start = now(), took;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd ready = { fd, POLLOUT, 0 };
	socklen_t length = sizeof errno;

	if (fd < 0)
		die("socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
		die("connect");
	if (poll(&ready, 1, -1) != 1)
		die("poll");
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &errno, &length) || errno)
		die("connect");
	took = now() - start;
	fcntl(fd, F_SETFL, 0);
	drain_and_close(fd);
	return took;
}

static struct addrinfo *look_up(int family)
{
	struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM }, *found;
	int error = getaddrinfo(host, port, &hints, &found);

	if (error) {
		fprintf(stderr, "getaddrinfo: %s\n", gai_strerror(error));
		exit(1);
	}
	return found;
}

static double once_name(void)
{
	double start = now(), took;
	struct addrinfo *found = look_up(AF_INET);
	int fd = open_connection((struct sockaddr_in *)found->ai_addr);

	took = now() - start;
	freeaddrinfo(found);
	drain_and_close(fd);
	return took;
}

static double once_get(void)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
	double start = now();
	int fd = open_connection(&address);
	char answer[64];

	if (write(fd, request, sizeof request - 1) != sizeof request - 1)
		die("write");
	if (read(fd, answer, sizeof answer) < 12 || memcmp(answer, "HTTP/1.1 200", 12))
		die("no answer");
	drain_and_close(fd);
	return now() - start;
}

static double once_lookup(void)
{
	double start = now();

	freeaddrinfo(look_up(AF_UNSPEC));
	return now() - start;
}

static double (*once)(void);

static double several(long times)
{
	double took = 0;

	for (long n = 0; n < times; n++)
		took += once();
	return took;
}

int main(int argc, char **argv)
{
	static const struct { const char *name; double (*once)(void); } modes[] = {
		{ "connect", once_connect }, { "poll", once_poll }, { "name", once_name },
		{ "get", once_get }, { "lookup", once_lookup },
	};

	if (argc == 5) {
		host = argv[2];
		port = argv[3];
		address.sin_family = AF_INET;
		address.sin_port = htons(atoi(port));
		inet_pton(AF_INET, host, &address.sin_addr);
		for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
			if (!strcmp(argv[1], modes[i].name))
				once = modes[i].once;
	}
	if (once) {
		print_median(several, atol(argv[4]));
		return 0;
	}
	return fputs("usage: net_client connect|poll|name|get|lookup HOST PORT COUNT\n", stderr), 2;
}
