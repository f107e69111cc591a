/* Signals among threads and processes: groups, queues, masks, stops, waiting for them. */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t count;
static pthread_t first;
static volatile int by_first;

static void note(int number)
{
    (void)number;
    count++;
    by_first = pthread_equal(pthread_self(), first);
}

static void *blocks(void *argument)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    for (int n = 0; n < 3; n++) {
        sigwaitinfo(&set, &info);
        printf("%d ", info.si_value.sival_int);
    }
    printf("\n");
    return argument;
}

int main(void)
{
    struct sigaction action = {.sa_handler = note};
    sigset_t set, pending;
    pthread_t thread;
    int status;
    char byte;
    first = pthread_self();
    sigaction(SIGUSR1, &action, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    for (int n = 0; n < 3; n++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){n});
    pthread_create(&thread, 0, blocks, 0);
    pthread_join(thread, 0);
    pthread_kill(pthread_self(), SIGUSR1);
    printf("%d %d\n", count, by_first);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        setpgid(0, 0);
        for (;;)
            pause();
    }
    setpgid(child, child);
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    printf("stopped %d %d\n", WIFSTOPPED(status), WSTOPSIG(status));
    kill(-child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    printf("continued %d\n", WIFCONTINUED(status));
    kill(-child, SIGTERM);
    waitpid(child, &status, 0);
    printf("ended %d\n", WTERMSIG(status));
    int ends[2];
    pipe(ends);
    fflush(stdout);
    pid_t parent = getpid();
    if (!fork()) {
        usleep(1000);
        kill(parent, SIGUSR1);
        usleep(100000);
        _exit(0);
    }
    long result = read(ends[0], &byte, 1);
    printf("%ld %d %d\n", result, errno == EINTR, count);
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, 0);
    fflush(stdout);
    if (!fork()) {
        usleep(1000);
        kill(parent, SIGUSR1);
        usleep(1000);
        write(ends[1], "x", 1);
        _exit(0);
    }
    printf("%zd", read(ends[0], &byte, 1));
    printf(" %c %d\n", byte, count);
    while (wait(0) > 0)
        ;
    signal(SIGCHLD, SIG_IGN);
    if (!fork())
        _exit(0);
    printf("%d %d\n", wait(0), errno == ECHILD);
    sigpending(&pending);
    return sigismember(&pending, SIGUSR1);
}
