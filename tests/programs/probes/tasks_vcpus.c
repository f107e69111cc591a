// What a program can learn of the vCPUs: how many there are, which one it is on, and that they run side by side.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void *count(void *unused) {
    for (volatile long step = 0; step < 200000; step++)
        ;
    return unused;
}

static long now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

int main(void) {
    pthread_t threads[4];
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    int vcpus = CPU_COUNT(&set);
    long elapsed = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
    for (int number = 0; number < 4; number++) pthread_create(&threads[number], 0, count, 0);
    for (int number = 0; number < 4; number++) pthread_join(threads[number], 0);
    elapsed = now(CLOCK_MONOTONIC) - elapsed, used = now(CLOCK_PROCESS_CPUTIME_ID) - used;
    int moved = 0;
    for (int number = 0; number < vcpus; number++) {
        CPU_ZERO(&set);
        CPU_SET(number, &set);
        moved += sched_setaffinity(0, sizeof set, &set) == 0 && sched_getcpu() == number;
    }
    CPU_ZERO(&set);
    CPU_SET(vcpus, &set);
    int refused = sched_setaffinity(0, sizeof set, &set) == -1 && errno == EINVAL;
    printf("vcpus %d moved %d refused %d side by side %ld\n", vcpus, moved, refused, (2 * used / elapsed + 1) / 2);
    return 0;
}
