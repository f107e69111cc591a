/* System calls with pointers that nobody may follow: EFAULT, nothing else happens, and the program goes on. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PAGE 4096
#define SAY(what, call) do { errno = 0; long r = (long)(call); printf("%-24s %ld %d\n", what, r, errno); } while (0)

static void *none, *readonly, *edge;

static void all_bad(const char *name, void *bad) {
    int zero = open("/dev/zero", O_RDONLY), pipes[2];
    printf("-- %s\n", name);
    SAY("pipe", pipe(pipes));
    SAY("write to it", write(pipes[1], "0123456789", 10));
    SAY("write", syscall(SYS_write, pipes[1], bad, 100L));
    SAY("write nothing", syscall(SYS_write, pipes[1], bad, 0L));
    SAY("open", syscall(SYS_open, bad, O_RDONLY));
    SAY("execve", access(bad, R_OK));
    SAY("readlink name", syscall(SYS_readlink, bad, "x", 1L));
    SAY("poll", syscall(SYS_poll, bad, 2L, 0L));
    SAY("poll of none", syscall(SYS_poll, bad, 0L, 0L));
    SAY("readv", syscall(SYS_readv, zero, bad, 2L));
    SAY("rt_sigprocmask", syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad, 0L, 8L));
    SAY("rt_sigaction", syscall(SYS_rt_sigaction, SIGUSR1, bad, 0L, 8L));
    SAY("nanosleep", syscall(SYS_nanosleep, bad, 0L));
    SAY("close", close(zero) | close(pipes[0]) | close(pipes[1]));
}

static void all_unwritable(const char *name, void *bad) {
    int zero = open("/dev/zero", O_RDONLY), pipes[2];
    printf("-- not writable: %s\n", name);
    SAY("pipe", pipe(pipes));
    SAY("write to it", write(pipes[1], "0123456789", 10));
    SAY("read file", syscall(SYS_read, zero, bad, 100L));
    SAY("read pipe", syscall(SYS_read, pipes[0], bad, 5L));
    SAY("fstat", syscall(SYS_fstat, zero, bad));
    SAY("stat", syscall(SYS_stat, "/", bad));
    SAY("getcwd", syscall(SYS_getcwd, bad, 100L));
    SAY("uname", syscall(SYS_uname, bad));
    SAY("pipe into", syscall(SYS_pipe, bad));
    SAY("clock_gettime", syscall(SYS_clock_gettime, 0L, bad));
    SAY("gettimeofday", syscall(SYS_gettimeofday, bad, 0L));
    SAY("getrandom", syscall(SYS_getrandom, bad, 16L, 0L));
    SAY("getrlimit", syscall(SYS_getrlimit, 3L, bad));
    SAY("rt_sigprocmask old", syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0L, bad, 8L));
    SAY("rt_sigaction old", syscall(SYS_rt_sigaction, SIGUSR1, 0L, bad, 8L));
    SAY("readlink", syscall(SYS_readlink, "/proc/self/exe", bad, 10L));
    SAY("getdents", syscall(SYS_getdents64, 0, bad, 100L));
    SAY("close", close(zero) | close(pipes[0]) | close(pipes[1]));
}

static void partial(void) {
    char *p = edge;
    int pipes[2], zero = open("/dev/zero", O_RDONLY);
    memset(p - 10, 'e', 10);
    SAY("pipe", pipe(pipes));
    SAY("write up to the edge", write(pipes[1], p - 10, 10));
    SAY("name ends at the edge", open(p - 10, O_RDONLY));
    struct iovec iov[2] = {{p - 4, 4}, {p, 4}};
    SAY("readv, second bad", readv(zero, iov, 2));
    iov[0].iov_len = (size_t)-1;
    SAY("readv, huge", readv(zero, iov, 2));
    SAY("readv, too many", readv(zero, iov, 5000));
    SAY("stat across the edge", syscall(SYS_stat, "/", p - 8));
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    none = mmap(0, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    readonly = mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    edge = (char *)mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + PAGE;
    munmap(edge, PAGE);
    struct { const char *name; void *p; } bad[] = {
        {"null + 8", (void *)8},
        {"PROT_NONE", none},
        {"unmapped", edge},
        {"kernel", (void *)0xffffffff81000000},
        {"non-canonical", (void *)0x8000000000000000},
        {"last byte", (void *)-1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) all_bad(bad[i].name, bad[i].p);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) all_unwritable(bad[i].name, bad[i].p);
    all_unwritable("read-only", readonly);
    partial();
    SAY("unknown call", syscall(1023L));
    SAY("negative call", syscall(-5L));
    return 0;
}
