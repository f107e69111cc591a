/* Programs that miss the TLB, for `quire validate hardware`: run natively and as guests of Quire, from one binary.

   guests KIND BYTES ACCESSES SMALL|LARGE

   KIND is one of the names in `kinds` below. Memory of BYTES, a power of two, is aligned to 2 MiB and advised to be of
   4 KiB pages (SMALL) or of 2 MiB pages (LARGE), filled, and then accessed ACCESSES times. It prints the nanoseconds
   that the accesses took, how many there were, KiB of the memory that lie in huge pages by /proc/self/smaps, and a sum
   that depends on all that was read. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define HUGE ((uint64_t)2 << 20)
#define LINE 64

typedef uint64_t u64;
typedef uint32_t u32;

static char *memory;
static u64 bytes;
static u64 state = 88172645463325252ull;

static inline u64 draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(2);
}

/* cycle: additions that each wait for the one before, a cycle each: how long a cycle is. */
static void no_fill(void) {}

static u64 cycle(u64 count) {
    u64 sum = 1;
    for (u64 n = 0; n < count; n++)
        __asm__ volatile("add $1, %0" : "+r"(sum));
    return sum;
}

/* gups: words at random places are updated, none waits for another. */
static void gups_fill(void) {
    u64 *words = (u64 *)memory;
    for (u64 n = 0; n < bytes / 8; n += 512)
        words[n] = n;
}

static u64 gups(u64 count) {
    u64 *words = (u64 *)memory, mask = bytes / 8 - 1;
    for (u64 n = 0; n < count; n++) {
        u64 drawn = draw();
        words[drawn & mask] ^= drawn;
    }
    return words[draw() & mask];
}

/* chase: a cycle through a line of each page in random order; each read waits for the one before. lines: the same
   through every line, which with 2 MiB pages shows how long the caches take. */
static void cycle_through(u64 unit) {
    u64 pages = bytes / unit;
    u32 *order = malloc(pages * sizeof *order);
    if (!order)
        fail("no memory for the order of the pages");
    for (u64 n = 0; n < pages; n++)
        order[n] = n;
    for (u64 n = pages - 1; n > 0; n--) {
        u64 other = draw() % (n + 1);
        u32 kept = order[n];
        order[n] = order[other];
        order[other] = kept;
    }
    for (u64 n = 0; n < pages; n++) {
        u64 from = order[n], to = order[(n + 1) % pages];
        *(u64 *)(memory + from * unit + from * LINE % unit) = to * unit + to * LINE % unit;
    }
    free(order);
}

static void chase_fill(void) { cycle_through(4096); }

static void lines_fill(void) { cycle_through(LINE); }

static u64 chase(u64 count) {
    u64 at = 0; /* page 0 is on the cycle, at line 0 */
    for (u64 n = 0; n < count; n++)
        at = *(u64 *)(memory + at);
    return at;
}

/* btree: a tree of nodes of 256 bytes, 31 keys each, laid out in levels; look-ups of random keys from the root. An
   access is the search of one node, without branches; each waits for the one before, and a look-up for the last. */
enum { KEYS = 31, FAN = 32, NODE = 256 };

static u64 tree_levels(void) {
    u64 levels = 0, nodes = 1, first = 0;
    while ((first + nodes) * NODE <= bytes) {
        first += nodes;
        nodes *= FAN;
        levels++;
    }
    /* The last level is cut off where memory ends: as many children as there is room for. */
    return (bytes / NODE - first) >= FAN ? levels + 1 : levels;
}

static u64 leaves(u64 levels) {
    u64 nodes = 1, first = 0;
    for (u64 level = 1; level < levels; level++) {
        first += nodes;
        nodes *= FAN;
    }
    return bytes / NODE - first < nodes ? bytes / NODE - first : nodes;
}

static void btree_fill(void) {
    for (u64 node = 0; node < bytes / NODE; node++)
        for (u64 key = 0; key < KEYS; key++)
            *(u32 *)(memory + node * NODE + key * 8) = (u32)(((key + 1) << 32) / FAN);
}

static u64 btree(u64 count) {
    u64 levels = tree_levels(), last = leaves(levels), sum = 0;
    for (u64 done = 0; done < count;) {
        u64 first = 0, nodes = 1, node = 0, wanted = (draw() ^ sum) & 0xffffffff;
        for (u64 level = 0; level < levels && done < count; level++, done++) {
            const char *at = memory + (first + node) * NODE;
            u64 low = 0;
            for (u64 half = FAN / 2; half > 0; half /= 2)
                low += (*(const u32 *)(at + (low + half - 1) * 8) <= wanted) * half;
            first += nodes;
            nodes *= FAN;
            node = node * FAN + low;
            if (level + 2 == levels)
                node %= last;
            wanted = (wanted * 0x9e3779b1u + (u32)low) & 0xffffffff;
            sum += low;
        }
    }
    return sum;
}

