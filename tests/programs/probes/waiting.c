/* Pipes of 64 KiB, and waiting: poll, select, epoll, timeouts, interrupted calls, sockets between two ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static char block[65536], got[65536];
static void on_alarm(int n) { (void)n; }

static int milliseconds(const struct timespec *from) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int)((now.tv_sec - from->tv_sec) * 1000 + (now.tv_nsec - from->tv_nsec) / 1000000);
}

static void pipes(void) {
    int p[2];
    printf("pipe2 %d", pipe2(p, O_NONBLOCK | O_CLOEXEC));
    printf(" flags %x %x", fcntl(p[0], F_GETFL), fcntl(p[1], F_GETFD));
    printf(" size %d\n", fcntl(p[1], F_GETPIPE_SZ));
    for (size_t i = 0; i < sizeof block; i++) block[i] = (char)(i * 17 + i / 300);
    printf("write 64 KiB %zd", write(p[1], block, sizeof block));
    printf(" then %zd", write(p[1], "x", 1));
    printf(" %d\n", errno);
    ssize_t total = 0, n;
    while ((n = read(p[0], got + total, 10000)) > 0) total += n;
    printf("read %zd errno %d same %d\n", total, errno, !memcmp(block, got, sizeof block));
    struct pollfd fds[3] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {99, POLLIN, 0}};
    printf("poll %d:", poll(fds, 3, 0));
    printf(" %x %x %x\n", fds[0].revents, fds[1].revents, fds[2].revents);
    close(p[1]);
    printf("poll at the end %d:", poll(fds, 1, 1000));
    printf(" %x\n", fds[0].revents);
    printf("read at the end %zd\n", read(p[0], got, 10));
    close(p[0]);
    signal(SIGPIPE, SIG_IGN);
    pipe(p);
    close(p[0]);
    printf("write to nobody %zd", write(p[1], "x", 1));
    printf(" %d\n", errno);
}

static void timeouts(void) {
    struct timespec start;
    int p[2];
    pipe(p);
    clock_gettime(CLOCK_MONOTONIC, &start);
    struct pollfd fd = {p[0], POLLIN, 0};
    printf("poll times out %d", poll(&fd, 1, 30));
    printf(" not early %d\n", milliseconds(&start) >= 29);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    struct timeval tv = {0, 30000};
    clock_gettime(CLOCK_MONOTONIC, &start);
    printf("select times out %d", select(p[0] + 1, &set, 0, 0, &tv));
    printf(" not early %d cleared %d left %d\n", milliseconds(&start) >= 29, !FD_ISSET(p[0], &set), (int)tv.tv_sec);
    write(p[1], "!", 1);
    FD_SET(p[0], &set);
    struct timespec ts = {5, 0};
    printf("pselect %d", pselect(p[0] + 1, &set, 0, 0, &ts, 0));
    printf(" set %d\n", FD_ISSET(p[0], &set) != 0);
    clock_gettime(CLOCK_MONOTONIC, &start);
    ts = (struct timespec){0, 20000000};
    printf("nanosleep %d", nanosleep(&ts, 0));
    printf(" not early %d\n", milliseconds(&start) >= 20);
    /* below 64: what is beyond its table of descriptors, Linux does not look at */
    printf("select of a bad descriptor %d", (FD_SET(40, &set), select(41, &set, 0, 0, &tv)));
    printf(" %d\n", errno);
}

static void interrupted(void) {
    int p[2];
    char c;
    pipe(p);
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, 0);
    struct itimerval once = {{0, 0}, {0, 30000}};
    setitimer(ITIMER_REAL, &once, 0);
    printf("read interrupted %zd", read(p[0], &c, 1));
    printf(" %d\n", errno);
    setitimer(ITIMER_REAL, &once, 0);
    struct pollfd fd = {p[0], POLLIN, 0};
    printf("poll interrupted %d", poll(&fd, 1, -1));
    printf(" %d\n", errno);
    struct timespec long_ = {3, 0}, left = {0, 0};
    setitimer(ITIMER_REAL, &once, 0);
    printf("nanosleep interrupted %d", nanosleep(&long_, &left));
    printf(" %d left %ld\n", errno, (long)left.tv_sec);
}

static void epolls(void) {
    int s[2], e = epoll_create1(EPOLL_CLOEXEC);
    printf("socketpair %d\n", socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1122334455667788}, out;
    printf("epoll_ctl %d", epoll_ctl(e, EPOLL_CTL_ADD, s[0], &event));
    printf(" wait %d", epoll_wait(e, &out, 1, 10));
    printf(" sent %zd", send(s[1], "hello", 5, 0));
    printf(" wait %d", epoll_wait(e, &out, 1, -1));
    printf(" events %x data %d\n", out.events, out.data.u64 == event.data.u64);
    printf("recv %zd %.5s\n", recv(s[0], got, 100, 0), got);
    shutdown(s[1], SHUT_WR);
    printf("end %zd\n", recv(s[0], got, 100, 0));
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    pipes();
    timeouts();
    interrupted();
    epolls();
    return 9;
}
