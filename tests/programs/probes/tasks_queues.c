/* POSIX message queues among processes. Its output depends on no timing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
static long result;
#define TRY(name, call) \
	(errno = 0, result = (long)(call), SAY("%s %ld %s\n", name, result < 0 ? -1 : result, strerror(errno)))

static char name[32];

static int polled(int fd, int events)
{
	struct pollfd one = {fd, events, 0};
	poll(&one, 1, 0);
	return one.revents;
}

static void receive(mqd_t queue, int size)
{
	char text[64] = {0};
	unsigned priority = 77;
	errno = 0;
	int got = mq_receive(queue, text, size, &priority);
	SAY("got %d at %u: %s (%s)\n", got, priority, text, strerror(errno));
}

static void orders(void)
{
	struct mq_attr wanted = {0, 3, 16}, found;
	mqd_t queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0640, &wanted);
	mq_getattr(queue, &found);
	SAY("made %d: %ld %ld %ld %ld\n", queue >= 0, found.mq_flags, found.mq_maxmsg, found.mq_msgsize, found.mq_curmsgs);
	SAY("events %d\n", polled(queue, POLLIN | POLLOUT));
	receive(queue, 16);
	mq_send(queue, "low", 4, 1);
	SAY("events %d\n", polled(queue, POLLIN | POLLOUT));
	mq_send(queue, "high", 5, 9);
	mq_send(queue, "low too", 8, 1);
	SAY("events %d\n", polled(queue, POLLIN | POLLOUT));
	TRY("full", mq_send(queue, "more", 5, 0));
	TRY("long", mq_send(queue, "12345678901234567", 17, 0));
	TRY("priority", mq_send(queue, "x", 1, 32768));
	receive(queue, 15);
	receive(queue, 16);
	SAY("events %d\n", polled(queue, POLLIN | POLLOUT));
	receive(queue, 16);
	receive(queue, 64);
	SAY("events %d\n", polled(queue, POLLIN | POLLOUT));
	struct mq_attr none = {0};
	TRY("set", mq_setattr(queue, &none, &found));
	SAY("before %ld\n", found.mq_flags);
	TRY("flags", fcntl(queue, F_GETFL) & O_NONBLOCK);
	none.mq_flags = 1;
	TRY("set", mq_setattr(queue, &none, 0));
	struct timespec soon, wrong = {0, -1};
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec = (soon.tv_nsec + 5000000) % 1000000000;
	soon.tv_sec += soon.tv_nsec < 5000000;
	char text[16];
	TRY("time", mq_timedreceive(queue, text, 16, 0, &soon));
	TRY("wrong time", mq_timedreceive(queue, text, 16, 0, &wrong));
	for (int i = 0; i < 3; i++)
		mq_send(queue, "fill", 5, 0);
	TRY("time", mq_timedsend(queue, "fill", 5, 0, &soon));
	mqd_t reader = mq_open(name, O_RDONLY), writer = mq_open(name, O_WRONLY);
	TRY("reader sends", mq_send(reader, "x", 1, 0));
	TRY("writer receives", mq_receive(writer, text, 16, 0));
	TRY("exclusive", mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, 0));
	TRY("none", mq_open("/no-such-queue", O_RDWR));
	TRY("slashes", mq_open("/a/b", O_CREAT | O_RDWR, 0600, 0));
	TRY("no name", mq_open("/", O_CREAT | O_RDWR, 0600, 0));
	TRY("closed", mq_close(reader));
	TRY("closed", mq_getattr(reader, &found));
	TRY("no queue", mq_getattr(0, &found));
	wanted.mq_maxmsg = 0;
	TRY("sizes", mq_open("/wrong-sizes", O_CREAT | O_RDWR, 0600, &wanted));
	wanted.mq_maxmsg = 1L << 40;
	TRY("sizes", mq_open("/wrong-sizes", O_CREAT | O_RDWR, 0600, &wanted));
	if (!fork()) {
		if (setuid(65534))
			_exit(1);
		TRY("another", mq_open(name, O_RDONLY));
		TRY("another", mq_unlink(name));
		_exit(0);
	}
	wait(0);
	TRY("unlink", mq_unlink(name));
	TRY("unlink", mq_unlink(name));
	receive(writer, 16);
	receive(queue, 16);
	mq_close(queue), mq_close(writer);
	for (int i = 0; i < 200; i++) { /* what is closed and has no name takes nothing */
		queue = mq_open(name, O_CREAT | O_RDWR, 0600, 0);
		if (queue < 0)
			SAY("made %d: %d\n", i, errno);
		mq_send(queue, "x", 1, 0);
		mq_unlink(name);
		mq_close(queue);
	}
}

