/* Sockets on which a task waits, for all bytes, for a while or to be connected, while others go on. No timing shows. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
static long result;
#define TRY(name, call) (errno = 0, result = (long)(call), SAY("%s %ld %s\n", name, result, strerror(errno)))

static int pair[2];

static void *in_parts(void *count)
{
	for (long i = 0; i < (long)count; i++) {
		usleep(2000);
		if (write(pair[1], &"abcdefgh"[i], 1) != 1)
			return 0;
	}
	return 0;
}

static void patience(int fd, int option, int millis)
{
	struct timeval time = {0, millis * 1000};
	setsockopt(fd, SOL_SOCKET, option, &time, sizeof time);
}

static void on_signal(int number)
{
	(void)number;
}

static int over;

static void *interrupter(void *thread)
{
	while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) { /* one comes when it waits */
		pthread_kill(*(pthread_t *)thread, SIGUSR1);
		usleep(5000);
	}
	return 0;
}

static void whole(void)
{
	char text[16] = {0};
	pthread_t thread;
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	pthread_create(&thread, 0, in_parts, (void *)5);
	long got = recv(pair[0], text, 5, MSG_WAITALL);
	SAY("all %ld %s\n", got, text);
	pthread_join(thread, 0);
	pthread_create(&thread, 0, in_parts, (void *)8);
	struct iovec parts[] = {{text, 3}, {text + 8, 5}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	got = recvmsg(pair[0], &message, MSG_WAITALL);
	SAY("all %ld %.3s %.5s\n", got, text, text + 8);
	pthread_join(thread, 0);
	TRY("some", write(pair[1], "xyz", 3));
	TRY("peek", recv(pair[0], text, 9, MSG_WAITALL | MSG_PEEK | MSG_DONTWAIT));
	patience(pair[0], SO_RCVTIMEO, 30);
	TRY("all in time", recv(pair[0], text, 9, MSG_WAITALL));
	TRY("in time", recv(pair[0], text, 9, 0));
	TRY("in time", read(pair[0], text, 9));
	patience(pair[0], SO_RCVTIMEO, 0);
	if (!fork()) {
		close(pair[0]);
		TRY("three", send(pair[1], "123", 3, 0));
		_exit(0);
	}
	close(pair[1]);
	wait(0);
	TRY("to the end", recv(pair[0], text, 9, MSG_WAITALL));
	TRY("the end", recv(pair[0], text, 9, MSG_WAITALL));
	close(pair[0]);
}

static void large(void)
{
	int size = 3 << 20;
	char *data = calloc(1, size);
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	if (!fork()) {
		long got, sum = 0;
		close(pair[1]);
		while ((got = recv(pair[0], data, 50000, 0)) > 0)
			sum += got;
		SAY("received %ld\n", sum);
		_exit(0);
	}
	close(pair[0]);
	long sent = send(pair[1], data, size, 0);
	struct iovec part = {data, size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	sent += sendmsg(pair[1], &message, 0);
	close(pair[1]);
	wait(0);
	SAY("sent %ld\n", sent);
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	patience(pair[1], SO_SNDTIMEO, 20);
	sent = send(pair[1], data, size, 0);
	SAY("part %d", sent > 0 && sent < size);
	sent = send(pair[1], data, size, 0);
	SAY(" none %ld %d\n", sent, errno);
	close(pair[0]), close(pair[1]);
	free(data);
}

static void signals(void)
{
	char text[16];
	pthread_t self = pthread_self(), thread;
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigaction(SIGUSR1, &action, 0);
	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	patience(pair[0], SO_RCVTIMEO, 990); /* what has a time is not begun anew */
	pthread_create(&thread, 0, interrupter, &self);
	TRY("interrupted", recv(pair[0], text, 9, 0));
	over = 1;
	pthread_join(thread, 0);
	if (write(pair[1], "ab", 2) != 2)
		return;
	action.sa_flags = 0;
	sigaction(SIGUSR1, &action, 0);
	patience(pair[0], SO_RCVTIMEO, 0);
	over = 0;
	pthread_create(&thread, 0, interrupter, &self);
	TRY("what had come", recv(pair[0], text, 9, MSG_WAITALL));
	over = 1;
	pthread_join(thread, 0);
	close(pair[0]), close(pair[1]);
}

static void messages(void)
{
	char first[8] = {0}, second[8] = {0};
	pthread_t thread;
	struct iovec parts[] = {{first, 4}, {second, 4}};
	struct mmsghdr both[2] = {{{.msg_iov = parts, .msg_iovlen = 1}}, {{.msg_iov = parts + 1, .msg_iovlen = 1}}};
	socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
	pthread_create(&thread, 0, in_parts, (void *)2);
	TRY("both", recvmmsg(pair[0], both, 2, 0, 0));
	SAY("%s %s\n", first, second);
	pthread_join(thread, 0);
	close(pair[0]), close(pair[1]);
}

static void connections(void)
{
	struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof where;
	int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
	bind(server, (void *)&where, sizeof where);
	getsockname(server, (void *)&where, &length);
	TRY("refused", connect(client, (void *)&where, sizeof where));
	listen(server, 5);
	TRY("connected", connect(client, (void *)&where, sizeof where));
	TRY("again", connect(client, (void *)&where, sizeof where));
	TRY("blocking", fcntl(client, F_GETFL) & O_NONBLOCK);
	int taken = accept(server, 0, 0);
	SAY("taken %d\n", taken >= 0);
	patience(server, SO_RCVTIMEO, 20);
	TRY("nobody", accept(server, 0, 0));
	TRY("short", connect(client, (void *)&where, 3));
	TRY("family", connect(client, (void *)&(struct sockaddr){77}, sizeof where));
	TRY("nowhere", connect(client, (void *)8, sizeof where));
	TRY("no socket", connect(0, (void *)&where, sizeof where));
	close(client), close(taken), close(server);
	struct sockaddr_un name = {AF_UNIX, "listens"};
	server = socket(AF_UNIX, SOCK_STREAM, 0);
	bind(server, (void *)&name, sizeof name);
	listen(server, 0);
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	TRY("first", connect(client, (void *)&name, sizeof name));
	int second = socket(AF_UNIX, SOCK_STREAM, 0), status;
	patience(second, SO_SNDTIMEO, 20);
	TRY("full", connect(second, (void *)&name, sizeof name));
	patience(second, SO_SNDTIMEO, 0);
	if (!fork()) {
		usleep(5000);
		_exit(accept(server, 0, 0) >= 0 ? 6 : 7);
	}
	TRY("room", connect(second, (void *)&name, sizeof name));
	wait(&status);
	SAY("taken %d\n", WEXITSTATUS(status));
	unlink("listens");
}

int main(void)
{
	whole();
	large();
	signals();
	messages();
	connections();
	return 0;
}
