/* Code that changes: written and called in an RWX mapping, flipped W and X with mprotect, patched in its own page,
   remapped at the same address, and seen through two mappings of one file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
typedef int (*function)(void);

static void emit(unsigned char *at, int value) { /* mov eax, value; ret */
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static void rewritten(void) {
    unsigned char *p = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long total = 0;
    for (int i = 0; i < 200; i++) {
        emit(p, i);
        total = total * 3 + ((function)p)();
    }
    printf("rewritten 200 times %ld\n", total);
    total = 0;
    for (int i = 0; i < 50; i++) { /* across the page boundary, a byte of the operand in the second page */
        emit(p + PAGE - 3, i * 65537);
        total = total * 3 + ((function)(p + PAGE - 3))();
        memcpy(p + PAGE, &(char){(char)i}, 1);
        total += ((function)(p + PAGE - 3))();
    }
    printf("across a page %ld\n", total);
    munmap(p, 2 * PAGE);
}

static void flipped(void) {
    unsigned char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long total = 0;
    for (int i = 0; i < 60; i++) {
        mprotect(p, PAGE, PROT_READ | PROT_WRITE);
        emit(p + 64, i * 7);
        mprotect(p, PAGE, PROT_READ | PROT_EXEC);
        for (int k = 0; k < 3; k++) total = total * 3 + ((function)(p + 64))();
    }
    printf("flipped 60 times %ld\n", total);
}

/* mov ecx, 5; L: add eax, imm8; inc byte [rip - 7 + 3]; loop L: patches the add that runs next. */
static void in_its_own_block(void) {
    static const unsigned char code[] = {0x31, 0xc0, 0xb9, 5, 0, 0, 0, 0x83, 0xc0, 1, 0xfe, 0x05, 0xf9, 0xff, 0xff, 0xff,
                                         0xff, 0xc9, 0x75, 0xf3, 0xc3};
    unsigned char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(p, code, sizeof code);
    printf("patches itself %d", ((function)p)());
    printf(" %d immediate %d\n", ((function)p)(), p[9]);
}

static void remapped(void) {
    int total = 0;
    unsigned char *at = 0;
    for (int i = 1; i <= 20; i++) {
        unsigned char *p = mmap(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                                MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);
        emit(p, i * i);
        total = total * 3 + ((function)p)();
        at = p;
        munmap(p, PAGE);
    }
    printf("another page at the same address %d\n", total);
}

static void aliased(void) {
    int fd = open("selfmodify.dat", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (ftruncate(fd, PAGE)) return;
    unsigned char *w = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    unsigned char *x = mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    long total = 0;
    for (int i = 0; i < 40; i++) {
        emit(w + 32, i * 11);
        total = total * 3 + ((function)(x + 32))();
    }
    printf("written through one mapping, run through another %ld\n", total);
    emit(w + 32, 1000);
    unsigned char image[6];
    memcpy(image, w + 32, 6);
    emit(image, 2000);
    if (pwrite(fd, image, 6, 32) != 6) return;
    printf("written with pwrite %d\n", ((function)(x + 32))());
}

static void read_in(void) {
    unsigned char image[6], *p = mmap(0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int pipes[2], total = 0;
    if (pipe(pipes)) return;
    for (int i = 0; i < 10; i++) { /* the kernel writes the code */
        emit(image, i + 5);
        if (write(pipes[1], image, 6) != 6 || read(pipes[0], p, 6) != 6) return;
        total = total * 3 + ((function)p)();
    }
    printf("written by read(2) %d\n", total);
}

/* A store into a page of code beside the code, then one into it: with and without a right to execute meanwhile. */
static void beside(void) {
    int total = 0;
    unsigned char *p = mmap(0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 20; i++) {
        if (i & 1) mprotect(p, PAGE, PROT_READ | PROT_WRITE);
        *(volatile unsigned char *)(p + 100 + i) = i;
        emit(p, i * 7);
        if (i & 1) mprotect(p, PAGE, PROT_READ | PROT_EXEC);
        total = total * 3 + ((function)p)();
        if (i & 1) mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    }
    printf("written behind a store beside it %d\n", total);
}

int main(void) {
    beside();
    rewritten();
    flipped();
    in_its_own_block();
    remapped();
    aliased();
    read_in();
    return 0;
}
