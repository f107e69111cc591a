// Processor time of threads, apart from that of their process: clocks, timers, getrusage; and those of other processes.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OF_PROCESS(pid, which) ((~(clockid_t)(pid) << 3) | (which))
#define OF_THREAD(tid, which) ((~(clockid_t)(tid) << 3) | 4 | (which))
#define MS 1000000L

static volatile int stop, begun, at, ticks;
static volatile pid_t other;

static long now(clockid_t clock) {
    struct timespec time;
    return clock_gettime(clock, &time) ? -errno : time.tv_sec * 1000000000L + time.tv_nsec;
}

static void burn(long length) {
    for (long end = now(CLOCK_THREAD_CPUTIME_ID) + length; now(CLOCK_THREAD_CPUTIME_ID) < end;)
        for (volatile int step = 0; step < 1000; step++)
            ;
}

static void *burns(void *unused) {
    other = syscall(SYS_gettid);
    burn(20 * MS);
    struct rusage own;
    getrusage(RUSAGE_THREAD, &own);
    printf("burnt %d\n", own.ru_utime.tv_sec * 1000000 + own.ru_utime.tv_usec + own.ru_stime.tv_usec >= 15000);
    at = 1;
    while (!stop) usleep(1000);
    return 0;
}

static void clocks(void) {
    pthread_t thread;
    clockid_t clock;
    struct rusage own, all;
    printf("young %d\n", now(CLOCK_THREAD_CPUTIME_ID) < 20 * MS);
    long before = now(CLOCK_THREAD_CPUTIME_ID);
    pthread_create(&thread, 0, burns, 0);
    while (!at) usleep(1000);
    long mine = now(CLOCK_THREAD_CPUTIME_ID) - before;
    pthread_getcpuclockid(thread, &clock);
    printf("its own %d mine %d both %d\n", now(clock) >= 20 * MS, mine < 20 * MS, now(CLOCK_PROCESS_CPUTIME_ID) >= mine + 20 * MS);
    printf("by number %d %d\n", now(OF_THREAD(other, 2)) >= 20 * MS, now(OF_PROCESS(getpid(), 2)) >= now(OF_THREAD(other, 2)));
    printf("as thread 0 %d as process 0 %d\n", now(-2) < 20 * MS, now(-6) >= 20 * MS);
    getrusage(RUSAGE_THREAD, &own);
    getrusage(RUSAGE_SELF, &all);
    printf("rusage mine %d all %d memory %d\n", own.ru_utime.tv_usec + own.ru_stime.tv_usec < 20000,
           all.ru_utime.tv_usec + all.ru_stime.tv_usec >= 15000, own.ru_maxrss == all.ru_maxrss);
    stop = 1;
    pthread_join(thread, 0);
    while (now(OF_THREAD(other, 2)) >= 0) usleep(100);  // joined is not yet gone: Linux forgets the number a little later
    printf("gone %ld\n", now(OF_THREAD(other, 2)));
    for (int which = 0; which < 8; which++) printf("kind %d: %d\n", which, now(OF_PROCESS(0, which)) >= 0);
    printf("nobody's %ld %ld\n", now(OF_PROCESS(5000000, 2)), now(OF_THREAD(5000000, 2)));
}

static void faults(void) {
    struct rusage before, after;
    getrusage(RUSAGE_THREAD, &before);
    volatile char *memory = mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise((void *)memory, 64 * 4096, MADV_NOHUGEPAGE);
    for (int page = 0; page < 64; page++) memory[page * 4096] = 1;
    getrusage(RUSAGE_THREAD, &after);
    printf("faults %d\n", after.ru_minflt - before.ru_minflt >= 64);
}

static void processes(void) {
    int ends[2];
    pipe(ends);
    pid_t child = fork();
    if (!child) {
        char byte;
        close(ends[1]);
        read(ends[0], &byte, 1);
        _exit(0);
    }
    clockid_t clock;
    printf("a child's %d", clock_getcpuclockid(child, &clock));
    printf(" %d its thread's %ld\n", now(clock) >= 0, now(OF_THREAD(child, 2)));
    struct timespec fine = {9, 9};
    printf("resolution %d", clock_getres(clock, &fine));
    printf(" %ld %ld\n", (long)fine.tv_sec, fine.tv_nsec);
    printf("of nobody %d\n", clock_getres(OF_PROCESS(5000000, 2), &fine));
    close(ends[1]);
    waitpid(child, 0, 0);
}

static void on(int number) { ticks++; }

static void *burns_only(void *unused) {
    burn(20 * MS);
    return 0;
}

static void timers(void) {
    pthread_t thread;
    timer_t timer;
    struct itimerspec soon = {{0, 0}, {0, 10 * MS}};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    signal(SIGUSR1, on);
    printf("timer %d", timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer));
    printf(" %d\n", timer_settime(timer, 0, &soon, 0));
    pthread_create(&thread, 0, burns_only, 0);
    pthread_join(thread, 0);
    printf("after another's work %d", ticks);
    while (!ticks) burn(MS);
    printf(" after mine %d\n", ticks);
    printf("of nobody %d\n", timer_create(OF_THREAD(5000000, 2), &event, &timer));
}

// A timer by what a child takes, which this process waits for; it stands when the child does, and when that has ended.
static void timers_of_another(void) {
    int ends[2];
    timer_t timer;
    sigset_t set;
    siginfo_t info = {0};
    struct itimerspec soon = {{0, 0}, {0, 10 * MS}}, left;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 7};
    struct timespec shortly = {0, 20 * MS}, long_enough = {60, 0};
    sigemptyset(&set), sigaddset(&set, SIGUSR2), sigprocmask(SIG_BLOCK, &set, 0);
    pipe(ends);
    pid_t child = fork();
    if (!child) {
        char byte;
        read(ends[0], &byte, 1);
        for (;;) ;
    }
    printf("timer of a child %d", timer_create(OF_PROCESS(child, 2), &event, &timer));
    printf(" %d", timer_settime(timer, 0, &soon, 0));
    printf(" stands %d", sigtimedwait(&set, &info, &shortly));
    printf(" %d", timer_gettime(timer, &left) == 0 && left.it_value.tv_nsec > 5 * MS);
    write(ends[1], "x", 1);
    printf(" goes %d", sigtimedwait(&set, &info, &long_enough) == SIGUSR2);
    printf(" %d", info.si_value.sival_int);
    printf(" took %d\n", now(OF_PROCESS(child, 2)) >= 10 * MS);
    printf("again %d", timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {1000, 0}}, 0));
    kill(child, SIGKILL), waitpid(child, 0, 0);
    printf(" gone %d", timer_gettime(timer, &left));
    printf(" %ld %ld", (long)left.it_value.tv_sec, left.it_value.tv_nsec);
    printf(" set %d", timer_settime(timer, 0, &soon, 0) < 0 ? errno : 0);
    printf(" deleted %d", timer_delete(timer));
    printf(" made %d\n", timer_create(OF_PROCESS(child, 2), &event, &timer) < 0 ? errno : 0);
}

int main(void) {
    clocks();
    faults();
    processes();
    timers();
    timers_of_another();
    return 0;
}
