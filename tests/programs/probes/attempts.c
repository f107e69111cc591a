/* The frame of a sandboxed guest that attempts to change what is outside: the numbers of calls and the attempts are
 * put in by tests/programs/attempts.py. It writes a line for each attempt: its index, its result, its errno.
 * Arguments: the folder that is also the working directory, the victim's number, the call that ends the program. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* numbers */

enum { DATA = 5, PIPE_IN, MEMORY, SOCKET, TERMINAL, PIPE_OUT, FOLDER = 15 };
static int EVENT = 11, TIMER = 12, EPOLL = 13, WATCH = 14; /* none of the guest's where Quire closes them */

static char buffer[65536] __attribute__((aligned(64)));
static char zeros[256], modes[64], modes2[64], names[4096];
static struct iovec vector = {buffer, 1};
static struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
static struct itimerspec seconds = {{1000, 0}, {1000, 0}};
static unsigned capability[2] = {0x20080522, 0};
static int own_pipe[2], spare[2], own_file, own_dir, own_folder, own_memory, own_timer, own_epoll, own_watch, timer;
static int output;
static long victim, end_by;
static char *page, *folder;
static unsigned file_below_4g;

/* Those of six arguments that are not given are 0. */
#define SC(...) syscall(__VA_ARGS__, 0L, 0L, 0L, 0L, 0L, 0L)

static char *name(const char *form, ...)
{
    va_list words;
    va_start(words, form);
    vsnprintf(names, sizeof names, form, words);
    va_end(words);
    return names;
}

static void quiet(int number)
{
    (void)number;
}

static void tick(long micros)
{
    struct itimerval interval = {{0, micros}, {0, micros}};
    setitimer(ITIMER_REAL, &interval, 0);
}
/* A call that only a signal ends: it comes again and again, lest it came before the call. */
#define ticking(call) ({ tick(1000); long result_ = (call); int error_ = errno; tick(0); errno = error_; result_; })

/* A process that ends at once. */
static long ended(long number)
{
    if (number == 0)
        _exit(0);
    return number < 0 || waitpid(number, 0, 0) == number ? number : -1;
}

/* The same, which borrows the memory until it ends. */
static long borrowed(void)
{
    pid_t number = vfork();
    if (number == 0)
        _exit(0);
    return number < 0 || waitpid(number, 0, 0) == number ? number : -1;
}

/* Whether the task of this number is somebody else's, as its status says, or is gone. */
static int is_foreign(int number)
{
    char text[4096] = "", path[64];
    snprintf(path, sizeof path, "/proc/%d/status", number);
    int status = open(path, O_RDONLY);
    long length = status < 0 ? 0 : read(status, text, sizeof text - 1);
    close(status);
    char *group = length > 0 ? strstr(text, "Tgid:") : 0;
    return group ? atoi(group + 5) != getpid() : getpgid(number) < 0;
}

/* How many files of this form open that are Quire's, for the numbers that its threads may have. */
static long opens(const char *form, int directory)
{
    int opened = 0, numbered = strchr(form, '%') != 0;
    for (int number = getpid() + numbered; number <= getpid() + 40 * numbered; number++) {
        int found = openat(directory ? directory : AT_FDCWD, name(form, number), O_RDONLY);
        opened += found >= 0 && !(numbered && is_foreign(number));
        close(found);
    }
    return opened;
}

/* How many of the highest descriptors that a process of Quire's could have can be opened once more. */
static long quires_descriptors(void)
{
    long opened = 0;
    for (int number = 61440; number < 61440 + 60; number++) {
        int found = open(name("/proc/self/fd/%d", number), O_RDONLY);
        opened += found >= 0;
        close(found);
    }
    for (int number = 983; number < 1024; number++)
        opened += dup(number) >= 0;
    return opened;
}

static long standard_output_replaced(void)
{
    close(1);
    int found = open("file", O_RDONLY);
    long result = found == 1 ? write(1, "z", 1) : -2;
    int error = errno;
    dup2(output, 1);
    errno = error;
    return result;
}

/* Fill memory files until one is refused, then give all back. */
static long fill_memory(void)
{
    int files[8];
    long result = 0;
    int error = 0;
    for (int i = 0; i < 8; i++) {
        files[i] = memfd_create("fill", 0);
        if (!result && fallocate(files[i], 0, 0, 24 << 20) < 0)
            result = -1, error = errno;
    }
    for (int i = 0; i < 8; i++)
        close(files[i]);
    errno = error;
    return result;
}

static struct msghdr *passing_a_descriptor(int descriptor)
{
    static char space[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    static struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = space};
    message.msg_controllen = sizeof space;
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    *control = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(control), &descriptor, sizeof descriptor);
    return &message;
}

/* A call of the 32-bit table, from this 64-bit program. */
static long interrupt_80(long number, long first, long second, long third)
{
    long result;
    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third)
                 : "memory", "r8", "r9", "r10", "r11");
    result = (int)result;
    if (result < 0)
        errno = -result, result = -1;
    return result;
}

/* attempts */

static void prepare(void)
{
    struct sigaction action = {.sa_handler = quiet};
    sigaction(SIGALRM, &action, 0);
    sigaction(SIGUSR1, &action, 0);
    for (int **one = (int *[]){&EVENT, &TIMER, &EPOLL, &WATCH, 0}; *one; one++)
        if (fcntl(**one, F_GETFD) < 0)
            **one = 9999;
    output = dup(1);
    own_file = open("file", O_RDONLY);
    own_dir = open("dir", O_RDONLY | O_DIRECTORY);
    own_folder = open(".", O_RDONLY | O_DIRECTORY);
    pipe(own_pipe);
    write(own_pipe[1], "own", 3);
    own_memory = memfd_create("own", MFD_ALLOW_SEALING);
    own_timer = SC(N_timerfd_create, CLOCK_MONOTONIC, 0);
    own_epoll = epoll_create1(0);
    own_watch = inotify_init1(0);
    page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    strcpy(low, "file");
    file_below_4g = (unsigned long)low;
    ioctl(TERMINAL, 0x5401, modes);
    ioctl(TERMINAL, 0x802C542A, modes2);
    modes[0] ^= 1, modes2[0] ^= 1; /* others than it has */
}

int main(int argc, char **argv)
{
    char line[128];
    if (argc != 4)
        return 2;
    folder = argv[1], victim = atol(argv[2]), end_by = atol(argv[3]);
    prepare();
    for (int i = 0; i < (int)(sizeof attempts / sizeof *attempts); i++) {
        errno = 0;
        long result = attempts[i]();
        int length = snprintf(line, sizeof line, "%d %ld %d\n", i, result, result == -1 ? errno : 0);
        write(output, line, length);
    }
    return 3;
}
