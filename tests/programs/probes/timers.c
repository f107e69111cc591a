/* Timers that send signals, and signals that wait: what arrives, how often, with what; never how long it took. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t seen[65], code, value, number, missed = -1;
static timer_t missing;

static void on(int n, siginfo_t *info, void *context) {
    (void)context;
    seen[n]++;
    code = info->si_code;
    value = info->si_value.sival_int;
    number = n;
    if (n == SIGUSR1 && missed < 0) missed = timer_getoverrun(missing);
}

static void wait_for(int n, int times) { while (seen[n] < times) pause(); }

static void spin_for(int n) { for (volatile long i = 0; seen[n] < 2; i++) ; }

static void interval(int which, int n, int spins) {
    struct itimerval tick = {{0, 2000}, {0, 1000}}, off = {{0, 0}, {0, 0}}, old;
    seen[n] = 0;
    printf("setitimer %d", setitimer(which, &tick, NULL));
    if (spins) spin_for(n); else wait_for(n, 2);
    getitimer(which, &old);
    printf(" interval %ld.%06ld runs %d", old.it_interval.tv_sec, old.it_interval.tv_usec, old.it_value.tv_usec > 0);
    setitimer(which, &off, &old);
    printf(" signal %d code %d\n", number, code);
    getitimer(which, &old);
    printf("stopped %ld %ld\n", old.it_value.tv_sec, old.it_value.tv_usec);
}

static void ignored(void) {
    struct itimerval tick = {{0, 1}, {0, 1}}, off = {{0, 0}, {0, 0}};
    signal(SIGALRM, SIG_IGN);
    setitimer(ITIMER_REAL, &tick, NULL);
    for (volatile long i = 0; i < 300000; i++) ;
    printf("a timer of a microsecond is ignored %d\n", setitimer(ITIMER_REAL, &off, NULL));
}

static void made(clockid_t clock, int spins) {
    timer_t timer;
    struct sigevent event = {0};
    struct itimerspec tick = {{0, 3000000}, {0, 1000000}}, left;
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGRTMIN + 1;
    event.sigev_value.sival_int = 77;
    seen[SIGRTMIN + 1] = 0;
    printf("timer_create %d", timer_create(clock, &event, &timer));
    printf(" settime %d", timer_settime(timer, 0, &tick, NULL));
    if (spins) spin_for(SIGRTMIN + 1); else wait_for(SIGRTMIN + 1, 2);
    timer_gettime(timer, &left);
    printf(" interval %ld", left.it_interval.tv_nsec);
    printf(" signal %d code %d value %d overrun >= 0 %d", number - SIGRTMIN, code, value, timer_getoverrun(timer) >= 0);
    printf(" delete %d", timer_delete(timer));
    int again = timer_delete(timer);
    printf(" again %d %d\n", again, errno);
}

static void overrun(void) {
    sigset_t set;
    struct sigevent event = {0};
    struct itimerspec tick = {{0, 1000000}, {0, 1000000}}, past = {{0, 0}, {1, 0}};
    event.sigev_signo = SIGUSR1;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    printf("create %d", timer_create(CLOCK_MONOTONIC, &event, &missing));
    timer_settime(missing, 0, &tick, NULL);
    struct timespec nap = {0, 30000000};
    nanosleep(&nap, NULL);
    seen[SIGUSR1] = 0;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    while (missed < 0) pause();
    printf(" missed %d\n", missed > 3);
    timer_settime(missing, TIMER_ABSTIME, &past, NULL);
    while (seen[SIGUSR1] < 2) pause();
    printf("a moment that is past %d\n", seen[SIGUSR1] >= 2);
}

#define REFUSED(what, call) do { int got = call; printf("%s %d %d ", what, got, errno); } while (0)

static void errors(void) {
    struct itimerval bad = {{0, 0}, {0, 1000000}};
    struct itimerspec late = {{0, 0}, {0, 1000000000}};
    struct sigevent event = {0};
    timer_t timer;
    REFUSED("which", setitimer(9, &bad, NULL));
    REFUSED("usec", setitimer(0, &bad, NULL));
    REFUSED("clock", timer_create(99, NULL, &timer));
    event.sigev_signo = 65;
    REFUSED("signal", timer_create(0, &event, &timer));
    event.sigev_notify = SIGEV_NONE;
    printf("none %d ", timer_create(0, &event, &timer));
    REFUSED("nsec", timer_settime(timer, 0, &late, NULL));
    printf("delete %d\n", timer_delete(timer));
    printf("alarm %u", alarm(100));
    printf(" %u\n", alarm(0));
}

static void queued(void) {
    sigset_t all;
    union sigval with;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int i = 0; i < 5; i++) {
        with.sival_int = 10 + i;
        printf("%d", sigqueue(getpid(), SIGRTMIN + 3, with));
        kill(getpid(), SIGUSR2);
    }
    struct timespec none = {0, 0};
    siginfo_t info;
    int n;
    while ((n = sigtimedwait(&all, &info, &none)) > 0)
        if (info.si_code != SI_TIMER) /* of the timer before, which may be late */
            printf(" %d:%d:%d", n, info.si_code, n == SIGUSR2 ? 0 : info.si_value.sival_int);
    printf("\n");
    sigemptyset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
}

int main(void) {
    struct sigaction action = {0};
    action.sa_sigaction = on;
    action.sa_flags = SA_SIGINFO;
    for (int n = 1; n < 65; n++) sigaction(n, &action, NULL);
    interval(ITIMER_REAL, SIGALRM, 0);
    interval(ITIMER_REAL, SIGALRM, 1);
    interval(ITIMER_VIRTUAL, SIGVTALRM, 1);
    interval(ITIMER_PROF, SIGPROF, 1);
    made(CLOCK_MONOTONIC, 0);
    made(CLOCK_REALTIME, 1);
    made(CLOCK_PROCESS_CPUTIME_ID, 1);
    overrun();
    errors();
    queued();
    ignored();
    return 7;
}
