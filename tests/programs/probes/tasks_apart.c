// Two threads, each of which fills memory of its own: with first touch it is on the node of its vCPU.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
static void *fill(void *unused) {
    char *mine = malloc(1 << 20);
    for (int round = 0; round < 4; round++) memset(mine, round, 1 << 20);
    return unused;
}
int main(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], 0, fill, 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
    return 0;
}
