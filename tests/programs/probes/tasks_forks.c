/* Processes: what each may see of memory after fork, vfork and exec, orphans, zombies, shared memory. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static char pages[8][4096];

static int tree(int depth)
{
    int sum = 0, status;
    for (int n = 0; n < 2 && depth; n++) {
        pid_t child = fork();
        if (!child) {
            pages[depth][n] += depth;
            exit(tree(depth - 1) + pages[depth][n]);
        }
        waitpid(child, &status, 0);
        sum += WEXITSTATUS(status) + pages[depth][n];
    }
    return sum;
}

int main(void)
{
    int status, ends[2];
    char text[16] = "";
    int *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *left_out = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *wiped = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    printf("tree %d\n", tree(3));
    fflush(stdout);
    strcpy(wiped, "secret");
    madvise(left_out, 4096, MADV_DONTFORK);
    madvise(wiped, 4096, MADV_WIPEONFORK);
    if (!fork()) {
        *shared = 7;
        _exit(wiped[0]);
    }
    wait(&status);
    printf("shared %d wiped %d %s\n", *shared, WEXITSTATUS(status), wiped);
    if (!fork())
        _exit(left_out[0]);
    wait(&status);
    printf("left out: signal %d\n", WTERMSIG(status));
    fflush(stdout);
    pid_t child = vfork();
    if (!child) {
        strcpy(text, "borrowed");
        execl("/bin/sh", "sh", "-c", "exit 9", (char *)0);
        _exit(1);
    }
    waitpid(child, &status, 0);
    printf("%s %d\n", text, WEXITSTATUS(status));
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    fflush(stdout);
    if (!fork()) {
        if (!fork()) {
            usleep(1000);
            _exit(4);
        }
        _exit(3);
    }
    wait(&status);
    printf("child %d\n", WEXITSTATUS(status));
    wait(&status);
    printf("orphan %d %d\n", WEXITSTATUS(status), wait(0));
    pipe(ends);
    fcntl(ends[1], 2, 1);
    fflush(stdout);
    if (!fork())
        execl("/bin/sh", "sh", "-c", "true", (char *)0);
    close(ends[1]);
    printf("closed on exec: %zd\n", read(ends[0], text, 1));
    return 0;
}
