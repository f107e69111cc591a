// Reads each of the pages of a new mapping in order, several times over: argv[1] pages, argv[2] passes.
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    long pages = atol(argv[1]), passes = atol(argv[2]);
    volatile char *memory = mmap(0, pages << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    int sum = 0;
    for (long pass = 0; pass < passes; pass++)
        for (long page = 0; page < pages; page++)
            sum += memory[page << 12];
    return sum != 0;
}
