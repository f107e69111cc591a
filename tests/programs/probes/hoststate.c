/* Changes all that a process may change of what it shares with others, or of itself, and leaves it so.
 * Descriptor 0 is a terminal, 5 a pipe, 6 a file. Its status is the number of the first call that failed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <grp.h>
#include <mqueue.h>

static void must(int line, long result)
{
    if (result < 0)
        _exit(line);
}
#define MUST(call) must(__COUNTER__ + 1, (long)(call))

static void quiet(int number)
{
    (void)number;
}

int main(void)
{
    struct termios modes;
    struct winsize window = {7, 77, 0, 0};
    struct itimerval soon = {{1000, 0}, {1000, 0}};
    struct itimerspec later = {{1000, 0}, {1000, 0}};
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    struct rlimit limit;
    timer_t timer;
    sigset_t all;

    MUST(fcntl(0, F_SETFL, O_RDWR | O_NONBLOCK | O_ASYNC));
    MUST(fcntl(0, F_SETOWN, getpid()));
    MUST(fcntl(0, F_SETSIG, SIGUSR2));
    MUST(fcntl(5, F_SETFL, O_NONBLOCK));
    MUST(fcntl(5, F_SETOWN, getpid()));
    MUST(ioctl(1, FIONBIO, &(int){1}));
    MUST(tcgetattr(0, &modes));
    cfmakeraw(&modes);
    MUST(tcsetattr(0, TCSANOW, &modes));
    MUST(ioctl(0, TIOCSWINSZ, &window));
    MUST(chdir("/"));
    umask(0);
    MUST(open("/dev/null", O_RDWR));
    MUST(creat("/dev/null", 0666));
    MUST(open("/tmp", O_RDONLY | O_DIRECTORY));
    MUST(dup2(0, 60));
    MUST(fcntl(6, F_DUPFD, 70));
    MUST(pipe((int[2]){0, 0}));
    MUST(epoll_create1(0));
    int left = timerfd_create(CLOCK_MONOTONIC, 0);
    MUST(left);
    MUST(timerfd_settime(left, 0, &later, 0));
    MUST(signalfd(-1, &(sigset_t){0}, 0));
    MUST(mq_open("/left", O_CREAT | O_RDWR, 0600, 0));
    MUST(shmat(shmget(0x51, 4096, IPC_CREAT | 0600), 0, 0));
    MUST(semget(0x51, 3, IPC_CREAT | 0600));
    MUST(msgget(0x51, IPC_CREAT | 0600));
    MUST(memfd_create("left", 0));
    MUST(fcntl(6, F_SETLK, &lock));
    MUST(lockf(6, F_TLOCK, 1));
    MUST(setpriority(PRIO_PROCESS, 0, 7));
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 90;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    MUST(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}));
    MUST(setitimer(ITIMER_REAL, &soon, 0));
    MUST(setitimer(ITIMER_VIRTUAL, &soon, 0));
    MUST(setitimer(ITIMER_PROF, &soon, 0));
    MUST(timer_create(CLOCK_MONOTONIC, 0, &timer));
    MUST(timer_settime(timer, 0, &later, 0));
    for (int number = 1; number < 65; number++)
        signal(number, number % 2 ? SIG_IGN : quiet);
    sigfillset(&all);
    MUST(sigprocmask(SIG_SETMASK, &all, 0));
    MUST(sigaltstack(&(stack_t){malloc(65536), 0, 65536}, 0));
    MUST(prctl(PR_SET_NAME, "another"));
    MUST(prctl(PR_SET_DUMPABLE, 0));
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
    MUST(prctl(PR_SET_TIMERSLACK, 1));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    MUST(mlockall(MCL_CURRENT | MCL_FUTURE));
    MUST(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}));
    MUST(close(2));
    MUST(dup2(5, 7));
    if (geteuid() == 0) {
        MUST(setgroups(1, (gid_t[]){1234}));
        MUST(setresgid(1000, 1001, 1002));
        MUST(setresuid(1000, 1001, 1002));
    }
    return 0;
}
