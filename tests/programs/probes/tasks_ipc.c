/* System V shared memory, semaphores and messages among processes. Its output depends on no timing and no identifiers. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
static long result;
#define TRY(name, call) (errno = 0, result = (long)(call), SAY("%s %ld %s\n", name, result < 0 ? -1 : result, strerror(errno)))

union semun {
	int val;
	void *buf;
};

static void on_signal(int number)
{
	(void)number;
}

static void memory(void)
{
	int id = shmget(IPC_PRIVATE, 5000, 0600), again;
	struct shmid_ds what;
	char *here = shmat(id, 0, 0), *read_only = shmat(id, 0, SHM_RDONLY);
	strcpy(here, "before");
	SAY("seen %s, zeros %d\n", read_only, here[4999]);
	TRY("protect", mprotect(read_only, 4096, PROT_READ | PROT_WRITE));
	shmctl(id, IPC_STAT, &what);
	SAY("size %zu attached %lu mode %o mine %d\n", what.shm_segsz, what.shm_nattch, what.shm_perm.mode,
	    what.shm_cpid == getpid() && what.shm_lpid == getpid() && what.shm_perm.uid == geteuid());
	if (!fork()) {
		shmctl(id, IPC_STAT, &what);
		SAY("child: %s, attached %lu\n", here, what.shm_nattch);
		strcpy(here + 4096, "of the child");
		_exit(0);
	}
	wait(0);
	shmctl(id, IPC_STAT, &what);
	SAY("after: %s %lu\n", read_only + 4096, what.shm_nattch);
	TRY("detach", shmdt(read_only));
	TRY("again", shmdt(read_only));
	TRY("not at its start", shmdt(here + 4096));
	char *place = mmap(0, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TRY("occupied", (long)shmat(id, place, 0));
	TRY("odd", (long)shmat(id, place + 8, 0));
	munmap(place, 1 << 20);
	SAY("there %d\n", shmat(id, place + 8, SHM_RND) == place);
	SAY("over it %d %s\n", shmat(id, place, SHM_REMAP) == place, place);
	TRY("over nothing", (long)shmat(id, 0, SHM_REMAP));
	TRY("remove", shmctl(id, IPC_RMID, 0));
	shmctl(id, IPC_STAT, &what);
	SAY("removed: %s, attached %lu, mode %o, key %d\n", place, what.shm_nattch, what.shm_perm.mode, what.shm_perm.__key);
	shmdt(place);
	shmdt(here);
	TRY("gone", shmctl(id, IPC_STAT, &what));
	TRY("gone", (long)shmat(id, 0, 0));
	TRY("none", shmget(IPC_PRIVATE, 0, 0600));
	TRY("too much", shmget(IPC_PRIVATE, -1L, 0600));
	TRY("too much", shmget(IPC_PRIVATE, 1L << 62, 0600));
	int key = 0x5155 << 16 | getpid() & 0xffff;
	TRY("no such", shmget(key, 4096, 0600));
	id = shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0640);
	again = shmget(key, 0, 0);
	SAY("by key %d\n", id == again);
	TRY("exclusive", shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600));
	TRY("larger", shmget(key, 4097, 0));
	shmctl(id, IPC_STAT, &what);
	what.shm_perm.mode = 0400;
	TRY("set", shmctl(id, IPC_SET, &what));
	shmctl(id, IPC_STAT, &what);
	SAY("mode %o, is key %d\n", what.shm_perm.mode, what.shm_perm.__key == key);
	if (!fork()) {
		if (setuid(65534))
			_exit(1);
		TRY("another reads", (long)shmat(id, 0, SHM_RDONLY));
		TRY("another removes", shmctl(id, IPC_RMID, 0));
		TRY("another looks", shmctl(id, IPC_STAT, &what));
		_exit(0);
	}
	wait(0);
	TRY("command", shmctl(id, 99, &what));
	TRY("negative", shmctl(-1, IPC_RMID, 0));
	TRY("nowhere", shmctl(id, IPC_STAT, (void *)8));
	shmctl(id, IPC_RMID, 0);
	TRY("no such", shmget(key, 4096, 0600));
}

static int operate(int id, int number, int change, int flags)
{
	struct sembuf one = {number, change, flags};
	return semop(id, &one, 1);
}

static void wait_for(int id, int number, int command, int count)
{
	while (semctl(id, number, command) != count)
		usleep(1000);
}

static void semaphores(void)
{
	int id = semget(IPC_PRIVATE, 3, 0600);
	unsigned short values[3] = {1, 2, 3};
	struct semid_ds what;
	TRY("all", semctl(id, 0, SETALL, values));
	memset(values, 0, sizeof values);
	semctl(id, 0, GETALL, values);
	SAY("values %d %d %d\n", values[0], values[1], values[2]);
	TRY("value", semctl(id, 1, GETVAL));
	SAY("mine %d\n", semctl(id, 1, GETPID) == getpid());
	struct sembuf both[] = {{0, -1, 0}, {1, -3, IPC_NOWAIT}};
	TRY("both", semop(id, both, 2));
	TRY("untouched", semctl(id, 0, GETVAL));
	both[1].sem_op = -2;
	TRY("both", semop(id, both, 2));
	TRY("zero", operate(id, 0, 0, 0));
	TRY("not zero", operate(id, 2, 0, IPC_NOWAIT));
	TRY("beyond", operate(id, 3, 1, 0));
	TRY("range", operate(id, 2, 32767, 0));
	TRY("no operations", semop(id, both, 0));
	TRY("many", semop(id, both, 501));
	TRY("value", semctl(id, 0, SETVAL, (union semun){.val = 32768}));
	TRY("number", semctl(id, 3, SETVAL, (union semun){.val = 1}));
	TRY("none", semget(IPC_PRIVATE, 0, 0600));
	TRY("many", semget(IPC_PRIVATE, 32001, 0600));
	struct timespec soon = {0, 2000000}, wrong = {0, 1000000000};
	TRY("time", semtimedop(id, &(struct sembuf){0, -1, 0}, 1, &soon));
	TRY("wrong time", semtimedop(id, &(struct sembuf){0, -1, 0}, 1, &wrong));
	semctl(id, 0, IPC_STAT, &what);
	SAY("semaphores %lu used %d mode %o\n", what.sem_nsems, what.sem_otime > 0, what.sem_perm.mode);
	for (int round = 0; round < 3; round++) /* who has waited gets it, and not who gives it */
		if (!fork()) {
			operate(id, 0, -1, 0);
			operate(id, 1, 1, 0);
			_exit(7);
		} else {
			wait_for(id, 0, GETNCNT, 1);
			operate(id, 0, 1, 0);
			TRY("taken", operate(id, 0, -1, IPC_NOWAIT));
			operate(id, 1, -1, 0);
			int status;
			wait(&status);
			SAY("child had it %d\n", WEXITSTATUS(status));
		}
	if (!fork()) {
		operate(id, 2, -2, SEM_UNDO);
		TRY("in the child", semctl(id, 2, GETVAL));
		operate(id, 1, 5, SEM_UNDO);
		operate(id, 0, 0, 0);
		_exit(0);
	}
	wait(0);
	TRY("undone", semctl(id, 2, GETVAL));
	TRY("undone", semctl(id, 1, GETVAL));
	operate(id, 0, 1, 0);
	int child = fork();
	if (!child) {
		TRY("until zero", operate(id, 0, 0, 0));
		_exit(0);
	}
	wait_for(id, 0, GETZCNT, 1);
	semctl(id, 0, SETVAL, (union semun){.val = 0});
	wait(0);
	child = fork();
	if (!child) {
		struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
		sigaction(SIGUSR1, &action, 0);
		TRY("interrupted", operate(id, 0, -1, 0));
		operate(id, 1, 1, 0);
		TRY("removed", operate(id, 0, -1, 0));
		_exit(0);
	}
	semctl(id, 1, SETVAL, (union semun){.val = 0});
	wait_for(id, 0, GETNCNT, 1);
	kill(child, SIGUSR1);
	operate(id, 1, -1, 0);
	wait_for(id, 0, GETNCNT, 1);
	int removed = semctl(id, 0, IPC_RMID);
	wait(0);
	SAY("removed %d\n", removed);
	TRY("gone", semctl(id, 0, GETVAL));
	TRY("gone", operate(id, 0, 1, 0));
}

