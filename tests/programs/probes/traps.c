/* Traps: instructions that ring 3 may not execute, software interrupts, selectors, the vsyscall page, 32-bit calls. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static unsigned char *code, *data; /* one page each, below 4 GiB */
static uint64_t out[16];

static void on_signal(int n, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    long at = r[REG_RIP] - (long)code;
    printf("signal %d code %d trap %lld error %llx ", n, info->si_code, r[REG_TRAPNO], r[REG_ERR]);
    printf("rip %lx address %lx ", at >= 0 && at < 4096 ? at : r[REG_RIP] < 0 ? r[REG_RIP] : 0, (long)info->si_addr - (info->si_addr ? (long)code : 0));
    if (at < 0 || at >= 4096) {
        printf("\n");
        siglongjmp(back, 1);
    }
    printf("rax %llx rcx %llx rdx %llx rsi %llx r11 %llx flags %llx\n", r[REG_RAX], r[REG_RCX], r[REG_RDX],
           r[REG_RSI] - (long)data, r[REG_R11], r[REG_EFL] & 0xcd5);
    siglongjmp(back, 1);
}

/* Registers at the start: flags CF, ZF and SF; then the bytes; then ret. What returns says so. */
static void run(const char *what, const char *bytes, int length, long rax, long rdx) {
    memcpy(code, bytes, length);
    code[length] = 0xc3;
    memset(data, 0x5a, 64);
    printf("%s: ", what);
    if (sigsetjmp(back, 1) == 0) {
        long rcx = 3, rsi = (long)data, rdi = (long)data;
        register long r11 __asm__("r11") = 0x1111;
        __asm__ volatile("movq %[saved], %%r10; movb $0xc1, %%ah; sahf; movq %%r10, %%rax; call *%%rbx"
                         : "+a"(rax), "+c"(rcx), "+d"(rdx), "+S"(rsi), "+D"(rdi), "+r"(r11)
                         : "b"(code), [saved] "r"(rax)
                         : "r8", "r9", "r10", "memory", "cc");
        printf("returned rax %lx rcx %lx rdx %lx r11 %lx\n", rax, rcx, rdx, r11);
    }
}
#define RUN(bytes, rax, rdx) run(#bytes, bytes, sizeof bytes - 1, rax, rdx)

static void ports(void) {
    RUN("\xe4\x80", 0x1234, 0x80);                /* in al, 0x80 */
    RUN("\xe5\x80", 0x1234, 0x80);
    RUN("\xec", 0x1234, 0x80);
    RUN("\x66\xed", 0x1234, 0x80);
    RUN("\xed", 0x1234, 0x80);
    RUN("\xe6\x80", 0x1234, 0x80);
    RUN("\xe7\x80", 0x1234, 0x80);
    RUN("\xee", 0x1234, 0x80);
    RUN("\xef", 0x1234, 0x80);
    RUN("\x90\x90\xee", 0x1234, 0x80);            /* in the middle of a block */
    RUN("\x50\x58\xec\x90", 0x1234, 0x80);
    RUN("\x6e", 0x1234, 0x80);                    /* outsb */
    RUN("\xf3\x6f", 0x1234, 0x80);                /* rep outsd */
    RUN("\xfa", 0, 0);                            /* cli */
    RUN("\xf4", 0, 0);                            /* hlt */
}

static void interrupts(void) {
    for (int n = 0; n < 256; n++) {
        char bytes[2] = {(char)0xcd, (char)n};
        char what[16];
        sprintf(what, "int %x", n);
        if (n != 0x80) run(what, bytes, 2, 5, 6);
    }
    RUN("\xcc", 1, 2);
    RUN("\xcd\x0d\xf4", 1, 2);
    RUN("\xeb\x02\xcd\x0d\xf4", 1, 2);            /* a fault behind the bytes of a software interrupt */
    if (!getenv("NO_INT1")) {
        RUN("\xf1", 1, 2);
        RUN("\x48\xf1", 1, 2);
    }
    RUN("\xf0\xf1", 1, 2);
    RUN("\x0f\x33", 1, 2);                        /* rdpmc */
    RUN("\x66\x0f\x33", 1, 2);
    RUN("\x0f\x32", 1, 2);                        /* rdmsr */
    RUN("\x0f\x0b", 1, 2);
}

