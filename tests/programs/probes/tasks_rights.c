/* Who may signal whom, locks that are handed on with the condition, and barriers. No timing shows. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
static long result;
#define TRY(name, call) (errno = 0, result = (long)(call), SAY("%s %ld %s\n", name, result, strerror(errno)))

static void rights(void)
{
	int parent = getpid(), ready[2], child, status;
	if (pipe(ready))
		return;
	signal(SIGUSR1, SIG_IGN);
	signal(SIGCONT, SIG_IGN);
	child = fork();
	if (!child) { /* another user, of whom the parent's is not one */
		char go;
		if (setresuid(65534, 65533, 65532))
			_exit(1);
		TRY("itself", kill(getpid(), 0));
		TRY("parent", kill(parent, 0));
		TRY("parent", kill(parent, SIGUSR1));
		TRY("continue", kill(parent, SIGCONT));
		TRY("thread", syscall(SYS_tkill, parent, SIGUSR1));
		TRY("thread", syscall(SYS_tgkill, parent, parent, 0));
		TRY("queue", sigqueue(parent, SIGUSR1, (union sigval){0}));
		TRY("group", kill(0, SIGUSR1)); /* itself may hear of it: so it is no error */
		TRY("init", kill(1, 0));
		int pidfd = syscall(SYS_pidfd_open, parent, 0);
		TRY("pidfd", syscall(SYS_pidfd_send_signal, pidfd, SIGUSR1, 0, 0));
		if (!fork()) {
			int other = getppid();
			if (setresuid(65533, 65533, 65533))
				_exit(1);
			TRY("by its real user only", kill(other, 0)); /* the other's effective one does not count */
			_exit(0);
		}
		wait(&status);
		setpgid(0, 0);
		if (!fork()) {
			if (setresuid(65533, 65533, 65533))
				_exit(1);
			_exit(0);
		}
		wait(&status);
		SAY("ended %d\n", WEXITSTATUS(status));
		_exit(3);
	}
	waitpid(child, &status, 0);
	SAY("ended %d\n", WEXITSTATUS(status));
}

static uint32_t word, lock, turns, over;

static long futex(uint32_t *address, int operation, long value, void *timeout, uint32_t *other, long third)
{
	return syscall(SYS_futex, address, operation | FUTEX_PRIVATE_FLAG, value, timeout, other, third);
}

static void *waiter(void *number)
{
	long got = futex(&word, FUTEX_WAIT_REQUEUE_PI, 0, 0, &lock, 0);
	int mine = (lock & FUTEX_TID_MASK) == syscall(SYS_gettid);
	turns += got == 0 && mine;
	if (futex(&lock, FUTEX_UNLOCK_PI, 0, 0, 0, 0))
		SAY("unlock: %s\n", strerror(errno));
	return number;
}

/* Have `count` threads sleep on the word, which stays 0, so that one that is late sleeps too. */
static void sleepers(pthread_t *threads, int count)
{
	turns = 0;
	for (long i = 0; i < count; i++)
		pthread_create(threads + i, 0, waiter, (void *)i);
}

/* Move sleepers, as they come, until so many were. */
static void move(int count, long most)
{
	int moved = 0;
	while (moved < count) {
		long found = futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)most, &lock, 0);
		if (found < 0) {
			SAY("move: %s\n", strerror(errno));
			return;
		}
		moved += found;
		usleep(1000);
	}
	SAY("moved %d\n", moved);
}

static void requeues(void)
{
	pthread_t threads[4];
	struct timespec soon;
	uint32_t self = syscall(SYS_gettid);
	TRY("same word", futex(&word, FUTEX_WAIT_REQUEUE_PI, 0, 0, &word, 0));
	TRY("another value", futex(&word, FUTEX_WAIT_REQUEUE_PI, 1, 0, &lock, 0));
	clock_gettime(CLOCK_MONOTONIC, &soon);
	TRY("time", futex(&word, FUTEX_WAIT_REQUEUE_PI, 0, &soon, &lock, 0));
	TRY("nobody", futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &lock, 0));
	TRY("value", futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &lock, 5));
	TRY("two", futex(&word, FUTEX_CMP_REQUEUE_PI, 2, (void *)9, &lock, 0));
	TRY("itself", futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &word, 0));
	sleepers(threads, 4);
	TRY("lock", futex(&lock, FUTEX_LOCK_PI2, 0, 0, 0, 0));
	SAY("mine %d\n", lock == self);
	move(4, 9);
	SAY("waited for %d, had %d\n", lock == (self | FUTEX_WAITERS), turns);
	TRY("unlock", futex(&lock, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], 0);
	SAY("had %d, free %d\n", turns, lock == 0);
	sleepers(threads, 3);
	move(1, 0);
	while (__atomic_load_n(&turns, __ATOMIC_SEQ_CST) != 1 || __atomic_load_n(&lock, __ATOMIC_SEQ_CST))
		usleep(1000);
	move(2, 9);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], 0);
	SAY("had %d, free %d\n", turns, lock == 0);
	clock_gettime(CLOCK_MONOTONIC, &soon);
	if (!(lock = fork()))
		_exit(0);
	wait(0);
	TRY("no owner", futex(&lock, FUTEX_LOCK_PI2, 0, &soon, 0, 0) < 0);
	lock = 0;
}

static void on_signal(int number)
{
	(void)number;
}

static int timed;

static void *interrupter(void *thread)
{
	do {
		usleep(2000);
		pthread_kill(*(pthread_t *)thread, SIGUSR2);
		usleep(2000);
	} while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST) && (timed || !futex(&word, FUTEX_WAKE, 9, 0, 0, 0)));
	return 0;
}

static void interruptions(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct timespec time = {5, 0};
	pthread_t self = pthread_self(), thread;
	sigaction(SIGUSR2, &action, 0);
	for (timed = 0; timed < 2; timed++) { /* what has a time ends, whatever the handler says */
		over = 0;
		pthread_create(&thread, 0, interrupter, &self);
		TRY("wait", futex(&word, FUTEX_WAIT, 0, timed ? &time : NULL, 0, 0));
		over = 1;
		pthread_join(thread, 0);
	}
}

static void barriers(int again)
{
	for (int command = again ? 512 : 1; command <= 512; command *= 2)
		if (command != 128 && command != 256)
			TRY("barrier", syscall(SYS_membarrier, command, 0, 0));
	if (again)
		return;
	TRY("unknown", syscall(SYS_membarrier, 3, 0, 0));
	TRY("flags", syscall(SYS_membarrier, 8, 1, 0));
	TRY("private", syscall(SYS_membarrier, 8, 0, 0));
	if (!fork()) {
		TRY("of the child", syscall(SYS_membarrier, 512, 0, 0));
		_exit(0);
	}
	wait(0);
}

int main(int count, char **words)
{
	if (count > 1) {
		barriers(1);
		return 0;
	}
	rights();
	requeues();
	interruptions();
	barriers(0);
	execl(words[0], words[0], "again", NULL);
	return 1;
}
