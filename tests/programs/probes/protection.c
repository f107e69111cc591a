/* mprotect, and what a SIGSEGV handler is told: signal, code, and the very byte that could not be reached. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define PAGE 4096
static sigjmp_buf back;
static volatile int signo, code;
static volatile long error;
static char *volatile address;
static char *base;

static void on_fault(int n, siginfo_t *info, void *context) {
    signo = n;
    code = info->si_code;
    address = info->si_addr;
    error = ((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR];
    siglongjmp(back, 1);
}

static void say(const char *what) {
    printf("%s: signal %d code %d", what, signo, code);
    if (signo) printf(" at %+ld error %ld", (long)(address - base), error);
    printf("\n");
    signo = code = 0;
}

#define TRY(what, act) do { if (!sigsetjmp(back, 1)) { act; } say(what); } while (0)

struct packed { uint64_t v; } __attribute__((packed));
static uint64_t load8(void *p) { return ((volatile struct packed *)p)->v; }
static void store8(void *p) { ((volatile struct packed *)p)->v = 5; }

static char *volatile repaired;
static void repair(int n, siginfo_t *info, void *context) {
    (void)n; (void)context;
    repaired = (char *)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1));
    mprotect(repaired, PAGE, PROT_READ | PROT_WRITE);
}

static void barriers(void) {
    struct sigaction action = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, 0);
    mprotect(base, 4 * PAGE, PROT_READ);
    int repairs = 0;
    for (int i = 0; i < 8; i++) {
        repaired = 0;
        base[i * PAGE / 2] = i;
        repairs += repaired != 0;
    }
    printf("write barrier repaired %d pages, kept", repairs);
    for (int i = 0; i < 8; i++) printf(" %d", base[i * PAGE / 2]);
    printf("\n");
}

static void refusals(void) {
    printf("mprotect unaligned %d", mprotect(base + 1, PAGE, PROT_READ));
    printf(" %d\n", errno);
    printf("mprotect of a hole %d", mprotect(base + 5 * PAGE, 2 * PAGE, PROT_READ));
    printf(" %d\n", errno);
    printf("mprotect nothing %d\n", mprotect(base, 0, PROT_READ));
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    base = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(base, 0xc3, 8 * PAGE); /* RET */
    munmap(base + 6 * PAGE, 2 * PAGE);
    TRY("read what is mapped", (void)*(volatile char *)base);
    mprotect(base + PAGE, PAGE, PROT_READ);
    TRY("write a read-only byte", *(volatile char *)(base + PAGE + 123) = 1);
    TRY("write 8 bytes into a read-only page", store8(base + PAGE + 121));
    TRY("write 8 bytes across into a read-only page", store8(base + PAGE - 3));
    mprotect(base + 2 * PAGE, PAGE, PROT_NONE);
    TRY("read PROT_NONE", (void)*(volatile char *)(base + 2 * PAGE + 77));
    TRY("write PROT_NONE", *(volatile char *)(base + 2 * PAGE + 78) = 1);
    TRY("read 8 bytes across into PROT_NONE", load8(base + 2 * PAGE - 5));
    TRY("read 8 bytes out of PROT_NONE", load8(base + 3 * PAGE - 5));
    TRY("read beyond the mapping", (void)*(volatile char *)(base + 6 * PAGE + 9));
    TRY("read 8 bytes across the end", load8(base + 6 * PAGE - 1));
    TRY("write 8 bytes across the end", store8(base + 6 * PAGE - 7));
    TRY("execute data", ((void (*)(void))(base + 16))());
    mprotect(base + 4 * PAGE, PAGE, PROT_READ | PROT_EXEC);
    TRY("execute what is executable", ((void (*)(void))(base + 4 * PAGE + 8))());
    TRY("execute beyond the mapping", ((void (*)(void))(base + 6 * PAGE + 32))());
    char *kept = base;
    base = 0;
    TRY("read address 16", (void)*(volatile char *)16);
    TRY("write a kernel address", *(volatile char *)0xffff800000000000 = 1);
    TRY("read a non-canonical address", (void)*(volatile char *)0x0000900000000000);
    TRY("jump to address 0", ((void (*)(void))0)());
    base = kept;
    mprotect(base + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE);
    TRY("write after the protection is lifted", *(base + PAGE + 5) = 1);
    barriers();
    refusals();
    return 0;
}
