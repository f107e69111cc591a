/* Futexes themselves: time-outs, bit sets, requeueing, WAKE_OP, priority inheritance, robust locks, shared ones. */

#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int words[4];
static volatile int started;

static long futex(int *word, int operation, int value, void *timeout, int *other, int third)
{
    long result = syscall(SYS_futex, word, operation, value, timeout, other, third);
    return result < 0 ? -errno : result;
}

static void *waits(void *argument)
{
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    return (void *)futex(&words[0], FUTEX_WAIT_BITSET_PRIVATE, 0, 0, 0, (int)(long)argument);
}

static void all_started(int count)
{
    while (started < count)
        sched_yield();
    usleep(20000);
}

int main(void)
{
    pthread_t threads[3];
    struct timespec soon = {0, 1000000};
    void *result;
    printf("%ld %ld\n", futex(words, FUTEX_WAIT_PRIVATE, 1, 0, 0, 0), futex(words, FUTEX_WAIT_PRIVATE, 0, &soon, 0, 0));
    for (long n = 0; n < 3; n++)
        pthread_create(&threads[n], 0, waits, (void *)(1L << n));
    all_started(3);
    printf("bits %ld\n", futex(words, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 2));
    pthread_join(threads[1], &result);
    printf("moved %ld\n", futex(words, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)9, &words[1], 0));
    printf("woken %ld %ld\n", futex(words, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0), futex(&words[1], FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
    pthread_join(threads[0], &result);
    pthread_join(threads[2], &result);
    printf("wake-op %ld", futex(words, FUTEX_WAKE_OP_PRIVATE, 1, 0, &words[2], FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)));
    printf(" %d\n", words[2]);
    printf("pi %ld", futex(&words[3], FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0));
    printf(" %d\n", words[3] == gettid());
    printf("pi %ld", futex(&words[3], FUTEX_LOCK_PI_PRIVATE, 0, 0, 0, 0));
    printf(" %ld", futex(&words[3], FUTEX_UNLOCK_PI_PRIVATE, 0, 0, 0, 0));
    printf(" %d\n", words[3]);
    fflush(stdout);
    pthread_mutexattr_t kind;
    pthread_mutex_t *mutex = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &kind);
    if (!fork()) {
        pthread_mutex_lock(mutex);
        _exit(0);
    }
    wait(0);
    printf("robust %d %d\n", pthread_mutex_lock(mutex) == EOWNERDEAD, pthread_mutex_consistent(mutex));
    return 0;
}
