/*
 * Reads memory at random and says how fast: random_read PAGES READS
 *
 * PAGES (a power of two) of 4096 bytes are mapped and touched; then READS 8-byte reads go to addresses from a
 * linear congruential generator. No read waits for the one before. Prints one line a phase, in millions a second.
 * The loop is eight instructions between read_loop and read_loop_end; test_random_access.py runs the same bytes in
 * plain Unicorn.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

uint64_t read_loop(void *base, uint64_t mask, uint64_t reads);
extern char read_loop_end[];

/* rdi base, rsi mask, rdx reads */
__asm__(
    ".globl read_loop, read_loop_end\n"
    ".p2align 6\n"
    "read_loop:\n"
    "    movabs $6364136223846793005, %r8\n"
    "    movabs $1442695040888963407, %r9\n"
    "    xor %eax, %eax\n"
    "    mov %rdx, %rcx\n"
    "1:  imul %r8, %rax\n"
    "    add %r9, %rax\n"
    "    mov %rax, %rdx\n"
    "    shr $30, %rdx\n"
    "    and %rsi, %rdx\n"
    "    add (%rdi,%rdx), %r10\n"
    "    dec %rcx\n"
    "    jnz 1b\n"
    "read_loop_end:\n"
    "    mov %r10, %rax\n"
    "    ret\n");

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    uint64_t pages = strtoull(argv[1], 0, 10), reads = strtoull(argv[2], 0, 10);
    char *base = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || pages & (pages - 1))
        return 3;
    double start = now();
    for (uint64_t n = 0; n < pages; n++)
        base[n * 4096] = 1;
    double touched = now();
    read_loop(base, pages * 4096 - 8, reads);
    double end = now();
    printf("touch %.6f\nread %.6f\n", pages / (touched - start) / 1e6, reads / (end - touched) / 1e6);
    return 0;
}
