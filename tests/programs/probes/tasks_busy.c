/* A program that runs is not opened for writing, and a file that is open for writing is not executed (ETXTBSY). */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void copy(const char *name)
{
    char text[1 << 16];
    int from = open("/proc/self/exe", O_RDONLY), to = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755), count;
    while ((count = read(from, text, sizeof text)) > 0) write(to, text, count);
    close(from), close(to);
}

static void script(const char *name, const char *line)
{
    int to = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    write(to, line, strlen(line));
    close(to);
}

static const char *word(int result)
{
    static char text[4][32];
    static int next;
    char *found = text[next++ % 4];
    sprintf(found, "%s", result < 0 ? strerrorname_np(errno) : "done");
    if (result > 2) close(result);
    return found;
}

static void writes(const char *what, const char *name)
{
    struct stat before, after;
    stat(name, &before);
    printf("%s: write %s", what, word(open(name, O_WRONLY)));
    printf(" both %s", word(open(name, O_RDWR)));
    printf(" read %s", word(open(name, O_RDONLY)));
    printf(" path %s", word(open(name, O_PATH | O_WRONLY)));
    printf(" exclusive %s", word(open(name, O_WRONLY | O_CREAT | O_EXCL | O_TRUNC, 0700)));
    printf(" folder %s", word(open(name, O_RDWR | O_DIRECTORY)));
    stat(name, &after);
    printf(" same %d\n", before.st_size == after.st_size), fflush(stdout);
}

static void empties(const char *what, const char *name)
{
    struct stat before, after;
    stat(name, &before);
    printf("%s: truncate %s", what, word(truncate(name, 0)));
    printf(" by open %s", word(open(name, O_WRONLY | O_TRUNC)));
    printf(" to read %s", word(open(name, O_RDONLY | O_TRUNC)));
    printf(" creat %s", word(creat(name, 0700)));
    stat(name, &after);
    printf(" same %d\n", before.st_size == after.st_size), fflush(stdout);
}

static void executes(const char *what, const char *name)
{
    fflush(stdout);
    int child = fork();
    if (!child) {
        execl(name, "busy", "end", NULL);
        printf("%s: %s\n", what, strerrorname_np(errno)), fflush(stdout);
        _exit(1);
    }
    waitpid(child, 0, 0);
}

int main(int count, char **words)
{
    int ends[2], ready[2];
    if (count > 1) {
        if (!strcmp(words[count - 1], "wait")) write(1, "running\n", 8), read(0, ends, 1);
        else puts("executed");
        return 0;
    }
    copy("one"), copy("two"), copy("own");
    script("script", "#!./two\n"), script("text", "no program\n");
    writes("idle", "one");
    pipe2(ends, O_CLOEXEC), pipe2(ready, O_CLOEXEC);
    fflush(stdout);
    if (!fork()) {
        dup2(ends[0], 0), dup2(ready[1], 1);
        execl("./one", "one", "wait", NULL);
        _exit(1);
    }
    char said[8];
    read(ready[0], said, sizeof said);
    writes("runs", "one"), empties("runs", "one");
    symlink("one", "link"), writes("by a link", "link"), empties("by a link", "link");
    link("one", "name"), writes("by a name", "name");
    rename("one", "moved"), copy("one"), writes("moved", "moved"), writes("in its place", "one");
    close(ends[1]);
    wait(0);
    writes("ended", "moved"), empties("ended", "moved");

    int file = open("two", O_WRONLY), other = open("text", O_RDWR), reads = open("own", O_RDONLY);
    executes("open to write", "./two"), executes("its script", "./script"), executes("no program", "./text");
    executes("open to read", "./own");
    executes("not there", "./none"), chmod("two", 0600), executes("not executable", "./two"), chmod("two", 0700);
    close(file), close(other);
    executes("closed", "./two"), executes("no program", "./text");
    file = open("script", O_RDWR);
    executes("script", "./script");
    close(file);
    executes("script", "./script");
    file = open("two", O_RDWR);
    char *text = mmap(0, 4096, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    executes("mapped", "./two");
    munmap(text, 4096);
    executes("mapped no more", "./two");
    file = open("two", O_WRONLY);
    pipe2(ends, O_CLOEXEC);
    int child = fork();
    if (!child) close(ends[1]), read(ends[0], said, 1), _exit(0);
    close(file);
    executes("a child has it", "./two");
    close(ends[1]), waitpid(child, 0, 0);
    executes("no child has it", "./two");
    close(reads);
    int memory = memfd_create("program", 0);
    char name[64];
    sprintf(name, "/proc/self/fd/%d", memory);
    int from = open("own", O_RDONLY);
    char data[1 << 16];
    while ((count = read(from, data, sizeof data)) > 0) write(memory, data, count);
    executes("memory file", name);
    return 0;
}
