/* Tries each call that reads a file by its name on each argument, and writes a line: the call, the argument, the errno.
 * An argument that begins with '@' is relative to the descriptor of the directory "in". */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

static char buffer[4096] __attribute__((aligned(64)));

#define TRY(call, ...) \
    do { \
        errno = 0; \
        long result_ = syscall(SYS_##call, __VA_ARGS__, 0L, 0L, 0L, 0L); \
        printf("%s %s %d\n", #call, argument, result_ < 0 ? errno : 0); \
        after(SYS_##call, result_); \
    } while (0)

static int home;

/* Close what was opened, go back to where the program began. */
static void after(long number, long result)
{
    if (result >= 0 && (number == SYS_open || number == SYS_openat || number == SYS_openat2))
        close(result);
    fchdir(home);
}

int main(int argc, char **argv)
{
    struct open_how how = {.flags = O_RDONLY};
    int watch = inotify_init1(0), in = open("in", O_RDONLY | O_DIRECTORY);
    home = open(".", O_PATH);
    for (int i = 1; i < argc; i++) {
        char *argument = argv[i], *path = argument + (*argument == '@');
        int base = *argument == '@' ? in : AT_FDCWD;
        TRY(openat, base, path, O_RDONLY);
        TRY(openat2, base, path, &how, sizeof how);
        TRY(newfstatat, base, path, buffer, 0);
        TRY(statx, base, path, 0, 0xfff, buffer);
        TRY(faccessat, base, path, R_OK);
        TRY(faccessat2, base, path, R_OK, 0);
        TRY(readlinkat, base, path, buffer, 64);
        if (*argument == '@')
            continue;
        TRY(open, path, O_RDONLY);
        TRY(stat, path, buffer);
        TRY(lstat, path, buffer);
        TRY(statfs, path, buffer);
        TRY(access, path, R_OK);
        TRY(readlink, path, buffer, 64);
        TRY(chdir, path);
        TRY(getxattr, path, "user.a", buffer, 64);
        TRY(lgetxattr, path, "user.a", buffer, 64);
        TRY(listxattr, path, buffer, 64);
        TRY(llistxattr, path, buffer, 64);
        TRY(inotify_add_watch, watch, path, IN_MODIFY);
    }
    return 0;
}