static void others(void)
{
	struct mq_attr one = {0, 1, 16};
	mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, &one);
	int status, set = epoll_create1(0);
	struct epoll_event event = {EPOLLIN, {.u32 = 5}};
	epoll_ctl(set, EPOLL_CTL_ADD, queue, &event);
	mq_unlink(name);
	if (!fork()) {
		for (int i = 0; i < 6; i++)
			mq_send(queue, &"abcdef"[i], 1, i);
		_exit(3);
	}
	for (int i = 0; i < 6; i++) {
		if (i % 2)
			SAY("set %d ", epoll_wait(set, &event, 1, -1));
		receive(queue, 16);
	}
	wait(&status);
	SAY("ended %d\n", WEXITSTATUS(status));
	if (!fork()) {
		char text[16];
		int got = mq_receive(queue, text, 16, 0);
		_exit(got == 4 ? 4 : 5);
	}
	usleep(3000);
	mq_send(queue, "what", 4, 0);
	wait(&status);
	SAY("ended %d\n", WEXITSTATUS(status));
	close(set);
	mq_close(queue);
}

static void notice(int number, siginfo_t *info, void *context)
{
	(void)context;
	SAY("signal %d code %d value %d mine %d\n", number, info->si_code, info->si_value.sival_int,
	    info->si_pid == getpid() && info->si_uid == getuid());
}

static void notifications(void)
{
	mqd_t queue = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, 0);
	struct sigaction action = {.sa_sigaction = notice, .sa_flags = SA_SIGINFO};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
	char text[8192];
	sigaction(SIGUSR1, &action, 0);
	mq_unlink(name);
	TRY("notify", mq_notify(queue, &event));
	TRY("busy", mq_notify(queue, &event));
	mq_send(queue, "first", 6, 0);
	mq_send(queue, "second", 7, 0);
	TRY("notify", mq_notify(queue, &event));
	mq_send(queue, "not empty", 10, 0);
	while (mq_receive(queue, text, 8192, 0) > 0)
		;
	mq_send(queue, "again", 6, 0);
	TRY("none", mq_notify(queue, 0));
	event.sigev_notify = SIGEV_NONE;
	TRY("nothing", mq_notify(queue, &event));
	if (!fork()) {
		TRY("busy", mq_notify(queue, &event));
		TRY("not its own", mq_notify(queue, 0));
		_exit(0);
	}
	wait(0);
	TRY("busy", mq_notify(queue, &event));
	TRY("none", mq_notify(queue, 0));
	event.sigev_notify = SIGEV_SIGNAL, event.sigev_signo = 65;
	TRY("signal", mq_notify(queue, &event));
	event.sigev_notify = 77;
	TRY("how", mq_notify(queue, &event));
	event.sigev_notify = SIGEV_NONE;
	if (!fork()) { /* who ends wants to know no longer */
		TRY("notify", mq_notify(queue, &event));
		_exit(0);
	}
	wait(0);
	TRY("notify", mq_notify(queue, &event));
	int copy = dup(queue);
	close(copy); /* nor who closes a descriptor */
	TRY("notify", mq_notify(queue, &event));
	mq_close(queue);
}

int main(void)
{
	snprintf(name, sizeof name, "/quire-%d", getpid());
	orders();
	others();
	notifications();
	return 0;
}
