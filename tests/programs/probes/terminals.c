/* Terminals: what each request answers to whom, who may read and write, and which signals reach which group. The
   program leads a session that the terminal on descriptor 0 controls. Nothing that it prints has a number of a process. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int to_parent[2], to_child[2];

static const char *named(long result)
{
    return result < 0 ? strerrorname_np(errno) : "ok";
}

#define SAY(...) (printf(__VA_ARGS__), fflush(stdout))
#define TRY(call) SAY("%s: %s\n", #call, named(call))

static char told(int from)
{
    char byte = '!';
    return read(from, &byte, 1) == 1 ? byte : '?';
}

static void tell(int to)
{
    write(to, ".", 1);
}

static void ends(const char *what, pid_t child)
{
    int status;
    waitpid(child, &status, WUNTRACED);
    if (WIFSTOPPED(status)) {
        SAY("%s: stopped by %d\n", what, WSTOPSIG(status));
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    } else if (WIFSIGNALED(status)) {
        SAY("%s: killed by %d\n", what, WTERMSIG(status));
    } else {
        SAY("%s: exit %d\n", what, WEXITSTATUS(status));
    }
}

static void all_requests(const char *what, int fd)
{
    int number = 0, bad = -1, none = 4000000, own = getpgrp();
    SAY("-- %s\n", what);
    TRY(ioctl(fd, TIOCGPGRP, &number));
    SAY("in front: %s\n", number == own ? "own group" : number ? "another group" : "none");
    TRY(ioctl(fd, TIOCGSID, &number));
    SAY("session: %s\n", number == getsid(0) ? "own" : "another");
    TRY(ioctl(fd, TIOCSPGRP, &bad));
    TRY(ioctl(fd, TIOCSPGRP, &none));
    TRY(ioctl(fd, TIOCSPGRP, (int *)8));
    TRY(ioctl(fd, TIOCGPGRP, (int *)8));
    TRY(ioctl(fd, TIOCGSID, (int *)8));
    TRY(ioctl(fd, TIOCSCTTY, 0));
    TRY(ioctl(fd, TIOCSIG, SIGINT));
    TRY(ioctl(fd, TIOCSIG, SIGTERM));
    TRY(ioctl(fd, TIOCGPTN, &number));
    TRY(ioctl(fd, TIOCGDEV, &number));
    TRY(ioctl(fd, TIOCGPTLCK, &number));
    TRY(ioctl(fd, TIOCGPKT, &number));
}

/* What a child of a group of its own does to the terminal from behind. */
static void change(void)
{
    struct termios modes;
    tcgetattr(0, &modes);
    if (tcsetattr(0, TCSANOW, &modes))
        _exit(errno);
}

static void take(void)
{
    if (tcsetpgrp(0, getpgrp()))
        _exit(errno);
}

static void reads(void)
{
    char byte;
    if (read(0, &byte, 1) < 0)
        _exit(errno);
}

static void writes(void)
{
    if (write(0, "w", 1) < 0)
        _exit(errno);
}

static void flush(void)
{
    if (tcflush(0, TCIFLUSH))
        _exit(errno);
}

static void resize(void)
{
    struct winsize size;
    if (ioctl(0, TIOCGWINSZ, &size) || ioctl(0, TIOCSWINSZ, &size))
        _exit(errno);
}

static void suspend(void)
{
    raise(SIGTSTP);
}

static void current(void)
{
    int fd = open("/dev/tty", O_RDWR);
    if (fd < 0 || tcgetpgrp(fd) < 0)
        _exit(errno);
}

enum { PLAIN, IGNORES, BLOCKS, ORPHANED };

static void behind(const char *what, void (*act)(void), int how)
{
    pid_t child = fork();
    if (!child) {
        sigset_t set;
        setpgid(0, 0);
        sigemptyset(&set);
        sigaddset(&set, SIGTTOU);
        sigaddset(&set, SIGTTIN);
        if (how == IGNORES) {
            signal(SIGTTOU, SIG_IGN);
            signal(SIGTTIN, SIG_IGN);
        }
        if (how == BLOCKS)
            sigprocmask(SIG_BLOCK, &set, 0);
        if (how == ORPHANED && fork())
            _exit(0);
        if (how == ORPHANED) {
            int status;
            while (getppid() != 1)
                usleep(1000);
            pid_t inner = fork();
            if (!inner) {
                act();
                _exit(0);
            }
            waitpid(inner, &status, WUNTRACED);
            SAY("%s, orphaned: %s\n", what,
                WIFSTOPPED(status) ? "stopped" : WEXITSTATUS(status) ? strerrorname_np(WEXITSTATUS(status)) : "ok");
            tell(to_parent[1]);
            _exit(0);
        }
        act();
        _exit(0);
    }
    char text[60];
    snprintf(text, sizeof text, "%s, %d", what, how);
    if (how == ORPHANED) {
        waitpid(child, 0, 0);
        told(to_parent[0]);
    } else {
        ends(text, child);
    }
    signal(SIGTTOU, SIG_IGN);
    tcsetpgrp(0, getpgrp());
    signal(SIGTTOU, SIG_DFL);
}

