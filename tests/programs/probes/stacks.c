/* The stack: deep recursion grows it down, large automatic arrays, a handler of its overflow. argv[1] chooses. */
#define _GNU_SOURCE
#include <alloca.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static sigjmp_buf back;
static char *lowest;
static volatile int caught, code;

static unsigned descend(unsigned depth) {
    volatile unsigned char room[512];
    memset((void *)room, (int)depth, sizeof room);
    lowest = (char *)room;
    if (!depth) return 0;
    unsigned below = descend(depth - 1);
    return below * 17 + room[depth % sizeof room] + room[511];
}

#pragma GCC diagnostic ignored "-Winfinite-recursion"
static int endless(int n) {
    volatile char room[4096];
    room[0] = (char)n;
    room[4095] = 1;
    return endless(n + 1) + room[0] + room[4095];
}

static void on_overflow(int n, siginfo_t *info, void *context) {
    (void)context;
    caught = n;
    code = info->si_code;
    siglongjmp(back, 1);
}

static void automatic(void) {
    size_t size = 5 << 20;
    unsigned char *room = alloca(size);
    unsigned total = 0;
    /* from the far end first: the page is megabytes below the last one that was touched */
    for (size_t i = 0; i < size; i += 4000) room[i] = (unsigned char)(i / 4000);
    for (size_t i = 0; i < size; i += 4000) total += room[i];
    printf("alloca of 5 MiB %u\n", total);
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IOLBF, 0);
    struct rlimit limit;
    getrlimit(RLIMIT_STACK, &limit);
    printf("limit %ld\n", (long)limit.rlim_cur);
    char *top = (char *)&limit;
    printf("descend %u", descend(10000));
    printf(" used %d MiB\n", (int)((top - lowest) >> 20));
    printf("again %u\n", descend(100));
    automatic();
    if (argc > 1 && !strcmp(argv[1], "overflow")) return endless(0);
    stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
    sigaltstack(&stack, 0);
    struct sigaction action = {.sa_sigaction = on_overflow, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, 0);
    if (!sigsetjmp(back, 1)) endless(0);
    printf("overflow caught %d code %d\n", caught, code);
    caught = 0;
    if (!sigsetjmp(back, 1)) endless(0);
    printf("overflow caught again %d\n", caught);
    action.sa_flags = SA_SIGINFO; /* no room for the handler's frame: the second fault kills */
    sigaction(SIGSEGV, &action, 0);
    if (argc > 1 && !strcmp(argv[1], "no-altstack")) endless(0);
    return 4;
}
