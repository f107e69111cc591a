// Two threads that add 1000 times to a counter: with a lock if there is an argument, else one loses what the other adds.
#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int counter, locked;

static void *add(void *unused) {
    for (int step = 0; step < 1000; step++) {
        if (locked) pthread_mutex_lock(&lock);
        counter++;
        if (locked) pthread_mutex_unlock(&lock);
    }
    return unused;
}

int main(int count, char **words) {
    pthread_t threads[2];
    (void)words, locked = count > 1;
    for (int number = 0; number < 2; number++) pthread_create(&threads[number], 0, add, 0);
    for (int number = 0; number < 2; number++) pthread_join(threads[number], 0);
    printf("%d\n", counter);
    return 0;
}
