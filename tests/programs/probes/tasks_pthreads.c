/* Threads: mutexes, condition variables, barriers, thread-local memory, cancellation; with an argument, a race. */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS = 16, ROUNDS = 300 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static __thread long own;
static long total, ready;
static volatile long racing;

static void *add(void *argument)
{
    for (int round = 0; round < ROUNDS; round++) {
        pthread_mutex_lock(&mutex);
        total++;
        pthread_mutex_unlock(&mutex);
        own += (long)argument;
    }
    errno = (int)(long)argument;
    pthread_barrier_wait(&barrier);
    pthread_mutex_lock(&mutex);
    ready++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
    return (void *)(errno == (long)argument ? own : -1);
}

static void *wait_for_ever(void *argument)
{
    pause();
    return argument;
}

static __attribute__((noinline)) long next(long value)
{
    __asm__ volatile("" : "+r"(value));
    return value + 1;
}

static void *race(void *argument)
{
    for (int round = 0; round < 100000; round++)
        racing = next(racing);
    return argument;
}

int main(int count, char **words)
{
    pthread_t threads[THREADS], idle;
    void *result;
    long sum = 0;
    (void)words;
    if (count > 1) {
        for (long n = 0; n < 4; n++)
            pthread_create(&threads[n], 0, race, 0);
        for (int n = 0; n < 4; n++)
            pthread_join(threads[n], 0);
        printf("%ld\n", racing);
        return 0;
    }
    pthread_barrier_init(&barrier, 0, THREADS);
    for (long n = 0; n < THREADS; n++)
        pthread_create(&threads[n], 0, add, (void *)n);
    pthread_mutex_lock(&mutex);
    while (ready < THREADS)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    for (int n = 0; n < THREADS; n++) {
        pthread_join(threads[n], &result);
        sum += (long)result;
    }
    pthread_create(&idle, 0, wait_for_ever, 0);
    pthread_cancel(idle);
    pthread_join(idle, &result);
    printf("%ld %ld %d\n", total, sum, result == PTHREAD_CANCELED);
    return 0;
}
