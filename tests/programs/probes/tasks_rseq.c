// Restartable sequences: registration and its checks, numbers of the processor, sections that a signal or another
// thread breaks off, what fork, vfork and exec keep, and descriptors that are wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define SIGNATURE 0x53053053
#define THREADS 4
#define ROUNDS 3000

struct area { uint32_t start, cpu; uint64_t section; uint32_t flags, node, concurrent, unused; } __attribute__((aligned(32)));
struct section { uint32_t version, flags; uint64_t start, length, abort; } __attribute__((aligned(32)));

extern const ptrdiff_t __rseq_offset;
extern char spin_start[], spin_end[], spin_abort[], unsigned_abort[], add_start[], add_end[], add_abort[];
int spin(struct area *, struct section *);
int add(struct area *, struct section *, volatile long *counters, long offset);

asm(".text\n"
    "spin: movq %rsi, 8(%rdi)\n"
    "spin_start: pause\n jmp spin_start\n"
    "spin_end: movl $0, %eax\n ret\n"
    ".byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
    "spin_abort: movl $1, %eax\n ret\n"
    "nop\n nop\n nop\n nop\n"
    "unsigned_abort: movl $2, %eax\n ret\n"
    "add: movl (%rdi), %eax\n movq %rsi, 8(%rdi)\n"
    "add_start: cmpl %eax, 4(%rdi)\n jne add_other\n"
    "movl (%rdi,%rcx), %r8d\n"
    "movq (%rdx,%r8,8), %r9\n incq %r9\n jmp 1f\n1: movq %r9, (%rdx,%r8,8)\n"
    "add_end: movl $0, %eax\n ret\n"
    "add_other: movl $1, %eax\n ret\n"
    ".byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
    "add_abort: movl $1, %eax\n ret\n");

static struct section spinning, adding;
static struct area spare;
static volatile long counters[1024];
static volatile int signals, at_abort, stop, begun;

static struct area *own(void) { return (struct area *)((char *)__builtin_thread_pointer() + __rseq_offset); }

static long rseq(void *area, uint32_t length, int flags, uint32_t signature) {
    long result = syscall(SYS_rseq, area, length, flags, signature);
    return result ? -errno : 0;
}

static void handle(int number, siginfo_t *info, void *context) {
    signals++;
    at_abort += ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] == (long)spin_abort;
}

static void tell(void) {
    unsigned cpu = -1, node = -1;
    syscall(SYS_getcpu, &cpu, &node, 0);
    printf("registered %ld node %d\n", rseq(own(), 32, 0, SIGNATURE), own()->node == node);
    printf("concurrent %u section %lx flags %x\n", own()->concurrent, own()->section, own()->flags);
}

static void check(const char *name, void *area, uint32_t length, int flags, uint32_t signature) {
    printf("%s %ld\n", name, rseq(area, length, flags, signature));
}

static void checks(void) {
    check("again", own(), 32, 0, SIGNATURE);
    check("again: signature", own(), 32, 0, 1);
    check("again: length", own(), 64, 0, SIGNATURE);
    check("again: place", &spare, 32, 0, SIGNATURE);
    check("again: flags", own(), 32, 2, SIGNATURE);
    check("leave: flags", own(), 32, 3, SIGNATURE);
    check("leave: place", &spare, 32, 1, SIGNATURE);
    check("leave: nothing", 0, 32, 1, SIGNATURE);
    check("leave: length", own(), 64, 1, SIGNATURE);
    check("leave: signature", own(), 32, 1, 1);
    check("leave", own(), 32, 1, SIGNATURE);
    printf("left %x %x %x %x\n", own()->start, own()->cpu, own()->node, own()->concurrent);
    check("leave again", own(), 32, 1, SIGNATURE);
    check("misaligned", (char *)&spare + 16, 32, 0, SIGNATURE);
    check("short", &spare, 16, 0, SIGNATURE);
    check("long and misaligned", (char *)&spare + 8, 64, 0, SIGNATURE);
    check("the kernel's", (void *)0xffff800000000000, 32, 0, SIGNATURE);
    check("nobody's", (void *)64, 32, 0, SIGNATURE);
    check("another", &spare, 32, 0, 7);
    printf("numbers %d\n", spare.cpu == spare.start);
    check("leave it", &spare, 32, 1, 7);
    check("back", own(), 32, 0, SIGNATURE);
}

static void follows(void) {
    cpu_set_t all, one;
    int wrong = 0, seen = 0;
    sched_getaffinity(0, sizeof all, &all);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        unsigned real = -1, node = -1;
        syscall(SYS_getcpu, &real, &node, 0);
        wrong += own()->cpu != cpu || own()->start != cpu || own()->node != node || real != cpu || sched_getcpu() != cpu;
        seen++;
    }
    sched_setaffinity(0, sizeof all, &all);
    printf("follows %d wrong %d\n", seen == CPU_COUNT(&all), wrong);
}

static void by_signal(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    struct itimerval soon = {{0, 0}, {0, 2000}};
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &soon, 0);
    int turns = 0;  // whoever shares the processor may break it off first
    while (!signals) turns += spin(own(), &spinning);
    printf("broken off %d section %lx\n", turns > 0, own()->section);
    printf("signals %d at abort %d\n", signals, at_abort);
    own()->section = (uint64_t)&spinning;
    raise(SIGALRM);
    printf("outside %lx\n", own()->section);
}

