/* Timers and signals by descriptors: read, polled, shared by fork, passed and closed. Its output depends on no timing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
#define MS 1000000L

static void start(int timer, long first, long interval)
{
	struct itimerspec spec = {{0, interval}, {0, first}};
	if (timerfd_settime(timer, 0, &spec, 0))
		SAY("settime: %s\n", strerror(errno));
}

static long count(int timer)
{
	uint64_t found = 0;
	long got = read(timer, &found, 8);
	return got == 8 ? (long)found : -errno;
}

static int polled(int fd, int wait)
{
	struct pollfd one = {fd, POLLIN, 0};
	int found = poll(&one, 1, wait);
	return found * 100 + one.revents;
}

static void *starter(void *timer)
{
	start(*(int *)timer, 5 * MS, 0);
	return 0;
}

static void timers(void)
{
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), again = dup(timer);
	struct itimerspec left;
	struct timespec before, after;
	SAY("unarmed %d\n", polled(timer, 0));
	clock_gettime(CLOCK_MONOTONIC, &before);
	start(timer, 30 * MS, 0);
	timerfd_gettime(timer, &left);
	SAY("runs %d %ld\n", left.it_value.tv_nsec > 0, left.it_interval.tv_nsec);
	SAY("read %ld\n", count(again));
	clock_gettime(CLOCK_MONOTONIC, &after);
	long passed = (after.tv_sec - before.tv_sec) * 1000 * MS + after.tv_nsec - before.tv_nsec;
	SAY("passed %d, then %d\n", passed >= 30 * MS, polled(timer, 0));
	timerfd_gettime(timer, &left);
	SAY("left %ld %ld\n", left.it_value.tv_sec, left.it_value.tv_nsec);
	struct itimerspec past = {{0, 0}, {1, 0}};
	SAY("past %d", timerfd_settime(timer, TFD_TIMER_ABSTIME, &past, 0));
	SAY(" %d", polled(timer, -1));
	SAY(" %ld\n", count(timer));
	struct itimerspec date = {{0, 0}, {0, 0}}, old;
	int dated = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	clock_gettime(CLOCK_REALTIME, &date.it_value);
	date.it_value.tv_sec += 1000;
	SAY("date %d", timerfd_settime(dated, TFD_TIMER_ABSTIME, &date, 0));
	SAY(" %ld", count(dated));
	SAY(" %d", timerfd_settime(dated, 0, &(struct itimerspec){0}, &old));
	SAY(" %d\n", old.it_value.tv_sec > 900);
	start(timer, 2 * MS, 2 * MS);
	usleep(50000);
	SAY("several %d\n", count(again) >= 24);
	start(timer, 0, 0);
	SAY("stopped %d\n", polled(timer, 10));
	pthread_t thread;
	pthread_create(&thread, 0, starter, &timer);
	SAY("by a thread %ld\n", count(timer));
	pthread_join(thread, 0);
	fd_set set;
	FD_ZERO(&set);
	FD_SET(timer, &set);
	start(timer, 5 * MS, 0);
	int selected = select(timer + 1, &set, 0, 0, 0);
	SAY("select %d %d", selected, FD_ISSET(timer, &set));
	SAY(" %ld\n", count(timer));
	char short_one[4];
	SAY("short %d", read(timer, short_one, 4));
	SAY(" %d", errno);
	SAY(" write %d", write(timer, "12345678", 8));
	SAY(" %d", errno);
	SAY(" pread %d", pread(timer, short_one, 4, 0));
	SAY(" %d\n", errno);
	SAY("bad %d", timerfd_create(99, 0));
	SAY(" %d %d\n", timerfd_create(1, 1), errno == EINVAL);
	SAY("bad %d %d\n", timerfd_settime(0, 0, &past, 0), timerfd_settime(timer, 16, &past, 0));
	past.it_value.tv_nsec = 1000000000;
	SAY("bad %d", timerfd_settime(timer, 0, &past, 0));
	SAY(" %d\n", errno);
	close(timer);
	SAY("closed %d", timerfd_gettime(timer, &left));
	SAY(" %d\n", errno);
	start(again, 3 * MS, 0);
	SAY("its copy %ld\n", count(again));
	close(again);
}

static void sets(void)
{
	int one = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), two = timerfd_create(CLOCK_BOOTTIME, 0);
	int set = epoll_create1(0), far[2];
	struct epoll_event event = {EPOLLIN | EPOLLET, {.u32 = 1}}, found[4];
	epoll_ctl(set, EPOLL_CTL_ADD, one, &event);
	start(one, 3 * MS, 3 * MS);
	SAY("edge %d", epoll_wait(set, found, 4, -1));
	SAY(" %d", epoll_wait(set, found, 4, 20)); /* nobody read it: it tells no more */
	SAY(" %d", count(one) >= 4);
	SAY(" %d\n", epoll_wait(set, found, 4, -1));
	start(one, 0, 0);
	event = (struct epoll_event){EPOLLIN, {.u32 = 2}};
	epoll_ctl(set, EPOLL_CTL_ADD, two, &event);
	start(two, 5 * MS, 0);
	int many = epoll_wait(set, found, 4, -1);
	SAY("level %d %d %d", many, found[0].data.u32, found[0].events);
	many = epoll_wait(set, found, 4, -1);
	SAY(" %d %d\n", many, found[0].data.u32);
	if (pipe(far))
		return;
	epoll_ctl(set, EPOLL_CTL_ADD, far[0], &event);
	SAY("read %ld", count(two));
	start(two, 5 * MS, 0);
	SAY(" with a pipe %d\n", epoll_wait(set, found, 4, -1));
	close(one), close(two), close(set), close(far[0]), close(far[1]);
}

