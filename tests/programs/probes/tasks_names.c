// What open files are called in /proc, and what fstat says of those that are no files; names in /proc that are relative
// to a descriptor of it or of what lies in it.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *link_at(int directory, const char *path) {
    static char text[4096];
    ssize_t length = readlinkat(directory, path, text, sizeof text - 1);
    if (length < 0) return strerror(errno);
    text[length] = 0;
    for (char *at = text; *at; at++)  // numbers of pipes and sockets
        if (*at == '[' && at[1] >= '0' && at[1] <= '9') strcpy(at, "[N]");
    return text;
}

static void show(const char *what, int fd) {
    struct stat by_fd = {0}, by_name = {0}, empty = {0};
    struct statx extended = {0};
    char name[64];
    sprintf(name, "/proc/self/fd/%d", fd);
    int result = fstat(fd, &by_fd);
    printf("%s: %s %o %ld %ld", what, link_at(AT_FDCWD, name), by_fd.st_mode, (long)by_fd.st_size, (long)by_fd.st_nlink);
    printf(" uid %d blocks %ld of %ld device %d", by_fd.st_uid, (long)by_fd.st_blocks, (long)by_fd.st_blksize, (int)by_fd.st_rdev);
    stat(name, &by_name);
    fstatat(fd, "", &empty, AT_EMPTY_PATH);
    statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &extended);
    printf(" alike %d %d %d\n", result == 0 && !memcmp(&by_fd, &by_name, sizeof by_fd), !memcmp(&by_fd, &empty, sizeof by_fd),
           extended.stx_mode == by_fd.st_mode && extended.stx_ino == by_fd.st_ino && extended.stx_nlink == by_fd.st_nlink);
    struct stat link;
    lstat(name, &link);
    printf("  link %o\n", link.st_mode & S_IFMT);
}

static int same(int one, int other) {
    struct stat first, second;
    fstat(one, &first), fstat(other, &second);
    return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

static void files(void) {
    int ends[2], pair[2];
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1);
    pipe(ends), socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    int event = eventfd(0, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0), signals = signalfd(-1, &set, 0);
    int process = syscall(SYS_pidfd_open, getpid(), 0), again = syscall(SYS_pidfd_open, getpid(), 0);
    int parent = syscall(SYS_pidfd_open, getppid(), 0);
    show("eventfd", event);
    show("epoll", epoll_create1(0));
    show("timerfd", timer);
    show("signalfd", signals);
    show("inotify", inotify_init());
    show("memfd", memfd_create("some", 0));
    show("pipe", ends[0]), show("pipe", ends[1]);
    show("socket", pair[0]);
    char name[64];
    sprintf(name, "/proc/self/fd/%d", process);
    printf("pidfd: %s\n", link_at(AT_FDCWD, name));
    printf("anonymous ones are one file %d\n", same(event, timer) && same(event, signals));
    struct mq_attr attributes = {.mq_maxmsg = 2, .mq_msgsize = 8};
    char queue[64];
    sprintf(queue, "/quire-names-%d", getpid());
    mqd_t made = mq_open(queue, O_CREAT | O_EXCL | O_RDWR, 0640, &attributes);
    mq_unlink(queue);
    struct stat status = {0};
    printf("queue: %d", fstat(made, &status));
    printf(" %o %ld %ld", status.st_mode, (long)status.st_size, (long)status.st_nlink);
    sprintf(name, "/proc/self/fd/%d", made);
    sprintf(queue, "/quire-names-%d (deleted)", getpid());
    printf(" named %d\n", !strcmp(link_at(AT_FDCWD, name), queue));
    sprintf(name, "/proc/%d/fd/%d", getpid(), timer);
    int child = fork();
    if (!child) {
        printf("of another: %s\n", link_at(AT_FDCWD, name));
        exit(0);
    }
    waitpid(child, 0, 0);
}

static void *waits(void *tid) {
    *(volatile int *)tid = syscall(SYS_gettid);
    pause();
    return 0;
}

