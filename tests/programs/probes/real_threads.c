/* Barriers, condition variables, thread-local storage, cancellation with its handlers, keys, once: 64 threads. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 64, ROUNDS = 8, ITEMS = 500 };

static pthread_barrier_t barrier;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t both = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static __thread int own;
static int table[ROUNDS][THREADS], serial, ended, begun, shared, queue[8], head, tail;
static long consumed;
static sem_t ready;

static void count_end(void *value) { __sync_fetch_and_add(&ended, *(int *)value); free(value); }
static void begin(void) { begun++; pthread_key_create(&key, count_end); }

static void *round_robin(void *argument)
{
	long number = (long)argument;
	pthread_once(&once, begin);
	int *value = malloc(sizeof *value);
	*value = 1;
	pthread_setspecific(key, value);
	for (int i = 0; i < ROUNDS; i++) {
		own += number;
		table[i][number] = i ? table[i - 1][(number + 1) % THREADS] + 1 : own;
		if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
			__sync_fetch_and_add(&serial, 1);
		if (i % 4)
			pthread_rwlock_rdlock(&both);
		else
			pthread_rwlock_wrlock(&both), shared++;
		pthread_rwlock_unlock(&both);
	}
	return (void *)(long)own;
}

static void *produce(void *argument)
{
	for (int i = 1; i <= ITEMS; i++) {
		pthread_mutex_lock(&lock);
		while (tail - head == 8)
			pthread_cond_wait(&changed, &lock);
		queue[tail++ % 8] = i;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return 0;
}

static void *consume(void *argument)
{
	for (int i = 1; i <= ITEMS; i++) {
		pthread_mutex_lock(&lock);
		while (tail == head)
			pthread_cond_wait(&changed, &lock);
		consumed += queue[head++ % 8];
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return 0;
}

static void unlock(void *argument) { pthread_mutex_unlock(argument); __sync_fetch_and_add(&ended, 1); }

static void *waits_for_ever(void *argument)
{
	pthread_mutex_lock(&lock);
	pthread_cleanup_push(unlock, &lock);
	sem_post(&ready);
	for (;;)
		pthread_cond_wait(&changed, &lock);
	pthread_cleanup_pop(0);
	return 0;
}

static void *spins(void *argument)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, 0);
	sem_post(&ready);
	for (volatile long i = 0;; i++)
		;
}

int main(void)
{
	pthread_t threads[THREADS];
	long sum = 0;
	void *result;
	pthread_barrier_init(&barrier, 0, THREADS);
	sem_init(&ready, 0, 0);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], 0, round_robin, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], &result), sum += (long)result;
	printf("%ld %d %d %d %d %d\n", sum, table[ROUNDS - 1][3], serial, ended, begun, shared);
	for (int i = 0; i < 16; i++)
		pthread_create(&threads[i], 0, i % 2 ? produce : consume, 0);
	for (int i = 0; i < 16; i++)
		pthread_join(threads[i], 0);
	printf("consumed %ld\n", consumed);
	ended = 0;
	for (int i = 0; i < 16; i++)
		pthread_create(&threads[i], 0, i % 2 ? waits_for_ever : spins, 0), sem_wait(&ready);
	for (int i = 0; i < 16; i++) {
		pthread_cancel(threads[i]);
		pthread_join(threads[i], &result);
		ended += result == PTHREAD_CANCELED;
	}
	printf("cancelled %d\n", ended);
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec = (until.tv_nsec + 10000000) % 1000000000, until.tv_sec += until.tv_nsec < 10000000;
	pthread_mutex_lock(&lock);
	printf("timed %s\n", strerror(pthread_cond_timedwait(&changed, &lock, &until)));
}