static void *busy(void *unused) {
    begun = 1;
    while (!stop) asm volatile("pause");
    return unused;
}

static void by_others(void) {
    cpu_set_t all, one;
    pthread_t thread;
    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    pthread_create(&thread, 0, busy, 0);
    while (!begun) sched_yield();
    printf("preempted %d", spin(own(), &spinning));
    printf(" section %lx\n", own()->section);
    stop = 1;
    pthread_join(thread, 0);
    sched_setaffinity(0, sizeof all, &all);
}

static void *count(void *wrong) {
    long offset = getauxval(27) >= 28 ? 24 : 4;  // older kernels number vCPUs only
    for (int round = 0; round < ROUNDS; round++) {
        while (add(own(), &adding, counters, offset))
            ;
        if (own()->concurrent > THREADS) ++*(int *)wrong;
    }
    return 0;
}

static void by_all(void) {
    pthread_t threads[THREADS];
    int wrong[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, count, &wrong[i]);
    long sum = 0, far = 0;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], 0), far += wrong[i];
    for (int i = 0; i < 1024; i++) sum += counters[i];
    printf("counted %ld of %d, numbers too high %ld\n", sum, THREADS * ROUNDS, far);
}

static volatile int left;

static void *spins(void *unused) {
    begun = 1;
    while (!stop) left += spin(own(), &spinning);
    return unused;
}

static void by_barrier(void) {
    pthread_t thread;
    printf("barrier %ld", syscall(SYS_membarrier, 128, 0, 0));
    printf(" register %ld", syscall(SYS_membarrier, 256, 0, 0));
    printf(" all %ld one %ld no such %ld", syscall(SYS_membarrier, 128, 0, 0), syscall(SYS_membarrier, 128, 1, 0),
           syscall(SYS_membarrier, 128, 1, 5000));
    printf(" flags %ld other %ld\n", syscall(SYS_membarrier, 128, 2, 0), syscall(SYS_membarrier, 8, 1, 0));
    begun = stop = 0;
    pthread_create(&thread, 0, spins, 0);
    while (!begun) sched_yield();
    while (left < 3) syscall(SYS_membarrier, 128, 0, 0);
    stop = 1;
    syscall(SYS_membarrier, 128, 0, 0);
    while (pthread_tryjoin_np(thread, 0)) syscall(SYS_membarrier, 128, 0, 0);
    printf("sequences left %d\n", left >= 3);
}

static void ends(const char *name, struct section *section, uint32_t flags) {
    fflush(stdout);
    int status = 0, child = fork();
    if (!child) {
        own()->flags = flags;
        struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
        struct itimerval soon = {{0, 0}, {0, 2000}};
        sigaction(SIGALRM, &action, 0);
        setitimer(ITIMER_REAL, &soon, 0);
        spin(own(), section);
        _exit(9);
    }
    waitpid(child, &status, 0);
    printf("%s: signal %d status %d\n", name, WTERMSIG(status), WEXITSTATUS(status));
}

static void wrong_ones(void) {
    struct section other = spinning;
    ends("right", &other, 0);
    other.version = 1, ends("version", &other, 0), other = spinning;
    other.flags = 1, ends("flags of the section", &other, 0), other = spinning;
    other.flags = 64, ends("unknown flags", &other, 0), other = spinning;
    ends("flags of the thread", &other, 4);
    other.abort = (uint64_t)unsigned_abort, ends("signature", &other, 0), other = spinning;
    other.abort = (uint64_t)spin_start, ends("abort inside", &other, 0), other = spinning;
    other.abort = 1UL << 63, ends("abort in the kernel", &other, 0), other = spinning;
    other.length = -1UL, ends("length", &other, 0);
    ends("no section", (struct section *)8, 0);
    ends("the kernel's", (struct section *)(1UL << 63), 0);
}

static int in_clone(void *area) { _exit(-rseq(area, 32, 1, SIGNATURE)); }

static void families(char *self) {
    int status;
    fflush(stdout);
    int child = fork();
    if (!child) _exit(-rseq(own(), 32, 0, SIGNATURE));
    waitpid(child, &status, 0);
    printf("fork %d\n", WEXITSTATUS(status));
    static char stack[65536] __attribute__((aligned(16)));
    child = clone(in_clone, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, own());
    waitpid(child, &status, 0);
    printf("shared memory %d\n", WEXITSTATUS(status));
    fflush(stdout);
    execl(self, self, "again", NULL);
}

int main(int argc, char **argv) {
    spinning = (struct section){0, 0, (uint64_t)spin_start, spin_end - spin_start, (uint64_t)spin_abort};
    adding = (struct section){0, 0, (uint64_t)add_start, add_end - add_start, (uint64_t)add_abort};
    tell();
    if (argc > 1) return 0;
    checks();
    follows();
    by_signal();
    by_others();
    by_all();
    by_barrier();
    wrong_ones();
    families(argv[0]);
    return 1;
}