struct message {
	long kind;
	char text[64];
};

static int send(int id, long kind, const char *text, int flags)
{
	struct message one = {kind};
	strcpy(one.text, text);
	return msgsnd(id, &one, strlen(text) + 1, flags);
}

static void receive(int id, long kind, int size, int flags)
{
	struct message one = {0};
	errno = 0;
	int got = msgrcv(id, &one, size, kind, flags);
	SAY("got %d of %ld: %.*s (%s)\n", got, one.kind, got > 0 ? got : 0, one.text, strerror(errno));
}

static void messages(void)
{
	int id = msgget(IPC_PRIVATE, 0600);
	struct msqid_ds what;
	send(id, 3, "three", 0);
	send(id, 1, "one", 0);
	send(id, 2, "two", 0);
	send(id, 1, "another", 0);
	msgctl(id, IPC_STAT, &what);
	SAY("there %lu, bytes %lu of %lu, mine %d\n", what.msg_qnum, what.__msg_cbytes, what.msg_qbytes,
	    what.msg_lspid == getpid());
	receive(id, 2, 64, 0);
	receive(id, -2, 64, 0);
	receive(id, 1, 3, 0);
	receive(id, 1, 3, MSG_NOERROR);
	receive(id, 5, 64, IPC_NOWAIT);
	receive(id, 3, 64, MSG_EXCEPT | IPC_NOWAIT);
	receive(id, 0, 64, 0);
	TRY("kind", send(id, 0, "none", 0));
	TRY("size", msgsnd(id, &what, 8193, 0));
	TRY("size", msgsnd(id, &what, -1L, 0));
	TRY("nowhere", msgsnd(id, (void *)8, 1, 0));
	char large[8 + 8192] = {1};
	int got, child = fork();
	if (!child) {
		struct message one;
		got = msgrcv(id, &one, 64, 7, 0);
		SAY("seven: %d %ld\n", got, one.kind);
		do /* told that it is longer, if it sleeps when the message comes or not: the message stays */
			got = msgrcv(id, &one, 2, 8, 0);
		while (got == -1 && errno != E2BIG);
		got = msgrcv(id, &one, 64, 8, 0);
		got = msgrcv(id, large, 64, 9, 0); /* or it was not yet asleep when the queue went */
		_exit(got == -1 && (errno == EIDRM || errno == EINVAL) ? 0 : 1);
	}
	send(id, 6, "not for it", 0);
	send(id, 7, "seven", 0);
	send(id, 8, "eight", 0);
	do
		usleep(1000);
	while (!msgctl(id, IPC_STAT, &what) && what.msg_qnum > 1);
	kill(child, SIGSTOP);
	waitpid(child, 0, WUNTRACED);
	receive(id, 0, 64, IPC_NOWAIT);
	kill(child, SIGCONT);
	msgctl(id, IPC_RMID, 0);
	wait(0);
	TRY("gone", send(id, 1, "one", 0));
	id = msgget(IPC_PRIVATE, 0600);
	TRY("large", msgsnd(id, large, 8192, 0));
	TRY("large", msgsnd(id, large, 8192, 0));
	TRY("full", msgsnd(id, large, 1, IPC_NOWAIT));
	child = fork();
	if (!child) {
		_exit(msgsnd(id, large, 100, 0) ? 1 : 9);
	}
	usleep(5000);
	TRY("taken", msgrcv(id, large, 8192, 0, 0));
	int status;
	wait(&status);
	SAY("sent by the child %d\n", WEXITSTATUS(status));
	msgctl(id, IPC_STAT, &what);
	SAY("there %lu, bytes %lu\n", what.msg_qnum, what.__msg_cbytes);
	what.msg_qbytes = 10;
	TRY("smaller", msgctl(id, IPC_SET, &what));
	TRY("full", send(id, 1, "text", IPC_NOWAIT));
	if (!fork()) {
		if (setuid(65534))
			_exit(1);
		TRY("another", send(id, 1, "text", IPC_NOWAIT));
		TRY("another", msgctl(id, IPC_RMID, 0));
		_exit(0);
	}
	wait(0);
	msgctl(id, IPC_RMID, 0);
}

int main(void)
{
	memory();
	semaphores();
	messages();
	return 0;
}