static void names(void) {
    char number[32], text[64], other[64];
    struct stat status, direct;
    struct statx extended;
    sprintf(number, "%d", getpid());
    int proc = open("/proc", O_RDONLY | O_DIRECTORY), path = open("/proc", O_PATH);
    printf("self %d thread %d\n", !strcmp(link_at(AT_FDCWD, "/proc/self"), number), !strcmp(link_at(proc, "self"), number));
    sprintf(text, "%d/task/%d", getpid(), (int)syscall(SYS_gettid));
    printf("thread-self %d %d\n", !strcmp(link_at(AT_FDCWD, "/proc/thread-self"), text), !strcmp(link_at(proc, "thread-self"), text));
    stat("/proc/self/stat", &direct);
    sprintf(text, "%d/stat", getpid());
    printf("stat %d", fstatat(proc, text, &status, 0));
    printf(" %d", fstatat(path, "self/stat", &status, 0));
    printf(" statx %d", statx(proc, text, 0, STATX_BASIC_STATS, &extended));
    printf(" access %d %d", faccessat(proc, text, R_OK, 0), (int)syscall(439, proc, text, R_OK, 0));
    printf(" open %d\n", openat(proc, text, O_RDONLY) >= 0);
    sprintf(text, "%d/exe", getpid());
    sprintf(other, "%s", link_at(AT_FDCWD, "/proc/self/exe"));
    printf("exe %d %d\n", !strcmp(link_at(proc, text), other), !strcmp(link_at(proc, "self/exe"), other));
    int own = openat(proc, number, O_RDONLY | O_DIRECTORY);
    sprintf(text, "/proc/%d", getpid());
    sprintf(other, "/proc/self/fd/%d", own);
    printf("named %d\n", !strcmp(link_at(AT_FDCWD, other), text));
    printf("exe by its directory %d\n", !strcmp(link_at(own, "exe"), link_at(AT_FDCWD, "/proc/self/exe")));
    int files = openat(own, "fd", O_RDONLY | O_DIRECTORY);
    sprintf(text, "/proc/%d/fd", getpid());
    sprintf(other, "%d", files);
    printf("fd %d\n", !strcmp(link_at(files, other), text));
    printf("nobody %d", fstatat(proc, "4194300", &status, 0));
    printf(" %d", errno);
    printf(" init %d\n", fstatat(proc, "self/task/4194300", &status, 0));
    volatile int tid = 0;
    pthread_t thread;
    pthread_create(&thread, 0, waits, (void *)&tid);
    while (!tid) sched_yield();
    int tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
    sprintf(text, "%d", tid);
    sprintf(other, "%d/stat", tid);
    printf("thread %d", fstatat(tasks, text, &status, 0));
    printf(" %d nobody %d\n", fstatat(tasks, other, &status, 0), fstatat(tasks, "4194300", &status, 0));
    int here = open(".", O_RDONLY | O_DIRECTORY);
    mkdirat(here, number, 0700);
    chdir("/proc");
    printf("from /proc: %d", stat(number, &status));
    printf(" %d", fstatat(here, number, &status, 0));
    printf(" %o", status.st_mode);
    int opened = openat(here, number, O_RDONLY | O_DIRECTORY);
    printf(" %d", opened >= 0 && fstat(opened, &direct) == 0 && direct.st_ino == status.st_ino);
    printf(" %d", unlinkat(here, number, AT_REMOVEDIR));
    printf(" link %d\n", !strcmp(link_at(AT_FDCWD, "self"), number));
}

// Say what `text` is called, where it begins with the directory of a task.
static void say(const char *text, pid_t pid) {
    char own[32];
    int length = sprintf(own, "/proc/%d", pid);
    printf(strncmp(text, own, length) ? "%s\n" : "/proc/PID%s\n", text + (strncmp(text, own, length) ? 0 : length));
}

static void folder(const char *name, pid_t pid) {
    char text[4096];
    printf("chdir %d at ", chdir(name));
    long length = syscall(SYS_getcwd, text, sizeof text);
    say(length < 0 ? strerror(errno) : text, pid);
    printf("linked %d", !strcmp(text, link_at(AT_FDCWD, "/proc/self/cwd")));
    printf(" length %d", length == (long)strlen(text) + 1);
    printf(" short %d", syscall(SYS_getcwd, text, length - 1) < 0 ? errno : 0);
    printf(" fits %d\n", syscall(SYS_getcwd, text, length) == length);
}

// Texts that a kernel makes up have names like other files, and so has a working directory among them.
static void texts(void) {
    static const char *names[] = {"/proc/meminfo", "/proc/self/status", "/proc/self/maps", "/proc/uptime", "/proc/version",
                                  "/proc/sysvipc/shm", "/sys/devices/system/cpu/online", "/proc/self/task", 0};
    char link[64], name[64];
    for (const char **at = names; *at; at++) {
        int file = open(*at, O_RDONLY);
        sprintf(link, "/proc/self/fd/%d", file);
        say(link_at(AT_FDCWD, link), getpid());
        close(file);
    }
    int memory = memfd_create("/proc/meminfo", 0);
    sprintf(link, "/proc/self/fd/%d", memory);
    puts(link_at(AT_FDCWD, link));
    folder("/proc", 0), folder("self", getpid()), folder("/proc/self/fd", getpid()), folder("/proc/self/task", getpid());
    pid_t child = fork();
    if (!child) pause(), _exit(0);
    sprintf(name, "/proc/%d", child), folder(name, child);
    sprintf(name, "/proc/%d/stat", child);
    sprintf(link, "/proc/self/fd/%d", open(name, O_RDONLY));
    say(link_at(AT_FDCWD, link), child);
    kill(child, SIGKILL), waitpid(child, 0, 0);
    folder("/", 0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IONBF, 0);
    if (argc > 1) return printf("%s as itself\n", argv[1]), 0;
    files();
    names();
    texts();
    execl("/proc/self/exe", "names", "executed", NULL);
    return 1;
}
