// Litmus tests of x86's memory order (SDM 3A 8.2): how often was something seen that the order forbids?
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { ROUNDS = 25, THREADS = 4 };
static atomic_int x, y;
static int seen[THREADS][2];
static pthread_barrier_t barrier;

static int get(atomic_int *of) { return atomic_load_explicit(of, memory_order_relaxed); }
static void set(atomic_int *of) { atomic_store_explicit(of, 1, memory_order_relaxed); }
static void both(int *into, atomic_int *first, atomic_int *second) {
    into[0] = get(first);
    atomic_signal_fence(memory_order_seq_cst);
    into[1] = get(second);
}

static void act(int test, int me) {
    atomic_int *mine = me ? &y : &x, *other = me ? &x : &y;
    if (test == 0 && me < 2) { // store buffering, with the fence that forbids it
        set(mine);
        atomic_thread_fence(memory_order_seq_cst);
        seen[me][0] = get(other);
    } else if (test == 1 && me == 0) { // message passing
        set(&x);
        atomic_signal_fence(memory_order_seq_cst);
        set(&y);
    } else if (test == 1 && me == 1) {
        both(seen[1], &y, &x);
    } else if (test == 2 && me < 2) { // load buffering
        seen[me][0] = get(other);
        atomic_signal_fence(memory_order_seq_cst);
        set(mine);
    } else if (test == 3 && me < 2) { // independent reads of independent writes
        set(mine);
    } else if (test == 3) {
        both(seen[me], me == 2 ? &x : &y, me == 2 ? &y : &x);
    } else if (test == 4 && me == 0) { // coherence of one location
        set(&x);
    } else if (test == 4 && me == 1) {
        both(seen[1], &x, &x);
    } else if (test == 5) { // no increment is lost
        atomic_fetch_add(&x, 1);
    }
}

static int forbidden(int test) {
    switch (test) {
    case 0: return !seen[0][0] && !seen[1][0];
    case 1: return seen[1][0] && !seen[1][1];
    case 2: return seen[0][0] && seen[1][0];
    case 3: return seen[2][0] && !seen[2][1] && seen[3][0] && !seen[3][1];
    case 4: return seen[1][0] && !seen[1][1];
    default: return x != THREADS;
    }
}

static void *run(void *number) {
    static const char *const names[] = {"SB+fence", "MP", "LB", "IRIW", "CoRR", "add"};
    int me = (int)(long)number;
    for (int test = 0; test < 6; test++) {
        int count = 0;
        for (int round = 0; round < ROUNDS; round++) {
            if (!me)
                x = y = 0;
            pthread_barrier_wait(&barrier);
            act(test, me);
            pthread_barrier_wait(&barrier);
            if (!me)
                count += forbidden(test);
        }
        if (!me)
            printf("%s: forbidden %d\n", names[test], count);
    }
    return number;
}

int main(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, 0, THREADS);
    for (long each = 0; each < THREADS; each++)
        pthread_create(&threads[each], 0, run, (void *)each);
    for (int each = 0; each < THREADS; each++)
        pthread_join(threads[each], 0);
    return 0;
}