static void shared(void)
{
	int timer = timerfd_create(CLOCK_MONOTONIC, 0), pair[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	if (!fork()) {
		SAY("child %ld\n", count(timer));
		start(timer, 5 * MS, 0);
		_exit(0);
	}
	start(timer, 5 * MS, 0);
	wait(0);
	SAY("parent %d", polled(timer, -1));
	SAY(" %ld\n", count(timer));
	close(timer);
	if (!fork()) { /* makes one that only the parent goes on with */
		int made = timerfd_create(CLOCK_MONOTONIC, 0);
		char control[CMSG_SPACE(sizeof(int))] = {0};
		struct iovec part = {"x", 1};
		struct msghdr message = {0, 0, &part, 1, control, sizeof control, 0};
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &made, sizeof made);
		sendmsg(pair[0], &message, 0);
		char go;
		_exit(read(pair[0], &go, 1) != 1);
	}
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec part = {&byte, 1};
	struct msghdr message = {0, 0, &part, 1, control, sizeof control, 0};
	recvmsg(pair[1], &message, 0);
	int got;
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof got);
	if (write(pair[1], "g", 1) != 1)
		return;
	wait(0);
	start(got, 5 * MS, 0);
	SAY("passed %d", polled(got, -1));
	SAY(" %ld\n", count(got));
	close(got), close(pair[0]), close(pair[1]);
	for (int i = 0; i < 3000; i++) { /* none of them is left over */
		int fd = timerfd_create(CLOCK_MONOTONIC, 0);
		if (fd < 0) {
			SAY("made %d: %d\n", i, errno);
			break;
		}
		start(fd, 1, 1);
		close(fd);
	}
}

static void told(struct signalfd_siginfo *one)
{
	SAY("signal %u code %d pid %d uid %d int %d status %d\n", one->ssi_signo, one->ssi_code,
	    one->ssi_pid == getpid(), one->ssi_uid == getuid(), one->ssi_int, one->ssi_status);
}

static void *killer(void *target)
{
	usleep(3000);
	kill(getpid(), SIGUSR1);
	return target;
}

static void signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1), sigaddset(&set, SIGUSR2), sigaddset(&set, SIGCHLD), sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, 0);
	int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	struct signalfd_siginfo found[4];
	SAY("none %d", polled(fd, 0));
	SAY(" %d", read(fd, found, sizeof found));
	SAY(" %d", errno);
	SAY(" short %d", read(fd, found, 100));
	SAY(" %d\n", errno);
	raise(SIGUSR1);
	kill(getpid(), SIGUSR2);
	union sigval value = {.sival_int = 42};
	sigqueue(getpid(), SIGRTMIN, value);
	value.sival_int = -43;
	sigqueue(getpid(), SIGRTMIN, value);
	SAY("some %d\n", polled(fd, 0));
	long got = read(fd, found, 3 * sizeof found[0] + 5);
	SAY("got %ld\n", got);
	for (int i = 0; i < 3; i++)
		told(found + i);
	got = read(fd, found, sizeof found);
	SAY("got %ld\n", got);
	told(found);
	SAY("none %d\n", polled(fd, 0));
	fcntl(fd, F_SETFL, 0);
	pthread_t thread;
	for (int how = 0; how < 4; how++) { /* another thread sends while this one waits */
		int epoll = epoll_create1(0);
		struct epoll_event event = {EPOLLIN};
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
		pthread_create(&thread, 0, killer, 0);
		if (how == 1)
			SAY("poll %d\n", polled(fd, -1));
		if (how >= 2)
			SAY("epoll %d\n", epoll_wait(epoll, &event, 1, how == 2 ? -1 : 100000));
		got = read(fd, found, sizeof found);
		SAY("got %ld %u\n", got, found[0].ssi_signo);
		pthread_join(thread, 0);
		close(epoll);
	}
	int child = fork();
	if (!child) {
		int pid = getppid();
		kill(pid, SIGUSR2);
		SAY("not the child's %d\n", polled(fd, 0));
		kill(getpid(), SIGUSR1);
		SAY("the child's %d", polled(fd, -1));
		got = read(fd, found, sizeof found);
		SAY(" %u\n", found[0].ssi_signo);
		_exit(7);
	}
	siginfo_t info;
	waitid(P_PID, child, &info, WEXITED | WNOWAIT);
	SAY("the parent's %d\n", polled(fd, -1));
	got = read(fd, found, sizeof found);
	SAY("got %ld: %u %u of %d with %d\n", got, found[0].ssi_signo, found[1].ssi_signo,
	    found[1].ssi_pid == child, found[1].ssi_status);
	wait(0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	SAY("other %d\n", signalfd(fd, &set, 0) == fd);
	raise(SIGUSR1);
	SAY("others %d\n", polled(fd, 10));
	raise(SIGUSR2);
	got = read(fd, found, sizeof found);
	SAY("got %ld %u\n", got, found[0].ssi_signo);
	SAY("bad %d", signalfd(0, &set, 0));
	SAY(" %d", errno);
	SAY(" %d", signalfd(-1, &set, 1));
	SAY(" %d\n", errno);
	timer_t timer;
	struct sigevent sent = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 9};
	timer_create(CLOCK_MONOTONIC, &sent, &timer);
	timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, MS}}, 0);
	got = read(fd, found, sizeof found);
	SAY("timer %ld %u %d %d %d\n", got, found[0].ssi_signo, found[0].ssi_code, found[0].ssi_int, found[0].ssi_overrun);
}

int main(void)
{
	timers();
	sets();
	shared();
	signals();
	return 0;
}
