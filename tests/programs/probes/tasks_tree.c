// A tree of processes with threads: each child writes what it shares with its parent while the parent does.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 2, PAGES = 3, SIZE = 4096 };
static int deepest;
static char page[PAGES * SIZE];

static void *flip(void *number) {
    for (long at = (long)number; at < PAGES * SIZE; at += 64) page[at] ^= 1;
    return 0;
}

static int grow(int depth) {
    pthread_t threads[THREADS];
    memset(page, depth, sizeof page);
    for (long number = 0; number < THREADS; number++) pthread_create(&threads[number], 0, flip, (void *)number);
    pid_t child = depth < deepest ? fork() : 0;  // the threads are halfway, or done, or have not begun
    if (depth < deepest && !child) _exit(grow(depth + 1));
    for (int number = 0; number < THREADS; number++) pthread_join(threads[number], 0);
    int status = 0, right = 1;
    if (child) waitpid(child, &status, 0);
    for (int at = 0; at < PAGES * SIZE; at++) right &= page[at] == (at % 64 < THREADS ? depth ^ 1 : depth);
    char line[64];
    int length = snprintf(line, sizeof line, "%d %d %s\n", depth, WEXITSTATUS(status), right ? "right" : "wrong");
    return write(1, line, length) == length ? depth : 99;
}

int main(int count, char **words) {
    deepest = count > 1 ? atoi(words[1]) : 3;
    return grow(0);
}
