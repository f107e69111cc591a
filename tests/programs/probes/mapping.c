/* mmap and its family: private and shared, file and anonymous, fixed, holes, mremap, partial last page. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096
static sigjmp_buf back;
static volatile int killed;
static void on_fault(int n) { killed = n; siglongjmp(back, 1); }

static int readable(volatile char *p) {
    killed = 0;
    if (!sigsetjmp(back, 1)) (void)*p;
    return killed;
}

static unsigned sum(const unsigned char *p, size_t n) {
    unsigned s = 0;
    for (size_t i = 0; i < n; i++) s = s * 31 + p[i];
    return s;
}

static void anonymous(void) {
    char *p = mmap(0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int zero = 1;
    for (int i = 0; i < 16 * PAGE; i++) zero &= p[i] == 0;
    for (int i = 0; i < 16; i++) p[i * PAGE] = i + 1;
    printf("anonymous zero=%d aligned=%d\n", zero, ((uintptr_t)p & (PAGE - 1)) == 0);
    printf("hole %d", munmap(p + 5 * PAGE, 3 * PAGE));
    for (int i = 0; i < 16; i++) printf(" %d", readable(p + i * PAGE));
    char *q = mmap(p + 5 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("\nfixed in the hole %d value %d\n", q == p + 5 * PAGE, q[0]);
    p[4 * PAGE + 7] = 9;
    char *r = mmap(p + 4 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("fixed over a page %d value %d\n", r == p + 4 * PAGE, r[7]);
    char *s = mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    printf("noreplace %d %d\n", s == MAP_FAILED, errno);
    printf("dontneed %d", madvise(p + 9 * PAGE, PAGE, MADV_DONTNEED));
    printf(" value %d neighbour %d\n", p[9 * PAGE], p[10 * PAGE]);
    printf("unmap all %d", munmap(p, 16 * PAGE));
    printf(" gone %d %d\n", readable(p), readable(p + 15 * PAGE));
}

static void file(void) {
    int fd = open("mapping.dat", O_RDWR | O_CREAT | O_TRUNC, 0600);
    char buffer[3 * PAGE];
    for (int i = 0; i < 3 * PAGE; i++) buffer[i] = i * 7 + i / 256;
    printf("write %zd\n", write(fd, buffer, 2 * PAGE + 100));
    unsigned char *p = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    unsigned char *s = mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    printf("private sum %u tail %d\n", sum(p, 3 * PAGE), p[2 * PAGE + 100]);
    p[10] = 99;
    s[20] = 77;
    printf("private sees %d %d shared sees %d\n", p[10], p[PAGE + 1], s[10]);
    char seen[32];
    printf("pread %zd", pread(fd, seen, 32, 0));
    printf(" %d %d\n", seen[10], seen[20]);
    pwrite(fd, "written", 7, PAGE + 50);
    printf("shared after pwrite %.7s\n", s + PAGE + 50);
    printf("beyond the end: private %d shared %d\n", readable((char *)p + 3 * PAGE), readable((char *)s + 2 * PAGE));
    unsigned char *m = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
    printf("offset %.7s\n", m + 50);
    printf("msync %d ftruncate %d", msync(s, 3 * PAGE, MS_SYNC), ftruncate(fd, PAGE));
    printf(" after truncation %d %d\n", readable((char *)s + PAGE), readable((char *)s));
    unsigned char *w = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, open("mapping.dat", O_RDONLY), 0);
    printf("shared write of a read-only file %d %d\n", w == MAP_FAILED, errno);
    struct stat st;
    fstat(fd, &st);
    printf("size %ld\n", (long)st.st_size);
    close(fd);
    printf("after close %d\n", s[20]);
}

static void remap(void) {
    unsigned char *p = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 8 * PAGE; i++) p[i] = i * 13 + i / PAGE;
    unsigned before = sum(p, 8 * PAGE);
    unsigned char *big = mremap(p, 8 * PAGE, 600 * PAGE, MREMAP_MAYMOVE);
    printf("grown same=%d zero=%d\n", sum(big, 8 * PAGE) == before, big[599 * PAGE]);
    unsigned char *small = mremap(big, 600 * PAGE, 2 * PAGE, 0);
    printf("shrunk in place %d tail %d\n", small == big, readable((char *)big + 2 * PAGE));
    unsigned char *target = mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *moved = mremap(small, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    printf("moved %d value %d old %d\n", moved == target, moved[PAGE + 1], readable((char *)small));
    printf("bad %d", mremap(target, 2 * PAGE, 4 * PAGE, 8) == MAP_FAILED);
    printf(" %d\n", errno);
}

static void wrong(void) {
    void *p = mmap(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("length 0: %d %d\n", p == MAP_FAILED, errno);
    p = mmap(0, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0);
    printf("no type: %d %d\n", p == MAP_FAILED, errno);
    p = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, 99, 0);
    printf("bad fd: %d %d\n", p == MAP_FAILED, errno);
    p = mmap((void *)1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("unaligned fixed: %d %d\n", p == MAP_FAILED, errno);
    p = mmap(0, (size_t)1 << 60, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("huge: %d %d\n", p == MAP_FAILED, errno);
    printf("munmap unaligned %d", munmap((void *)1, PAGE));
    printf(" %d\n", errno);
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    anonymous();
    file();
    remap();
    wrong();
    return 3;
}