static void from_behind(void)
{
    static const struct {
        const char *name;
        void (*act)(void);
    } acts[] = {{"change", change}, {"take", take}, {"read", reads}, {"write", writes}, {"flush", flush},
                {"resize", resize}, {"suspend", suspend}, {"current", current}};
    for (int tostop = 0; tostop < 2; tostop++) {
        struct termios modes;
        tcgetattr(0, &modes);
        modes.c_lflag = tostop ? modes.c_lflag | TOSTOP : modes.c_lflag & ~TOSTOP;
        tcsetattr(0, TCSANOW, &modes);
        SAY("-- from behind, TOSTOP %d\n", tostop);
        for (size_t n = 0; n < sizeof acts / sizeof *acts; n++)
            for (int how = PLAIN; how <= (tostop ? BLOCKS : ORPHANED); how++)
                if (!(tostop && how == PLAIN && n != 3))
                    behind(acts[n].name, acts[n].act, how);
        modes.c_lflag &= ~TOSTOP;
        tcsetattr(0, TCSANOW, &modes);
    }
}

static void another_session(void)
{
    pid_t child = fork();
    if (!child) {
        setsid();
        all_requests("another session", 0);
        TRY(open("/dev/tty", O_RDWR));
        TRY(ioctl(0, TIOCNOTTY));
        tell(to_parent[1]);
        told(to_child[0]);
        _exit(0);
    }
    told(to_parent[0]);
    TRY(tcsetpgrp(0, child));
    tell(to_child[1]);
    ends("another session", child);
}

static volatile sig_atomic_t seen[65];

static void note(int number)
{
    seen[number]++;
}

static void nothing(int number)
{
    (void)number;
}

/* Leads a session of the slave, and says which signals come. */
static void leader(const char *slave)
{
    sigset_t set;
    int number;
    setsid();
    int fd = open(slave, O_RDWR);
    if (fd < 0 || !isatty(fd))
        _exit(9);
    sigfillset(&set);
    sigdelset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, 0);
    tell(to_parent[1]);
    for (;;) {
        sigwait(&set, &number);
        SAY("the leader gets %d\n", number);
        tell(to_parent[1]);
        if (number == SIGTERM)
            break;
    }
    TRY(open("/dev/tty", O_RDWR));
    TRY(tcgetpgrp(fd));
    char byte;
    SAY("read: %zd\n", read(fd, &byte, 1));
    _exit(0);
}

static int master(char *slave)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY);
    TRY(ptsname_r(fd, slave, 60));
    TRY(open(slave, O_RDWR | O_NOCTTY));
    TRY(unlockpt(fd));
    return fd;
}

static void type(int fd, const char *keys)
{
    write(fd, keys, strlen(keys));
}

static void ptys(void)
{
    char slave[60];
    int number, fd = master(slave);
    struct termios modes;
    struct winsize size = {30, 90, 0, 0};
    all_requests("master without session", fd);
    int own = open(slave, O_RDWR | O_NOCTTY);
    all_requests("slave without session", own);
    pid_t child = fork();
    if (!child) {
        close(fd);
        close(own);
        leader(slave);
    }
    told(to_parent[0]);
    TRY(ioctl(fd, TIOCGPGRP, &number));
    SAY("%d ", number == child);
    TRY(ioctl(fd, TIOCGSID, &number));
    SAY("%d\n", number == child);
    TRY(tcgetpgrp(own));
    TRY(tcsetpgrp(fd, getpgrp()));
    TRY(ioctl(own, TIOCSCTTY, 0));
    TRY(ioctl(own, TIOCNOTTY));
    static const char *keys[] = {"\x03", "\x1a", "\x1c", "a\x03" "b", "\x16\x03\x1a", "\x16\x16\x1a"};
    for (size_t n = 0; n < sizeof keys / sizeof *keys; n++) {
        SAY("keys %zu\n", n);
        type(fd, keys[n]);
        told(to_parent[0]);
    }
    tcgetattr(own, &modes);
    modes.c_cc[VINTR] = 'i', modes.c_cc[VQUIT] = 0, modes.c_cc[VSUSP] = 'z';
    tcsetattr(own, TCSANOW, &modes);
    type(fd, "\x03\x1ci"); /* of these only the last is a key */
    told(to_parent[0]);
    type(fd, "z");
    told(to_parent[0]);
    modes.c_lflag &= ~ISIG;
    tcsetattr(own, TCSANOW, &modes);
    type(fd, "iz");
    ioctl(fd, TIOCSIG, SIGINT);
    told(to_parent[0]);
    ioctl(fd, TIOCSWINSZ, &size);
    told(to_parent[0]);
    TRY(ioctl(own, TIOCSWINSZ, &size)); /* as it was: no signal */
    size.ws_row = 31;
    ioctl(own, TIOCSWINSZ, &size);
    told(to_parent[0]);
    number = 1;
    TRY(ioctl(fd, TIOCPKT, &number));
    TRY(ioctl(fd, TIOCGPKT, &number));
    SAY("%d\n", number);
    int peer = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    SAY("peer %d\n", isatty(peer));
    close(peer);
    close(own);
    int copy = dup(fd);
    close(fd);
    close(copy);
    told(to_parent[0]);
    told(to_parent[0]);
    kill(child, SIGTERM);
    told(to_parent[0]);
    ends("leader", child);
}

