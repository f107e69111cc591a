/* Every size at every alignment across page boundaries, string instructions, atomics, large arrays. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <emmintrin.h>

#define PAGE 4096
static unsigned char *base;

#define SIZE(T)                                                                                  \
    do {                                                                                         \
        T total = 0;                                                                             \
        for (int at = PAGE - 16; at <= PAGE + 2; at++) {                                         \
            T value;                                                                             \
            memcpy(&value, base + at, sizeof value);                                             \
            __asm__ volatile("" : "+r"(value)::"memory");                                        \
            total = (T)(total * 33 + value);                                                     \
            value = (T)(value + at);                                                             \
            memcpy(base + at + PAGE, &value, sizeof value);                                      \
            __asm__ volatile("" ::: "memory");                                                   \
        }                                                                                        \
        printf("%zu bytes %llu\n", sizeof(T), (unsigned long long)total);                        \
    } while (0)

static void vectors(void) {
    __m128i total = _mm_setzero_si128();
    for (int at = PAGE - 20; at <= PAGE + 4; at++) {
        __m128i value = _mm_loadu_si128((__m128i *)(base + at));
        total = _mm_add_epi32(total, value);
        _mm_storeu_si128((__m128i *)(base + at + 3 * PAGE), total);
    }
    uint32_t out[4];
    memcpy(out, &total, 16);
    printf("16 bytes %u %u %u %u\n", out[0], out[1], out[2], out[3]);
}

static void atomics(void) {
    uint64_t *word = (uint64_t *)(base + 2 * PAGE - 4); /* crosses a page: a split lock */
    uint64_t expected, old;
    memcpy(&expected, word, 8);
    for (int i = 0; i < 5; i++) {
        __asm__ volatile("lock xaddq %0, %1" : "=r"(old), "+m"(*word) : "0"((uint64_t)0x0101010101010101));
        __asm__ volatile("lock cmpxchgq %2, %1" : "=a"(old), "+m"(*word) : "r"(old * 3), "0"(old) : "cc");
    }
    memcpy(&old, word, 8);
    printf("split atomics %llu\n", (unsigned long long)(old - expected));
}

static void strings(void) {
    unsigned char *from = base + PAGE - 100, *to = base + 4 * PAGE - 50;
    long count = 3000;
    __asm__ volatile("cld; rep movsb" : "+S"(from), "+D"(to), "+c"(count)::"memory");
    printf("rep movsb left %ld moved %ld\n", count, (long)(to - base));
    to = base + 5 * PAGE + 8;
    count = 700;
    __asm__ volatile("std; rep stosq; cld" : "+D"(to), "+c"(count) : "a"(0x1122334455667788) : "memory");
    printf("backward rep stosq ends at %ld\n", (long)(to - base));
    memmove(base + 7, base, 6 * PAGE);
}

static unsigned sum(void) {
    unsigned total = 0;
    for (int i = 0; i < 8 * PAGE; i++) total = total * 31 + base[i];
    return total;
}

static void array(void) {
    size_t n = 3 << 20;
    uint32_t *a = malloc(n * sizeof *a), x = 2463534242u;
    for (size_t i = 0; i < n; i++) a[i] = (uint32_t)i;
    uint64_t total = 0;
    for (int i = 0; i < 300000; i++) {
        x ^= x << 13; x ^= x >> 17; x ^= x << 5;
        uint32_t *p = a + x % n;
        total += *p;
        *p ^= x;
    }
    for (size_t i = 0; i < n; i += 1000) total = total * 31 + a[i];
    printf("array of 12 MiB at random %llu\n", (unsigned long long)total);
    free(a);
}

int main(void) {
    base = aligned_alloc(PAGE, 9 * PAGE);
    for (int i = 0; i < 9 * PAGE; i++) base[i] = (unsigned char)(i * 41 + i / 251);
    SIZE(uint8_t);
    SIZE(uint16_t);
    SIZE(uint32_t);
    SIZE(uint64_t);
    vectors();
    atomics();
    strings();
    printf("all bytes %u\n", sum());
    array();
    return 5;
}
