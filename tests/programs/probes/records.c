/* What a process says of itself and asks of its kernel: umask, ids, priority, limits, accounting. As natively, and undone. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SHOW(call) do { errno = 0; long got = call; printf("%s: %ld %d\n", #call, got, errno); } while (0)

static int mode_of(const char *name) {
    struct stat found;
    return stat(name, &found) ? -errno : (int)found.st_mode;
}

static void masks(void) {
    SHOW(umask(0));
    close(open("file", O_CREAT | O_RDWR, 0666));
    mkdir("folder", 0777);
    printf("%o %o\n", mode_of("file"), mode_of("folder"));
    SHOW(umask(077));
    close(open("other", O_CREAT | O_RDWR, 0666));
    mknod("fifo", S_IFIFO | 0666, 0);
    printf("%o %o\n", mode_of("other"), mode_of("fifo"));
    SHOW(umask(01777));
    SHOW(umask(022));
    unlink("file"), unlink("other"), unlink("fifo"), rmdir("folder");
}

static void accounting(void) {
    struct rusage before, after;
    size_t size = 32 << 20;
    char *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(block, size, MADV_NOHUGEPAGE);
    getrusage(RUSAGE_SELF, &before);
    for (size_t at = 0; at < size; at += 4096) block[at] = 1;
    getrusage(RUSAGE_SELF, &after);
    long faults = after.ru_minflt - before.ru_minflt;
    printf("faults of 8192 pages %d, peak %d\n", faults >= 8192 && faults < 8200, after.ru_maxrss >= 32768);
    SHOW(getrusage(RUSAGE_CHILDREN, &after));
    printf("children %ld %ld\n", after.ru_minflt, after.ru_maxrss);
    SHOW(getrusage(7, &after));
    printf("clock begins near zero %d\n", clock() < 60 * CLOCKS_PER_SEC);
}

static void limits(void) {
    struct rlimit space = {256 << 20, 512 << 20}, data = {64 << 20, 64 << 20}, bad = {2, 1}, none = {RLIM_INFINITY, RLIM_INFINITY};
    printf("more than there is %d\n", mmap(NULL, 1ul << 45, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    printf("unless it is not reserved %d\n", mmap(NULL, 1ul << 45, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED);
    SHOW(setrlimit(RLIMIT_NOFILE, &bad));
    SHOW(setrlimit(99, &bad));
    struct rlimit files = {40, 50};
    SHOW(setrlimit(RLIMIT_NOFILE, &files));
    SHOW(dup2(0, 40));
    SHOW(dup2(0, 39));
    SHOW(setrlimit(RLIMIT_DATA, &data));
    printf("data %d", mmap(NULL, 100 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    printf(" %d\n", mmap(NULL, 100 << 20, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    SHOW(setrlimit(RLIMIT_AS, &space));
    printf("space %d", mmap(NULL, 1 << 20, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    printf(" brk %d\n", sbrk(1 << 20) == (void *)-1);
}

static void priorities(void) {
    SHOW(nice(3));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, getpid(), 100));
    SHOW(getpriority(PRIO_PROCESS, getpid()));
    SHOW(setpriority(9, 0, 0));
}

static void ids(void) {
    unsigned real, effective, saved;
    gid_t groups[8];
    SHOW(setresuid(-1, -1, -1));
    SHOW(setuid(-1));
    if (geteuid()) {
        SHOW(setuid(0));
        return;
    }
    SHOW(setgroups(2, (gid_t[]){7, 5}));
    SHOW(getgroups(8, groups));
    printf("groups %u %u\n", groups[0], groups[1]);
    SHOW(setresgid(11, 12, 13));
    SHOW(setegid(13));
    SHOW(setegid(14));
    SHOW(setresuid(1001, 1002, 0));
    printf("%u %u %u %u\n", getuid(), geteuid(), getgid(), getegid());
    SHOW(setfsuid(77));
    SHOW(setfsuid(-1));
    SHOW(setegid(99));
    SHOW(open("/etc/shadow", O_RDONLY));
    SHOW(seteuid(0));
    SHOW(setgroups(0, NULL));
    SHOW(setreuid(1003, -1));
    getresuid(&real, &effective, &saved);
    printf("%u %u %u\n", real, effective, saved);
    SHOW(setuid(1004));
    getresuid(&real, &effective, &saved);
    printf("%u %u %u\n", real, effective, saved);
    SHOW(setuid(0));
    SHOW(setgroups(0, NULL));
    SHOW(open("/etc/shadow", O_RDONLY));
}

int main(void) {
    masks();
    accounting();
    priorities();
    ids();
    limits();
    return 0;
}
