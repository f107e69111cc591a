/* Who gets the signals of an open file: processes, threads and groups that own one. Its output depends on no timing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST 34
#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
static long result;
#define TRY(name, call) (errno = 0, result = (long)(call), SAY("%s %ld %s\n", name, result < 0 ? -1 : result, strerror(errno)))

static sigset_t all;
static int pair[2];
static pthread_barrier_t barrier;

/* Wait for a signal that was blocked: it is the same whoever comes first. */
static void hear(const char *who, int descriptor)
{
	siginfo_t info;
	int number = sigtimedwait(&all, &info, &(struct timespec){30, 0});
	if (number < 0)
		SAY("%s: %s\n", who, strerror(errno));
	else if (info.si_code == SI_KERNEL)
		SAY("%s: signal %d\n", who, number);
	else
		SAY("%s: signal %d code %d descriptor %d band %lx\n", who, number, info.si_code, info.si_fd == descriptor,
		    info.si_band & 0x41);
}

static void open_pair(void)
{
	char more;
	while (pair[0] && recv(pair[0], &more, 1, MSG_DONTWAIT) > 0)
		;
	close(pair[0]), close(pair[1]);
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
}

/* Let `owner` own the end that is read, and have something to read there. */
static void tell(int owner, int signo)
{
	fcntl(pair[0], F_SETOWN, owner);
	fcntl(pair[0], F_SETSIG, signo);
	fcntl(pair[0], F_SETFL, O_ASYNC);
	if (write(pair[1], "x", 1) != 1)
		abort();
}

static void numbers(void)
{
	struct f_owner_ex owner = {7, getpid()};
	int number = INT_MIN, on = 1, ends[2];
	TRY("least", fcntl(pair[0], F_SETOWN, INT_MIN));
	TRY("nobody's", fcntl(pair[0], F_SETOWN, 4000000));
	TRY("nobody's group", fcntl(pair[0], F_SETOWN, -4000000));
	TRY("kind", fcntl(pair[0], F_SETOWN_EX, &owner));
	owner = (struct f_owner_ex){F_OWNER_PID, -5};
	TRY("negative", fcntl(pair[0], F_SETOWN_EX, &owner));
	TRY("closed", fcntl(77, F_SETOWN, getpid()));
	TRY("none", fcntl(pair[0], F_GETOWN));
	TRY("of a socket", ioctl(pair[0], FIOSETOWN, &(int){getpid()}));
	TRY("asked", ioctl(pair[0], SIOCGPGRP, &number));
	SAY("me %d %d\n", number == getpid(), fcntl(pair[0], F_GETOWN) == getpid());
	fcntl(pair[0], F_SETOWN, -getpgrp());
	fcntl(pair[0], F_GETOWN_EX, &owner);
	SAY("group %d %d\n", owner.type == F_OWNER_PGRP, owner.pid == getpgrp());
	if (pipe(ends))
		abort();
	TRY("of a pipe", ioctl(ends[0], FIOSETOWN, &number));
	TRY("asked", ioctl(ends[0], FIOGETOWN, &number));
	TRY("closed", ioctl(77, FIOGETOWN, &number));
	TRY("on", ioctl(ends[0], FIOASYNC, &on));
	SAY("is on %d\n", !!(fcntl(ends[0], F_GETFL) & O_ASYNC));
	on = 0;
	TRY("off", ioctl(ends[0], FIOASYNC, &on));
	SAY("is on %d\n", !!(fcntl(ends[0], F_GETFL) & O_ASYNC));
	TRY("a file", ioctl(open("/dev/null", O_RDONLY), FIOASYNC, &(int){1}));
	TRY("nowhere", ioctl(ends[0], FIOASYNC, 8));
	TRY("signal", fcntl(ends[0], F_SETSIG, 65));
	close(ends[0]), close(ends[1]);
}