static void selectors(void) {
    static const char *names[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    static const int values[] = {0, 1, 3, 4, 7, 8, 0x10, 0x18, 0x1b, 0x28, 0x2a, 0x2b, 0x2f, 0x30, 0x33, 0x37, 0x43, 0x63,
                                 0x7b, 0x7c, 0x80, 0x1003, 0xfff8, 0xffff};
    long fs;
    __asm__ volatile("mov %%fs, %0" : "=r"(fs));
    for (int s = 0; s < 6; s++)
        for (int i = 0; i < (int)(sizeof values / sizeof *values); i++) {
            if (s == 4) continue; /* where the C library keeps its thread */
            char bytes[2] = {(char)0x8e, (char)(0xc0 | s << 3)};
            char what[32];
            sprintf(what, "%s = %x", names[s], values[i]);
            run(what, bytes, 2, values[i], 6);
            long now[4];
            __asm__ volatile("mov %%es, %0; mov %%ss, %1; mov %%ds, %2; mov %%gs, %3" : "=r"(now[0]), "=r"(now[1]), "=r"(now[2]), "=r"(now[3]));
            for (int k = 0; k < 4; k++) now[k] = now[k] < 4 ? 0 : now[k]; /* an interrupt makes any null selector 0 */
            printf("  es %lx ss %lx ds %lx gs %lx\n", now[0], now[1], now[2], now[3]);
        }
    __asm__ volatile("mov %0, %%es; mov %0, %%ds; mov %0, %%gs" ::"r"(0));
    RUN("\x8e\x1e", 0, 0);                          /* mov ds, [rsi]: 0x5a5a */
    RUN("\x6a\x2b\x0f\xa9", 0, 0);                  /* push 0x2b; pop gs */
    RUN("\x6a\x33\x68\x00\x00\x00\x00\x48\xcb", 0, 0); /* lretq to address 0 */
#define LAR "\x0f\x02\xc2\x25\x00\xff\xf0\x00" /* lar eax, edx; and eax, what is defined of it */
    RUN(LAR, 0x77, 0x2b);
    RUN(LAR, 0x77, 0x10);
    RUN(LAR, 0x77, 0x33);
    RUN(LAR, 0x77, 0x1234);
    RUN("\x0f\x03\xc2", 0x77, 0x2b);                /* lsl */
    RUN("\x0f\x00\xe2", 0x77, 0x2b);                /* verr */
    RUN("\x0f\x00\xea", 0x77, 0x33);                /* verw */
}

static void far_returns(void) {
    uint64_t spot;
    __asm__ volatile("lea 1f(%%rip), %%rax; pushq $0x33; pushq %%rax; lretq; 1: mov %%cs, %0" : "=r"(spot)::"rax", "memory");
    printf("lretq to cs %lx\n", (long)spot);
    __asm__ volatile("mov %%rsp, %%rcx; pushq $0x2b; pushq %%rcx; pushfq; pushq $0x33; lea 1f(%%rip), %%rax; pushq %%rax; iretq; 1: mov %%ss, %0"
                     : "=r"(spot)::"rax", "rcx", "memory");
    printf("iretq to ss %lx\n", (long)spot);
}

static long int80(long nr, long b, long c, long d, long s, long di) {
    register long r8 __asm__("r8") = 0x8888888888888888, r9 __asm__("r9") = 0x9999999999999999;
    register long r10 __asm__("r10") = 0xaaaaaaaaaaaaaaaa, r11 __asm__("r11") = 0xbbbbbbbbbbbbbbbb;
    long b0 = b, c0 = c, d0 = d;
    __asm__ volatile("int $0x80" : "+a"(nr), "+b"(b), "+c"(c), "+d"(d), "+S"(s), "+D"(di), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11)::"memory", "cc");
    if (b != b0 || c != c0 || d != d0) printf("arguments changed\n");
    printf("r8 %lx r9 %lx r10 %lx r11 %lx: ", r8, r9, r10, r11);
    return nr;
}

