/* A job of a shell: says when its group has come to the foreground of its terminal, and works for ever. */

#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t said;

static void go_on(int number)
{
    (void)number;
    said = 0;
}

int main(void)
{
    signal(SIGCONT, go_on);
    for (;; usleep(10000)) {
        int front = tcgetpgrp(0) == getpgrp();
        if (front && !said) {
            said = 1;
            write(1, "in front\n", 9);
        }
        if (!front)
            said = 0;
    }
}
