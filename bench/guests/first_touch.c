// Touches each of the pages of a new anonymous mapping once: argv[1] pages, argv[2] "write" or "read".
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    long pages = atol(argv[1]);
    int writes = argv[2][0] == 'w';
    volatile char *memory = mmap(0, (pages + 1) << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    int sum = 0;
    for (long page = 0; page < pages; page++) {
        if (writes)
            memory[page << 12] = 1;
        else
            sum += memory[page << 12];
    }
    return sum != 0;
}