static void processes(void)
{
	static const int signals[] = {0, FIRST + 1, SIGUSR1, SIGCHLD};
	for (int turn = 0; turn < 4; turn++) {
		open_pair();
		int go[2];
		if (pipe(go))
			abort();
		pid_t child = fork();
		if (!child) {
			char byte;
			if (read(go[0], &byte, 1) != 1)
				abort();
			hear("child", pair[0]);
			_exit(0);
		}
		tell(child, signals[turn]);
		SAY("owner %d signal %d\n", fcntl(pair[0], F_GETOWN) == child, fcntl(pair[0], F_GETSIG) == signals[turn]);
		if (write(go[1], "g", 1) != 1)
			abort();
		waitpid(child, 0, 0);
		TRY("owner has gone", fcntl(pair[0], F_GETOWN));
		while (sigtimedwait(&all, 0, &(struct timespec){0}) == SIGCHLD)
			;
		/* Nobody gets this one. */
		if (write(pair[1], "x", 1) != 1)
			abort();
		close(go[0]), close(go[1]);
		TRY("nothing for others", sigtimedwait(&all, 0, &(struct timespec){0, 1000000}));
	}
}

/* A child that owns what its parent does not have: a default action ends the child and nobody else. */
static void death(void)
{
	int status;
	pid_t child = fork();
	if (!child) {
		sigprocmask(SIG_UNBLOCK, &all, 0);
		open_pair();
		tell(getpid(), 0);
		for (;;)
			pause();
	}
	waitpid(child, &status, 0);
	SAY("ended by %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : -1);
	sigtimedwait(&all, 0, &(struct timespec){0});
}

static void group(void)
{
	int ready[2], status[2], heard[2];
	open_pair();
	if (pipe(ready) || pipe(heard))
		abort();
	pid_t first = fork();
	if (!first) {
		setpgid(0, 0);
		pid_t second = fork();
		char byte;
		if (write(ready[1], "r", 1) != 1 || read(heard[0], &byte, 1) != 1)
			abort();
		sigset_t only;
		sigemptyset(&only), sigaddset(&only, SIGIO);
		int number = sigtimedwait(&only, 0, &(struct timespec){30, 0});
		if (!second)
			_exit(number);
		waitpid(second, &status[1], 0);
		SAY("both %d %d\n", number, WEXITSTATUS(status[1]));
		_exit(0);
	}
	char byte[2];
	for (int got = 0; got < 2; got++)
		if (read(ready[0], byte, 1) != 1)
			abort();
	tell(-first, 0);
	if (write(heard[1], "gg", 2) != 2)
		abort();
	waitpid(first, &status[0], 0);
	sigtimedwait(&all, 0, &(struct timespec){0});
}

static void *thread(void *unused)
{
	struct f_owner_ex owner = {F_OWNER_TID, gettid()}, is;
	fcntl(pair[0], F_SETOWN_EX, &owner);
	fcntl(pair[0], F_SETSIG, FIRST + 2);
	fcntl(pair[0], F_SETFL, O_ASYNC);
	fcntl(pair[0], F_GETOWN_EX, &is);
	SAY("thread %d %d\n", is.type, is.pid == owner.pid);
	pthread_barrier_wait(&barrier);
	hear("thread", pair[0]);
	return unused;
}

static void threads(void)
{
	pthread_t one;
	open_pair();
	pthread_barrier_init(&barrier, 0, 2);
	pthread_create(&one, 0, thread, 0);
	pthread_barrier_wait(&barrier);
	if (write(pair[1], "x", 1) != 1)
		abort();
	pthread_join(one, 0);
	TRY("nothing for others", sigtimedwait(&all, 0, &(struct timespec){0}));
}

/* What a child that owns something has open is closed when it ends. */
static void closes(void)
{
	int ends[2];
	char byte;
	if (pipe(ends))
		abort();
	pid_t child = fork();
	if (!child) {
		open_pair();
		fcntl(pair[0], F_SETOWN, getpid());
		_exit(0);
	}
	close(ends[1]);
	TRY("end of file", read(ends[0], &byte, 1));
	waitpid(child, 0, 0);
	close(ends[0]);
}

int main(void)
{
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, 0);
	open_pair();
	numbers();
	processes();
	death();
	group();
	threads();
	closes();
	return 0;
}
