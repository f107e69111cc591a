// Threads, forks, a child that executes a program, memory that is shared and copied: what a sweep of failures goes through.
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char *memory;

static void *touch(void *unused) {
    memset(memory + 8192, 2, 8192);
    return unused;
}

int main(void) {
    int status;
    pthread_t thread;
    memory = mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memory[0] = 1;
    pthread_create(&thread, 0, touch, 0);
    pthread_join(thread, 0);
    if (!fork()) {
        if (!fork()) {
            execl("/bin/true", "true", (char *)0);
            _exit(9);
        }
        wait(&status);
        memory[0] = shared[0] = 3;
        _exit(status != 0);
    }
    wait(&status);
    return memory[0] + shared[0] != 4 || status;
}
