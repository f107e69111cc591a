/* Each of the 64 signals that can be caught, from outside, from the group, and from itself; queued ones too. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on(int n, siginfo_t *info, void *context) {
    char line[80];
    (void)context;
    int size = snprintf(line, sizeof line, "%d code %d value %d\n", n, info->si_code,
                        info->si_code == SI_QUEUE ? info->si_value.sival_int : 0);
    write(1, line, size);
}

static int caught(int n) { return n != SIGKILL && n != SIGSTOP && n != 32 && n != 33; }

int main(int argc, char **argv) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on;
    action.sa_flags = SA_SIGINFO;
    for (int n = 1; n < 65; n++)
        if (caught(n)) sigaction(n, &action, NULL);
    if (argc > 1 && !strcmp(argv[1], "group")) {
        for (int n = 1; n < 65; n++)
            if (caught(n)) kill(0, n);
        for (int n = 1; n < 65; n++)
            if (caught(n)) raise(n);
        return 0;
    }
    write(1, "ready\n", 6);
    for (;;) pause();
}