/* A child of a leader is in front; the leader ends, or gives its terminal up. */
static void losses(int gives_up)
{
    char slave[60];
    SAY("-- %s\n", gives_up ? "TIOCNOTTY" : "the leader's end");
    int fd = master(slave), status;
    pid_t child = fork();
    if (!child) {
        setsid();
        signal(SIGTTOU, SIG_IGN);
        close(0);
        open(slave, O_RDWR);
        pid_t inner = fork();
        if (!inner) {
            sigset_t set;
            int number;
            sigfillset(&set);
            sigprocmask(SIG_BLOCK, &set, 0);
            setpgid(0, 0);
            tcsetpgrp(0, getpid());
            tell(to_parent[1]);
            sigwait(&set, &number);
            if (gives_up)
                told(to_child[0]);
            SAY("in front gets %d\n", number);
            if (gives_up) {
                sigwait(&set, &number);
                SAY("in front gets %d\n", number);
            }
            TRY(open("/dev/tty", O_RDWR));
            tell(to_parent[1]);
            _exit(0);
        }
        told(to_child[0]);
        if (gives_up) {
            TRY(ioctl(0, TIOCNOTTY));
            TRY(ioctl(0, TIOCNOTTY));
            TRY(tcgetpgrp(0));
            tell(to_child[1]);
            waitpid(inner, &status, 0);
            TRY(ioctl(0, TIOCSCTTY, 0));
            SAY("%d\n", tcgetpgrp(0) == getpid());
        }
        _exit(0);
    }
    told(to_parent[0]);
    tell(to_child[1]);
    told(to_parent[0]);
    ends("leader", child);
    close(fd);
}

/* A stopped group is orphaned when its parent ends. */
static void orphans(void)
{
    SAY("-- orphans\n");
    pid_t child = fork();
    if (!child) {
        setpgid(0, 0);
        pid_t inner = fork();
        if (!inner) {
            setpgid(0, 0);
            signal(SIGHUP, note);
            signal(SIGCONT, note);
            raise(SIGSTOP);
            SAY("goes on: SIGHUP %d SIGCONT %d\n", seen[SIGHUP], seen[SIGCONT]);
            tell(to_parent[1]);
            _exit(0);
        }
        int status;
        waitpid(inner, &status, WUNTRACED);
        SAY("stopped %d\n", WIFSTOPPED(status));
        _exit(0);
    }
    waitpid(child, 0, 0);
    told(to_parent[0]);
}

static void no_wait(void)
{
    struct termios modes, raw;
    char byte;
    tcgetattr(0, &modes);
    raw = modes;
    cfmakeraw(&raw);
    raw.c_oflag = modes.c_oflag;
    raw.c_cc[VMIN] = 0, raw.c_cc[VTIME] = 0;
    tcsetattr(0, TCSANOW, &raw);
    SAY("VMIN 0: %zd\n", read(0, &byte, 1));
    raw.c_cc[VTIME] = 1;
    tcsetattr(0, TCSANOW, &raw);
    SAY("VTIME 1: %zd\n", read(0, &byte, 1));
    tcsetattr(0, TCSANOW, &modes);
}

static void proc(void)
{
    char text[1000] = "", name[60];
    int group, session, device, front, number;
    int fd = open("/proc/self/stat", O_RDONLY);
    read(fd, text, sizeof text - 1);
    close(fd);
    sscanf(strrchr(text, ')'), ") %*c %*d %d %d %d %d", &group, &session, &device, &front);
    ioctl(0, TIOCGDEV, &number);
    SAY("stat: %d %d %d %d\n", group == getpgrp(), session == getsid(0), device == number, front == tcgetpgrp(0));
    SAY("ttyname %d\n", ttyname_r(0, name, sizeof name));
}

int main(void)
{
    int number, ends_of_pipe[2];
    signal(SIGALRM, nothing);
    pipe(to_parent);
    pipe(to_child);
    pipe(ends_of_pipe);
    proc();
    all_requests("own terminal", 0);
    number = open("/dev/tty", O_RDWR);
    all_requests("/dev/tty", number);
    close(number);
    all_requests("pipe", ends_of_pipe[0]);
    all_requests("/dev/null", open("/dev/null", O_RDWR));
    all_requests("closed", 77);
    another_session();
    ptys();
    losses(0);
    losses(1);
    orphans();
    from_behind();
    no_wait();
    SAY("-- the end\n");
    return 0;
}
