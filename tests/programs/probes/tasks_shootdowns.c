// Threads that look at a page while another changes what is mapped there: each sees the new one as soon as it may.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

enum { THREADS = 3, ROUNDS = 40, PAGES = 3, SIZE = 4096 };
static atomic_int round_now, seen[THREADS];
static char *volatile pages;
static atomic_long wrong;

static void *look(void *number) {
    int self = (int)(long)number;
    for (int round = 1; round <= ROUNDS; round++) {
        while (atomic_load(&round_now) < round)
            ;  // no call of the kernel: only an interrupt reaches this vCPU
        for (int page = 0; page < PAGES; page++)
            if (pages[page * SIZE] != (char)round) atomic_fetch_add(&wrong, 1);
        atomic_store(&seen[self], round);
    }
    return 0;
}

int main(void) {
    pthread_t threads[THREADS];
    pages = mmap(0, PAGES * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long number = 0; number < THREADS; number++) pthread_create(&threads[number], 0, look, (void *)number);
    for (int round = 1; round <= ROUNDS; round++) {
        // In other frames than before: those are in use until the new pages take their place.
        char *fresh = mmap(0, PAGES * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int page = 0; page < PAGES; page++) fresh[page * SIZE] = (char)round;
        mprotect(fresh, PAGES * SIZE, PROT_READ);
        mremap(fresh, PAGES * SIZE, PAGES * SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)pages);
        atomic_store(&round_now, round);
        for (int number = 0; number < THREADS; number++)
            while (atomic_load(&seen[number]) < round)
                ;
    }
    for (int number = 0; number < THREADS; number++) pthread_join(threads[number], 0);
    printf("wrong %ld\n", atomic_load(&wrong));
    return 0;
}
