/* Processes that share their descriptors and part: by execve, unshare and close_range, the first of all too. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static int down[2], up[2];
static char home[4096];

static int begin(int flags) { return syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0); }

static void say(int end) { write(end, "x", 1); }

static void hear(int end)
{
    char one;
    read(end, &one, 1);
}

static int is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

static const char *place(void)
{
    static char text[4096];
    const char *name = getcwd(text, sizeof text) ? strrchr(text, '/') + 1 : "?";
    return *name ? name : "/";
}

/* A child parts by `way` from this process, which keeps what it has; then the other way round. */
static void parting(const char *name, int (*way)(void))
{
    for (int first = 0; first < 2; first++) {
        chdir(home);
        pipe(down), pipe(up);
        int kept = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (!begin(CLONE_FILES | CLONE_FS)) {
            if (!first) printf("%s child %d\n", name, way());
            else say(up[1]), hear(down[0]);
            close(kept);
            int made = open("/dev/null", O_RDONLY);
            chdir("/");
            printf("%s child has %d %d in %s\n", name, is_open(kept), made == kept, place());
            fflush(stdout);
            say(up[1]);
            hear(down[0]);
            _exit(is_open(made));
        }
        if (first) hear(up[0]), printf("%s parent %d\n", name, way()), fflush(stdout), say(down[1]);
        hear(up[0]);
        int status, fresh = open("/dev/null", O_RDONLY);
        printf("%s parent has %d %d in %s\n", name, is_open(kept), fresh == kept + 1, place());
        fflush(stdout);
        close(fresh), close(kept);
        say(down[1]);
        wait(&status);
        printf("%s status %x\n", name, status);
        fflush(stdout);
        close(down[0]), close(down[1]), close(up[0]), close(up[1]);
    }
}

static int files(void) { return unshare(CLONE_FILES); }
static int both(void) { return unshare(CLONE_FILES | CLONE_FS); }
static int range(void) { return syscall(SYS_close_range, 500, ~0u, 2); }

/* Working directories part, descriptors do not. */
static void directories(void)
{
    chdir(home);
    pipe(down), pipe(up);
    if (!begin(CLONE_FILES | CLONE_FS)) {
        int result = unshare(CLONE_FS);
        chdir("/");
        printf("place %d in %s\n", result, place());
        fflush(stdout);
        open("/dev/null", O_RDONLY);
        close(down[1]);
        say(up[1]);
        _exit(0);
    }
    hear(up[0]);
    printf("parent in %s, shares %d %d\n", place(), is_open(up[1] + 1), is_open(down[1]));
    fflush(stdout);
    close(up[1] + 1);
    wait(0);
    close(down[0]), close(up[0]), close(up[1]);
}

/* Who waits for a descriptor goes on to, though the other parts; a timer's descriptor is copied like any. */
static void waits(void)
{
    pipe(down), pipe(up);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (!begin(CLONE_FILES)) {
        struct pollfd both[2] = {{down[0], POLLIN}, {timer, POLLIN}};
        int found = poll(both, 2, -1);
        printf("woken %d %d\n", found, both[0].revents), fflush(stdout);
        found = poll(both + 1, 1, -1);
        printf("timer %d\n", found), fflush(stdout);
        _exit(0);
    }
    usleep(1000);
    struct itimerspec soon = {{0}, {0, 50000000}};
    printf("parts %d\n", files()), fflush(stdout);
    say(down[1]);
    timerfd_settime(timer, 0, &soon, 0);
    wait(0);
    printf("here %d\n", (int)poll(&(struct pollfd){timer, POLLIN}, 1, -1)), fflush(stdout);
    close(timer), close(down[0]), close(down[1]), close(up[0]), close(up[1]);
}

/* What one maps and unmaps leaves the other's mappings alone, also where both have the descriptors in common. */
static void maps(const char *own)
{
    int file = open(own, O_RDONLY);
    char *text = mmap(0, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    if (!begin(CLONE_FILES)) {
        munmap(text, 4096);
        _exit(0);
    }
    wait(0);
    printf("mapped %.3s\n", text + 1);
    if (!begin(CLONE_FILES)) {
        files();
        char *again = mmap(0, 4096, PROT_READ, MAP_PRIVATE, file, 0);
        printf("mapped %.3s\n", again + 1), fflush(stdout);
        _exit(0);
    }
    munmap(text, 4096);
    wait(0);
    close(file);
}

static void after(int stage)
{
    if (stage == 1) {
        printf("executed, %d %d\n", is_open(40), is_open(41)), fflush(stdout);
        say(51);
        hear(52);
        wait(0);
    } else {
        printf("child, %d %d\n", is_open(40), is_open(41)), fflush(stdout);
    }
    exit(0);
}

int main(int count, char **words)
{
    if (count > 1) after(atoi(words[1]));
    mkdir("here", 0700), chdir("here");
    getcwd(home, sizeof home);
    parting("files", files);
    parting("both", both);
    parting("range", range);
    directories();
    waits();
    maps("/proc/self/exe");
    printf("flags %d %d\n", unshare(0), unshare(1) < 0 ? errno : 0);
    printf("alone %d %d\n", unshare(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM), unshare(CLONE_SYSVSEM));
    fflush(stdout);

    dup2(open("/dev/null", O_RDONLY), 40);
    dup3(40, 41, O_CLOEXEC);
    pipe(up), dup2(up[0], 50), dup2(up[1], 51);
    if (!begin(CLONE_FILES)) execl("/proc/self/exe", "child", "2", NULL), _exit(1);
    wait(0);
    printf("still %d %d\n", is_open(40), is_open(41)), fflush(stdout);
    pipe(down), dup2(down[0], 52), dup2(down[1], 53);
    if (!begin(CLONE_FILES)) {
        hear(50);
        printf("the other, %d %d\n", is_open(40), is_open(41)), fflush(stdout);
        close(40);
        say(53);
        _exit(0);
    }
    execl("/proc/self/exe", "first", "1", NULL);
    return 1;
}
