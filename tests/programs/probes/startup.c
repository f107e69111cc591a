/* What a program starts with: arguments, environment, auxiliary vector, CPUID, brk. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

static const Elf64_auxv_t *vector(void) {
    char **p = environ;
    while (*p) p++;
    return (const Elf64_auxv_t *)(p + 1);
}

static void auxiliary(void) {
    static const unsigned long compared[] = {AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_FLAGS,  AT_UID,
                                             AT_EUID,  AT_GID,   AT_EGID,   AT_SECURE, AT_CLKTCK};
    for (size_t i = 0; i < sizeof compared / sizeof *compared; i++)
        printf("auxv %lu = %lu\n", compared[i], getauxval(compared[i]));
    printf("platform %s\n", (char *)getauxval(AT_PLATFORM));
    printf("execfn %s\n", (char *)getauxval(AT_EXECFN));
    const Elf64_Phdr *phdr = (void *)getauxval(AT_PHDR);
    unsigned loads = 0;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++) loads += phdr[i].p_type == PT_LOAD;
    printf("segments %u, random %d\n", loads, getauxval(AT_RANDOM) != 0);
    const Elf64_auxv_t *last = vector();
    while (last->a_type != AT_NULL) last++;
    printf("null %lu\n", (unsigned long)last->a_type);
}

static void claims(void) {
    unsigned a, b, c, d, hwcap = 0, guest = getenv("EXPECT_NO_AVX") != 0;
    for (const Elf64_auxv_t *v = vector(); v->a_type != AT_NULL; v++) /* getauxval gives glibc's own */
        if (v->a_type == AT_HWCAP) hwcap = v->a_un.a_val;
    __cpuid(1, a, b, c, d);
    printf("SSE2 %d hwcap %d\n", d >> 26 & 1, hwcap == d || !guest);
    __cpuid_count(7, 0, a, b, c, d);
    printf("vDSO and AVX claims as expected %d\n",
           !guest || (!getauxval(AT_SYSINFO_EHDR) && !(b >> 5 & 1) && !(b >> 16 & 1)));
}

static void descriptors(void) {
    printf("open descriptors");
    for (int i = 0; i < 1024; i++)
        if (fcntl(i, F_GETFD) != -1) printf(" %d", i);
    printf("\n");
}

static void breaks(void) {
    char *start = sbrk(0);
    char *old = sbrk(5 * 4096 + 123);
    memset(old, 0x5a, 5 * 4096 + 123);
    printf("brk grew %ld from its end %d", (long)((char *)sbrk(0) - start), old == start);
    printf(" back %d", brk(start + 4096));
    printf(" kept %x\n", start[4095]);
    brk(start + 3 * 4096);
    printf("grown again is zero %d\n", start[2 * 4096]);
    long refused = syscall(SYS_brk, 1L);
    printf("brk(1) changes nothing %d\n", refused == (long)sbrk(0));
}

int main(int argc, char **argv) {
    printf("argc %d\n", argc);
    for (int i = 1; i < argc; i++) printf("argv %d [%s]\n", i, argv[i]);
    printf("end %d\n", argv[argc] == 0);
    for (char **e = environ; *e; e++)
        if (!strncmp(*e, "PROBE", 5)) printf("env [%s]\n", *e);
    printf("aligned %d\n", ((uintptr_t)__builtin_frame_address(0) & 15) == 0);
    auxiliary();
    claims();
    descriptors();
    breaks();
    return 256 + 6;
}
