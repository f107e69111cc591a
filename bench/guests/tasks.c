// What tasks cost: `tasks WHAT COUNT` does one thing so often. fork: a child that executes /bin/true is waited for;
// yield: two processes let each other run, alone: one lets nobody; pipe: two processes hand a byte to each other;
// futex: two threads wake each other; threads: so many threads that all wait at once.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int word, count;
static pthread_barrier_t barrier;

static void wait_for(int value) {
    while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) != value)
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, !value, 0, 0, 0);
}

static void set(int value) {
    __atomic_store_n(&word, value, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

static void *answer(void *unused) {
    for (int round = 0; round < count; round++) {
        wait_for(1);
        set(0);
    }
    return unused;
}

static void *meet(void *unused) {
    pthread_barrier_wait(&barrier);
    return unused;
}

static void hand_over(int in, int out, int first) {
    char byte = 0;
    for (int round = 0; round < count; round++) {
        if (first) write(out, &byte, 1);
        read(in, &byte, 1);
        if (!first) write(out, &byte, 1);
    }
}

int main(int words, char **what) {
    (void)words, count = atoi(what[2]);
    if (!strcmp(what[1], "fork")) {
        for (int round = 0; round < count; round++) {
            if (!fork()) execl("/bin/true", "true", (char *)0), _exit(1);
            wait(0);
        }
    } else if (!strcmp(what[1], "yield") || !strcmp(what[1], "alone")) {
        int child = what[1][0] == 'y' && fork() == 0;
        for (int round = 0; round < count; round++) sched_yield();
        if (child) _exit(0);
        wait(0);
    } else if (!strcmp(what[1], "pipe")) {
        int there[2], back[2];
        if (pipe(there) || pipe(back)) return 1;
        if (!fork()) hand_over(there[0], back[1], 0), _exit(0);
        hand_over(back[0], there[1], 1);
        wait(0);
    } else if (!strcmp(what[1], "futex")) {
        pthread_t thread;
        pthread_create(&thread, 0, answer, 0);
        for (int round = 0; round < count; round++) {
            set(1);
            wait_for(0);
        }
        pthread_join(thread, 0);
    } else if (count) {
        pthread_t *threads = calloc(count, sizeof *threads);
        pthread_barrier_init(&barrier, 0, count + 1);
        for (int number = 0; number < count; number++) pthread_create(&threads[number], 0, meet, 0);
        pthread_barrier_wait(&barrier);
        for (int number = 0; number < count; number++) pthread_join(threads[number], 0);
    }
    return 0;
}
