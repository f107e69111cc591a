/* What every probe of system calls finds when it starts: the same files, descriptors, memory and signals.
   Each prints one line: its name, the result, the name of the error, and the values it asks for. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define S(name, ...) syscall(SYS_##name __VA_OPT__(, ) __VA_ARGS__)
#define SYS_fchmodat2 452
#define PAGE 4096L
#define AREA 0x100000000000UL
#define AT(page) ((char *)(AREA + (page) * PAGE))
/* One area of 32 pages; what is not named is a hole. */
#define RW AT(1)          /* two pages, private, written */
#define RWEND AT(3)       /* where they end */
#define RO AT(4)          /* one page that can be read */
#define NONE AT(6)        /* one page without rights */
#define FILEMAP AT(8)     /* the first two pages of the file, shared */
#define SHARED AT(11)     /* two pages, shared, anonymous */
#define PRIVFILE AT(14)   /* the first two pages of the file, private */
#define FRESH AT(17)      /* two pages, private, never touched */
#define HOLE AT(20)       /* twelve pages with nothing */
#define KERNEL ((char *)0xffff888000000000UL)
#define NONCANONICAL ((char *)0x8000000000000000UL)
#define LAST ((char *)0x7ffffffff000UL)
#define MINUS ((void *)-1L)
#define SIGRTMIN_ 34
enum { FILE_ = 3, RDONLY, WRONLY, DIR_, PIPE_R, PIPE_W, SOCK_A, SOCK_B, EVENT, EPOLL, PATH_, NULL_, ZERO, CLOSED };

static const char *only;
static int part;
static volatile sig_atomic_t caught, caught_code, caught_value;
static void handler(int n, siginfo_t *info, void *context)
{
    caught = n, caught_code = info->si_code, caught_value = info->si_value.sival_int;
}

static void handle(int n, int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(n, &action, NULL);
}

static void map(char *where, int pages, int prot, int flags, int fd)
{
    if (mmap(where, pages * PAGE, prot, flags | MAP_FIXED, fd, 0) != where)
        perror("mmap of the fixture"), exit(9);
}

static void put(int got, int wanted)
{
    if (got == wanted)
        return;
    if (got < 0)
        perror("a descriptor of the fixture"), exit(9);
    dup2(got, wanted), close(got);
}

static char pattern[5000];

static void fresh_memory(void)
{
    munmap((void *)AREA, 32 * PAGE), munmap(NULL, 16 * PAGE);
    map(RW, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    map(RO, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    map(NONE, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    map(FILEMAP, 2, PROT_READ | PROT_WRITE, MAP_SHARED, FILE_);
    map(SHARED, 2, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    map(PRIVFILE, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE, FILE_);
    map(FRESH, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    memset(RW, 'm', 2 * PAGE);
}

static void fresh_files(void)
{
    int pair[2], flags = O_RDWR | O_CREAT | O_TRUNC;
    close_range(3, ~0U, 0);
    unlink("file"), unlink("made"), rmdir("made"), unlink("link"), rename("dir/renamed", "dir/inner");
    put(open("file", flags, 0644), FILE_);
    if (write(FILE_, pattern, sizeof pattern) != sizeof pattern)
        exit(9);
    lseek(FILE_, 0, SEEK_SET);
    put(open("file", O_RDONLY), RDONLY), put(open("file", O_WRONLY), WRONLY);
    put(open("dir", O_RDONLY | O_DIRECTORY), DIR_);
    pipe2(pair, O_NONBLOCK), put(pair[0], PIPE_R), put(pair[1], PIPE_W);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), put(pair[0], SOCK_A), put(pair[1], SOCK_B);
    put(eventfd(3, EFD_NONBLOCK), EVENT), put(epoll_create1(0), EPOLL);
    put(open("file", O_PATH), PATH_), put(open("/dev/null", O_RDWR), NULL_);
    put(open("/dev/zero", O_RDWR), ZERO);
    symlink("file", "link");
}

static const int used[] = {SIGHUP, SIGUSR1, SIGALRM, SIGXFSZ, SIGRTMIN_, SIGRTMIN_ + 30}; /* what probes change */

static void fresh(void)
{
    sigset_t none, all;
    struct timespec now = {0, 0};
    sigfillset(&all), sigemptyset(&none);
    while (sigtimedwait(&all, NULL, &now) > 0)
        ;
    for (int n = 0; n < sizeof used / sizeof *used; n++)
        signal(used[n], SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_SETMASK, &none, NULL);
    caught = caught_code = caught_value = 0;
    umask(022);
    fresh_files();
    fresh_memory();
}

static void report(const char *name, long result, int error, int count, const long *values)
{
    printf("%s: %ld %s", name, result, result == -1 && error ? strerrorname_np(error) : "-");
    for (int n = 0; n < count; n++)
        printf(" %ld", values[n]);
    printf("\n");
}

/* A number from the text of a file, behind a word; -1 when it is not there. */
static long number_after(const char *path, const char *word)
{
    static char text[65536];
    int fd = open(path, O_RDONLY), length = 0, got;
    while (fd >= 0 && (got = read(fd, text + length, sizeof text - 1 - length)) > 0)
        length += got;
    close(fd);
    text[length] = 0;
    char *found = strstr(text, word);
    return found ? strtol(found + strlen(word), NULL, 0) : -1;
}

static int wants(const char *name, int number, int alone)
{
    if (part >= 0 && number % 3 != part)
        return 0;
    return only ? !strncmp(name, only, strlen(only)) : !alone;
}