/* bfs: a graph of random edges, eight of each vertex, breadth first from random vertices until enough edges were
   looked at. An access is an edge: the mark of the vertex it leads to is read. */
enum { DEGREE = 8 };

static u64 vertices(void) { return bytes / 8 / (DEGREE / 2 + 2); }

static void bfs_fill(void) {
    u64 count = vertices();
    u32 *edges = (u32 *)memory;
    for (u64 n = 0; n < count * DEGREE; n++)
        edges[n] = draw() % count;
    memset(edges + count * DEGREE, 0, count * 8);
}

static u64 bfs(u64 wanted) {
    u64 count = vertices(), done = 0, sum = 0;
    u32 *edges = (u32 *)memory, *seen = edges + count * DEGREE, *queue = seen + count;
    for (u32 round = 1; done < wanted; round++) {
        u64 head = 0, tail = 0;
        u32 root = draw() % count;
        seen[root] = round;
        queue[tail++] = root;
        while (head < tail && done < wanted) {
            const u32 *of = edges + (u64)queue[head++] * DEGREE;
            for (u64 n = 0; n < DEGREE; n++, done++)
                if (seen[of[n]] != round) {
                    seen[of[n]] = round;
                    queue[tail++] = of[n];
                }
        }
        sum += tail;
    }
    return sum;
}

/* join: the probe side of a hash join: buckets of four keys, a line of half, hit at random; none waits for another. */
static u64 hashed(u64 key) { return key * 0x9e3779b97f4a7c15ull >> 20; }

static void join_fill(void) {
    u64 *slots = (u64 *)memory, buckets = bytes / 32;
    for (u64 n = 0; n < buckets * 2; n++) {
        u64 *bucket = slots + (hashed(n) & (buckets - 1)) * 4;
        for (u64 slot = 0; slot < 4; slot++)
            if (!bucket[slot]) {
                bucket[slot] = n + 1;
                break;
            }
    }
}

static u64 join(u64 count) {
    const u64 *slots = (u64 *)memory;
    u64 buckets = bytes / 32, found = 0;
    for (u64 n = 0; n < count; n++) {
        u64 key = draw() % (buckets * 2);
        const u64 *bucket = slots + (hashed(key) & (buckets - 1)) * 4;
        found += (bucket[0] == key + 1) | (bucket[1] == key + 1) | (bucket[2] == key + 1) | (bucket[3] == key + 1);
    }
    return found;
}

static const struct {
    const char *name;
    void (*fill)(void);
    u64 (*access)(u64);
} kinds[] = {
    {"cycle", no_fill, cycle}, {"gups", gups_fill, gups}, {"chase", chase_fill, chase}, {"lines", lines_fill, chase},
    {"btree", btree_fill, btree}, {"bfs", bfs_fill, bfs}, {"join", join_fill, join},
};

/* KiB of the memory that lie in huge pages. */
static u64 huge(void) {
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[256];
    u64 found = 0, inside = 0;
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long long start, end, size;
        if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
            inside = start < (u64)memory + bytes && end > (u64)memory;
        else if (inside && sscanf(line, "AnonHugePages: %llu", &size) == 1)
            found += size;
    }
    fclose(file);
    return found;
}

int main(int argc, char **argv) {
    if (argc != 5)
        fail("usage: guests KIND BYTES ACCESSES SMALL|LARGE");
    bytes = strtoull(argv[2], 0, 10);
    u64 accesses = strtoull(argv[3], 0, 10);
    char *raw = mmap(0, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        fail("the kernel gives no memory");
    memory = (char *)(((u64)raw + HUGE - 1) & ~(HUGE - 1));
    int advice = strcmp(argv[4], "LARGE") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE;
    int refused = madvise(memory, bytes, advice);
    for (unsigned n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        if (strcmp(argv[1], kinds[n].name))
            continue;
        struct timespec start, end;
        kinds[n].fill();
        clock_gettime(CLOCK_MONOTONIC, &start);
        u64 sum = kinds[n].access(accesses);
        clock_gettime(CLOCK_MONOTONIC, &end);
        long long took = (end.tv_sec - start.tv_sec) * 1000000000ll + (end.tv_nsec - start.tv_nsec);
        printf("%lld %llu %llu %llu %d\n", took, (unsigned long long)accesses, (unsigned long long)huge(),
               (unsigned long long)sum, refused);
        return 0;
    }
    fail("no such kind");
}
