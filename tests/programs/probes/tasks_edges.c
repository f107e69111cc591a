/* Waits that are out of the ordinary: what cannot be watched, more descriptors than there is room for, late signals. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void *waits(void *argument)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return (void *)(long)sigwaitinfo(&set, 0);
}

static void *other(void *argument)
{
    usleep(2000);
    kill(getpid(), SIGUSR2);
    return argument;
}

int main(int number, char **words)
{
    int ends[2], file = open(words[0], O_RDONLY);
    (void)number;
    struct pollfd mixed[2] = {{file, 0}, {0, 0}};
    struct rlimit limit;
    sigset_t set;
    pthread_t one, two;
    void *result;
    pipe(ends);
    mixed[1].fd = ends[0];
    mixed[1].events = POLLIN;
    printf("regular %d\n", poll(mixed, 1, 5));
    printf("mixed %d\n", poll(mixed, 2, 5));

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 6000 ? limit.rlim_max : 6000;
    setrlimit(RLIMIT_NOFILE, &limit);
    struct pollfd *many = calloc(limit.rlim_cur, sizeof *many);
    int count = 0, found;
    while (count + 50 < (int)limit.rlim_cur && (found = dup(ends[0])) >= 0)
        many[count++] = (struct pollfd){found, POLLIN};
    fflush(stdout);
    if (!fork()) {
        usleep(3000);
        write(ends[1], "x", 1);
        _exit(0);
    }
    printf("many %d\n", poll(many, count, -1) == count);
    wait(0);

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    pthread_create(&one, 0, waits, 0);
    pthread_create(&two, 0, other, 0);
    pthread_join(one, &result);
    pthread_join(two, 0);
    printf("late %d\n", (long)result == SIGUSR2);
    return 0;
}