static void legacy(void) {
    memcpy(data, "through int 0x80\n", 17);
    fflush(stdout);
    printf("getpid %d\n", int80(20, 0, 0, 0, 0, 0) == getpid());
    printf("upper half %d\n", int80(0x500000000 | 20, 0, 0, 0, 0, 0) == getpid());
    printf("write %ld\n", int80(4, 0x700000001, (long)data, 17, 0, 0));
    printf("write at a high address %ld\n", int80(4, 1, (long)data | 1L << 40, 17, 0, 0));
    printf("close of none %ld\n", int80(6, 12345, 0, 0, 0, 0));
    printf("none %ld\n", int80(9999, 0, 0, 0, 0, 0));
    printf("negative %ld\n", int80(-1, 0, 0, 0, 0, 0));
    printf("break %ld\n", int80(17, 0, 0, 0, 0, 0));
    long first = int80(45, 0, 0, 0, 0, 0);
    printf("brk %d\n", (uint32_t)first == (uint32_t)(long)sbrk(0));
    printf("getuid32 %d\n", int80(199, 0, 0, 0, 0, 0) == getuid());
    printf("getcwd %ld\n", int80(183, (long)data, 1, 0, 0, 0));
    printf("kill %ld\n", int80(37, getpid(), 0, 0, 0, 0));
    printf("umask %ld\n", int80(60, 022, 0, 0, 0, 0));
    int80(60, 022, 0, 0, 0, 0);
    printf("dup %ld\n", int80(6, int80(41, 1, 0, 0, 0, 0), 0, 0, 0, 0));
}

typedef long (*vsyscall)(void *, void *);
static const vsyscall vgettimeofday = (vsyscall)0xffffffffff600000, vtime = (vsyscall)0xffffffffff600400;
static const vsyscall vgetcpu = (vsyscall)0xffffffffff600800;

static void vsyscalls(void) {
    struct timeval now, then;
    unsigned cpu = 99, node = 99;
    printf("gettimeofday %ld", vgettimeofday(&now, 0));
    gettimeofday(&then, 0);
    long apart = then.tv_sec - now.tv_sec;
    printf(" apart %d\n", apart < 0 || apart > 1000);
    apart = vtime(&now.tv_sec, 0) - then.tv_sec;
    printf("time apart %d stored %d\n", apart < -1 || apart > 1000, now.tv_sec - then.tv_sec == apart);
    printf("time without a place %d\n", vtime(0, 0) >= then.tv_sec - 1);
    printf("getcpu %ld", vgetcpu(&cpu, &node));
    printf(" known %d\n", cpu < 4096 && node < 64);
    if (!sigsetjmp(back, 1)) printf("misaligned %ld\n", ((vsyscall)0xffffffffff600010)(0, 0));
    if (!sigsetjmp(back, 1)) printf("the fourth %ld\n", ((vsyscall)0xffffffffff600c00)(0, 0));
    if (!sigsetjmp(back, 1)) printf("bad pointer %ld\n", vtime((void *)8, 0));
    if (!sigsetjmp(back, 1)) printf("read %d\n", *(volatile char *)vtime);
    if (!sigsetjmp(back, 1)) *(volatile char *)vtime = 0;
    char line[256];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "vsyscall")) printf("%s", line);
    fclose(maps);
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IOLBF, 0);
    code = mmap((void *)0x20000000, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    data = mmap((void *)0x20010000, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    int all[] = {SIGSEGV, SIGILL, SIGTRAP, SIGBUS, SIGFPE};
    for (int i = 0; i < 5; i++) sigaction(all[i], &action, 0);
    ports();
    interrupts();
    selectors();
    far_returns();
    legacy();
    vsyscalls();
    return 3;
}
