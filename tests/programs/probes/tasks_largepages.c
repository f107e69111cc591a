// Large pages by advice: what the program reads and writes, what smaps says, through fork, mprotect and collapse.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE (2UL << 20)
static char *area;

// How many MiB smaps says are large in the area.
static long large(void) {
    char line[256];
    unsigned long from, to;
    long found = 0, here = 0, kib;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    while (fgets(line, sizeof line, smaps)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') < line + 17)
            here = (char *)to > area && (char *)from < area + 4 * LARGE;
        else if (here && sscanf(line, "AnonHugePages: %ld", &kib) == 1)
            found += kib;
    }
    fclose(smaps);
    return found >> 10;
}

static unsigned sum(void) {
    unsigned total = 0;
    for (size_t at = 0; at < 4 * LARGE; at += 4096) total = total * 31 + (unsigned char)area[at];
    return total;
}

static void step(const char *what) { printf("%-9s large %ld sum %08x\n", what, large(), sum()); fflush(stdout); }

int main(void) {
    area = mmap(0, 5 * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    area = (char *)(((unsigned long)area + LARGE - 1) & -LARGE);
    madvise(area, 4 * LARGE, MADV_NOHUGEPAGE);
    memset(area, 1, 4096);
    madvise(area, 2 * LARGE, MADV_HUGEPAGE);
    for (size_t at = 0; at < 4 * LARGE; at += 4096) area[at] = at >> 12;
    step("advised");
    printf("collapse %d\n", madvise(area, LARGE, 25));
    step("collapsed");
    int status;
    if (!fork()) {
        step("child");
        area[5 * 4096] = 99;
        step("written");
        _exit(7);
    }
    wait(&status);
    step("parent");
    area[LARGE + 4096] = 77;
    step("written");
    mprotect(area + 4096, 4096, PROT_READ);
    step("parted");
    mprotect(area + 4096, 4096, PROT_READ | PROT_WRITE);
    printf("collapse %d\n", madvise(area, LARGE, 25));
    step("joined");
    munmap(area + LARGE, 4096);
    area[LARGE + 8192] = 5;
    printf("status %d unmapped %d\n", WEXITSTATUS(status), madvise(area + LARGE, 4096, MADV_HUGEPAGE) == -1 && errno == ENOMEM);
    char *huge = mmap(0, 2 * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (huge != MAP_FAILED) {
        memset(huge, 3, 2 * LARGE);
        int refused = munmap(huge + 4096, 4096) == -1 && errno == EINVAL;
        fprintf(stderr, "huge aligned %d refused %d\n", (unsigned long)huge % LARGE == 0, refused);
    }
    return 0;
}
