/*
 * The floor under every guard that is asked about opens: how much one open of a file
 * costs, natively and when a supervisor that does nothing else answers CONTINUE.
 *
 *   notify_loop opens  FILE COUNT    opens FILE COUNT times
 *   notify_loop notify FILE COUNT    the same in a child, every read-only open notified
 *
 * Prints the median cost of one open and close in nanoseconds, over nine chunks.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "chunks.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

static const char *file;

static double opens(long times)
{
	double start = now();

	for (long n = 0; n < times; n++) {
		int fd = open(file, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			die(file);
		close(fd);
	}
	return now() - start;
}

/* Notifies openat with the access mode O_RDONLY; returns the listener. */
static int install(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, O_ACCMODE),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, O_RDONLY, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog program = { sizeof code / sizeof code[0], code };
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
	int fd;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("no_new_privs");
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		     flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
	if (fd < 0 && errno == EINVAL)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	if (fd < 0)
		die("seccomp");
	return fd;
}

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static void send_fd(int channel, int fd)
{
	union control control = { 0 };
	struct iovec byte = { "x", 1 };
	struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1,
				  .msg_control = &control, .msg_controllen = sizeof control };

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	if (sendmsg(channel, &message, 0) != 1)
		die("sendmsg");
}

static int receive_fd(int channel)
{
	union control control = { 0 };
	char byte;
	struct iovec buffer = { &byte, 1 };
	struct msghdr message = { .msg_iov = &buffer, .msg_iovlen = 1,
				  .msg_control = &control, .msg_controllen = sizeof control };
	int fd;

	if (recvmsg(channel, &message, 0) != 1 || control.header.cmsg_type != SCM_RIGHTS)
		die("recvmsg");
	memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
	return fd;
}

static void notify(long count)
{
	int channel[2], listener, status;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel))
		die("socketpair");
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		listener = install();
		send_fd(channel[1], listener);
		close(listener);
		print_median(opens, count);
		exit(0);
	}
	close(channel[1]);
	listener = receive_fd(channel[0]);
	for (;;) {
		struct seccomp_notif request;
		struct seccomp_notif_resp answer;

		memset(&request, 0, sizeof request);
		/* ENOENT when the filter's last process is gone, or this one was killed. */
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request)) {
			if (errno == EINTR)
				continue;
			break;
		}
		memset(&answer, 0, sizeof answer);
		answer.id = request.id;
		answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	if (waitpid(child, &status, 0) < 0 || status != 0)
		die("the child failed");
}

int main(int argc, char **argv)
{
	file = argc == 4 ? argv[2] : "";
	if (argc == 4 && !strcmp(argv[1], "opens"))
		print_median(opens, atol(argv[3]));
	else if (argc == 4 && !strcmp(argv[1], "notify"))
		notify(atol(argv[3]));
	else
		return fputs("usage: notify_loop opens|notify FILE COUNT\n", stderr), 2;
	return 0;
}
