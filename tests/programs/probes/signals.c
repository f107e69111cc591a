/* Signals: every way a handler is entered and left, and what it is told. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile int depth, order;
static volatile sig_atomic_t ticks, seen;
static char alternate[65536];
static int skip;

static void on_fault(int n, siginfo_t *info, void *context) {
    ucontext_t *c = context;
    long rip = c->uc_mcontext.gregs[REG_RIP];
    printf("signal %d code %d trap %lld error %lld at rip %d", n, info->si_code, c->uc_mcontext.gregs[REG_TRAPNO],
           c->uc_mcontext.gregs[REG_ERR], n == SIGTRAP ? -1 : (long)info->si_addr == rip);
    printf(" aligned %d\n", ((uintptr_t)__builtin_frame_address(0) & 15) == 0);
    if (c->uc_mcontext.gregs[REG_TRAPNO] == 1) c->uc_mcontext.gregs[REG_EFL] &= ~0x100; /* single step: once */
    else if (skip) c->uc_mcontext.gregs[REG_RIP] += skip;
    else siglongjmp(back, 1);
}

static void on_nested(int n) {
    depth++;
    int mine = ++order;
    if (n == SIGUSR1) {
        raise(SIGUSR2);
        if (mine < 3) raise(SIGUSR1); /* blocked in its own handler: runs after it */
    }
    printf("handler %d entered %d left at depth %d\n", n, mine, depth);
    depth--;
}

static void on_alternate(int n, siginfo_t *info, void *context) {
    (void)info; (void)context;
    char here;
    stack_t now;
    sigaltstack(0, &now);
    printf("signal %d on the alternate stack %d flags %d\n", n, &here >= alternate && &here < alternate + sizeof alternate,
           now.ss_flags);
}

static void on_tick(int n) { (void)n; ticks++; }
static void on_seen(int n, siginfo_t *info, void *context) {
    (void)context;
    seen++;
    printf("got %d value %d code %d self %d\n", n, info->si_value.sival_int, info->si_code, info->si_pid == getpid());
}

static void set(int n, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    printf("sigaction %d", sigaction(n, &action, 0));
    sigaction(n, 0, &action);
    printf(" flags %x\n", action.sa_flags & ~0x04000000);
}

static void faults(void) {
    set(SIGFPE, on_fault, 0);
    set(SIGILL, on_fault, 0);
    set(SIGTRAP, on_fault, 0);
    set(SIGSEGV, on_fault, 0);
    volatile int zero = 0, one = 1;
    if (!sigsetjmp(back, 1)) printf("never %d\n", one / zero);
    if (!sigsetjmp(back, 1)) printf("never %d\n", one / zero); /* again: one after the other is no double fault */
    if (!sigsetjmp(back, 1)) __asm__ volatile("ud2");
    if (!sigsetjmp(back, 1)) __asm__ volatile("int3");
    if (!sigsetjmp(back, 1)) __asm__ volatile("hlt");
    if (!sigsetjmp(back, 1)) __asm__ volatile("hlt");
    skip = 2;
    __asm__ volatile("ud2");
    skip = 0;
    __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; nop" ::: "memory", "cc");
}

static void masks(void) {
    sigset_t set_, old, pending;
    sigemptyset(&set_);
    sigaddset(&set_, SIGUSR1);
    sigaddset(&set_, SIGRTMIN + 1);
    set(SIGUSR1, on_seen, SA_RESTART);
    set(SIGRTMIN + 1, on_seen, 0);
    sigprocmask(SIG_BLOCK, &set_, &old);
    union sigval value = {.sival_int = 41};
    raise(SIGUSR1);
    raise(SIGUSR1);
    for (int i = 0; i < 3; i++, value.sival_int++) sigqueue(getpid(), SIGRTMIN + 1, value);
    sigpending(&pending);
    printf("blocked: seen %d pending %d %d %d\n", seen, sigismember(&pending, SIGUSR1), sigismember(&pending, SIGUSR2),
           sigismember(&pending, SIGRTMIN + 1));
    sigprocmask(SIG_SETMASK, &old, 0);
    printf("unblocked: seen %d\n", seen);
    printf("kill has no handler %d", sigaction(SIGKILL, &(struct sigaction){.sa_handler = on_tick}, 0));
    printf(" %d\n", errno);
    printf("kill(0) %d kill(bad signal) %d", kill(getpid(), 0), kill(getpid(), 99));
    printf(" %d\n", errno);
}

static void timers(void) {
    signal(SIGALRM, on_tick);
    struct itimerval every = {{0, 10000}, {0, 10000}}, left;
    setitimer(ITIMER_REAL, &every, 0);
    unsigned long spins = 0;
    while (ticks < 3) spins++;
    getitimer(ITIMER_REAL, &left);
    printf("timer interval %ld, spun %d\n", (long)left.it_interval.tv_usec, spins > 0);
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, 0);
    struct itimerval once = {{0, 0}, {0, 20000}};
    int before = ticks;
    setitimer(ITIMER_REAL, &once, 0);
    printf("pause %d", pause());
    printf(" %d ticked %d\n", errno, ticks - before);
    alarm(100);
    printf("alarm left %u\n", alarm(0));
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IOLBF, 0);
    faults();
    signal(SIGUSR1, on_nested);
    signal(SIGUSR2, on_nested);
    raise(SIGUSR1);
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    printf("sigaltstack %d\n", sigaltstack(&stack, 0));
    set(SIGUSR1, on_alternate, SA_ONSTACK);
    raise(SIGUSR1);
    set(SIGUSR1, on_alternate, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction now;
    sigaction(SIGUSR1, 0, &now);
    printf("reset to default %d\n", now.sa_handler == SIG_DFL);
    masks();
    timers();
    if (argc > 1) abort();
    return argv[0] ? 8 : 0;
}
