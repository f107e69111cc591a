// Does what it is told to descriptors, in up to four processes: a line of standard input is "process operation words",
// and is answered by a line. Who reads the lines shares the table of process 0 until that parts. Each process has the
// numbers from BASE on for itself: those below are what is tried.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 4, SHOWN = 48, BASE = 190, IN = 190, OUT, SELF, CHANNELS = 200 };
enum { OPEN, CLOSE, DUP, DUP2, DUP3, COPY, SET, RANGE, FORK, SHARE, EXEC, EXIT, TABLE, PART };
typedef struct { int operation, words[3]; } command;
typedef struct { int result; struct { int name, flags; } table[SHOWN]; } answer;

static int number;

static int channel(int process, int side) { return CHANNELS + 2 * process + side; }

static int real(long result) { return result < 0 ? -errno : result; }

static int begin(int process, int flags) {
    long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (child) return child < 0 ? -errno : 0;
    number = process;
    signal(SIGCHLD, SIG_IGN);
    return 1;
}

static void show(answer *found) {
    for (int fd = 0; fd < SHOWN; fd++) {
        struct stat status;
        int flags = fcntl(fd, F_GETFD);
        found->table[fd].name = flags < 0 || fstat(fd, &status) ? -1 : status.st_size;
        found->table[fd].flags = flags;
    }
}

// Return whether there is an answer now: a new process has none, and who executes another program has one later.
static int act(command *what, answer *found) {
    int *w = what->words;
    char name[16];
    sprintf(name, "%d", w[0]);
    switch (what->operation) {
    case OPEN: found->result = real(openat(SELF, name, O_RDONLY | (w[1] ? O_CLOEXEC : 0))); break;
    case CLOSE: found->result = real(close(w[0])); break;
    case DUP: found->result = real(dup(w[0])); break;
    case DUP2: found->result = real(dup2(w[0], w[1])); break;
    case DUP3: found->result = real(syscall(SYS_dup3, w[0], w[1], w[2])); break;
    case COPY: found->result = real(fcntl(w[0], w[2] ? F_DUPFD_CLOEXEC : F_DUPFD, w[1])); break;
    case SET: found->result = real(fcntl(w[0], F_SETFD, w[1])); break;
    case RANGE: found->result = real(syscall(SYS_close_range, w[0], w[1], w[2])); break;
    case FORK: found->result = begin(w[0], 0); return found->result != 1;
    case SHARE: found->result = begin(w[0], CLONE_FILES); return found->result != 1;
    case EXEC: sprintf(name, "%d", number), execl("/proc/self/exe", "descriptors", name, NULL), _exit(1);
    case PART: found->result = real(unshare(CLONE_FILES)); break;
    case TABLE: found->result = 0, show(found); break;
    }
    return 1;
}

static void serve(void) {
    command what;
    while (read(channel(number, 0), &what, sizeof what) == sizeof what) {
        answer found = {0};
        if (act(&what, &found)) write(channel(number, 0), &found, sizeof found);
        if (what.operation == EXIT) _exit(0);
    }
    _exit(0);
}

static void tell(answer *found, int operation) {
    char text[4096], *at = text + sprintf(text, "%d", found->result);
    for (int fd = 0; operation == TABLE && fd < SHOWN; fd++)
        if (found->table[fd].name >= 0) at += sprintf(at, " %d:%d:%d", fd, found->table[fd].name, found->table[fd].flags);
    *at++ = '\n';
    write(OUT, text, at - text);
}

static void direct(void) {
    char line[128];
    FILE *in = fdopen(IN, "r");
    int process;
    command what;
    while (fgets(line, sizeof line, in)) {
        sscanf(line, "%d %d %d %d %d", &process, &what.operation, &what.words[0], &what.words[1], &what.words[2]);
        answer found = {0};
        write(channel(process, 1), &what, sizeof what);
        read(channel(process, 1), &found, sizeof found);
        tell(&found, what.operation);
    }
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        number = atoi(argv[1]);
        answer found = {0};
        write(channel(number, 0), &found, sizeof found);
        serve();
    }
    int pair[2];
    dup2(0, IN), dup2(1, OUT);
    dup2(open(".", O_RDONLY | O_DIRECTORY), SELF);
    for (int process = 0; process < PROCESSES; process++) {
        socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
        for (int side = 0; side < 2; side++) dup2(pair[side], channel(process, side));
        close(pair[0]), close(pair[1]);
    }
    for (int fd = 0; fd < BASE; fd++) close(fd);
    signal(SIGCHLD, SIG_IGN);
    if (begin(0, CLONE_FILES)) serve();
    direct();
}
