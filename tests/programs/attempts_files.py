"""Attempts of a sandboxed guest on files: their names, attributes, contents, and what opens them.

A line is the row of the table of effects, its arguments in C, and what must come of it; see attempts.py.
"""

__all__ = ["FILES"]

FILES = """
stat | "file", buffer | ok
lstat | "link", buffer | ok
fstat | DATA, buffer | ok
newfstatat | AT_FDCWD, "file", buffer, 0 | ok
statx | AT_FDCWD, "file", 0, 0xfff, buffer | ok
statfs | "file", buffer | ok
fstatfs | DATA, buffer | ok
access | "file", R_OK | ok
faccessat | AT_FDCWD, "file", R_OK | ok
faccessat2 | AT_FDCWD, "file", R_OK, 0 | ok
getcwd | buffer, 4096 | ok
chdir | = SC(N_chdir, "dir") || SC(N_chdir, "..") | ok
fchdir | = SC(N_fchdir, own_dir) || SC(N_fchdir, own_folder) | ok
readlink | "link", buffer, 64 | ok
readlinkat | AT_FDCWD, "link", buffer, 64 | ok
getxattr | "file", "user.a", buffer, 64 | ok EOPNOTSUPP
lgetxattr | "file", "user.a", buffer, 64 | ok EOPNOTSUPP
fgetxattr | DATA, "user.a", buffer, 64 | ok EOPNOTSUPP
listxattr | "file", buffer, 64 | ok EOPNOTSUPP
llistxattr | "file", buffer, 64 | ok EOPNOTSUPP
flistxattr | DATA, buffer, 64 | ok EOPNOTSUPP
getdents | own_dir, buffer, 4096 | ok | EACCES
getdents64 | own_dir, buffer, 4096 | ok | EACCES
getdents64 | FOLDER, buffer, 4096 | ok | EACCES
mkdir | "new", 0777 | EACCES
mkdirat | FOLDER, "new", 0777 | EACCES
mknod | "new", S_IFREG|0666, 0 | EACCES
mknod | "new", S_IFBLK|0666, makedev(1, 3) | EACCES
mknodat | FOLDER, "new", S_IFIFO|0666, 0 | EACCES
rmdir | "dir/empty" | EACCES
unlink | "file" | EACCES
unlinkat | AT_FDCWD, "dir/empty", AT_REMOVEDIR | EACCES
unlinkat | FOLDER, "inside", 0 | EACCES
rename | "file", "new" | EACCES
renameat | FOLDER, "inside", FOLDER, "new" | EACCES
renameat2 | AT_FDCWD, "file", AT_FDCWD, "dir/inside", 2 | EACCES
link | "file", "new" | EACCES
linkat | AT_FDCWD, "/proc/self/fd/5", AT_FDCWD, "new", AT_SYMLINK_FOLLOW | EACCES
linkat | DATA, "", AT_FDCWD, "new", AT_EMPTY_PATH | EACCES
linkat | own_memory, "", AT_FDCWD, "new", AT_EMPTY_PATH | EACCES
symlink | "file", "new" | EACCES
symlinkat | "file", FOLDER, "new" | EACCES
chmod | "file", 0777 | EACCES
fchmod | DATA, 0777 | EACCES
fchmod | own_file, 0777 | EACCES
fchmod | 1, 0777 | EACCES
fchmodat | AT_FDCWD, "file", 0777 | EACCES
fchmodat2 | DATA, "", 0777, AT_EMPTY_PATH | EACCES
chown | "file", 1, 1 | EACCES
fchown | DATA, 1, 1 | EACCES
lchown | "link", 1, 1 | EACCES
fchownat | DATA, "", 1, 1, AT_EMPTY_PATH | EACCES
utime | "file", 0 | EACCES
utimes | "file", 0 | EACCES
futimesat | AT_FDCWD, "file", 0 | EACCES
utimensat | AT_FDCWD, "file", 0, 0 | EACCES
utimensat | DATA, 0, 0, 0 | EACCES
setxattr | "file", "user.a", "z", 1, 0 | EACCES
lsetxattr | "file", "user.a", "z", 1, 0 | EACCES
fsetxattr | DATA, "user.a", "z", 1, 0 | EACCES
removexattr | "file", "user.a" | EACCES
lremovexattr | "file", "user.a" | EACCES
fremovexattr | DATA, "user.a" | EACCES
truncate | "file", 0 | EACCES
truncate | "/proc/self/fd/5", 0 | EACCES
ftruncate | DATA, 0 | EACCES
ftruncate | MEMORY, 0 | EACCES
ftruncate | own_file, 0 | EACCES
ftruncate | own_memory, 100 | ok
fallocate | DATA, 0, 0, 1 << 20 | EACCES
fallocate | MEMORY, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0, 4096 | EACCES
fallocate | own_memory, 0, 0, 4096 | ok
fallocate | own_memory, 0, 0, 2L << 30 | ENOSPC
ftruncate | own_memory, 2L << 30 | ENOSPC
sync | | ok
syncfs | DATA | ok
fsync | DATA | ok
fdatasync | DATA | ok
fadvise64 | DATA, 0, 0, POSIX_FADV_DONTNEED | ok
readahead | DATA, 0, 4096 | ok
sync_file_range | DATA, 0, 0, 7 | ok
flock | DATA, LOCK_EX|LOCK_NB | ok
flock | own_file, LOCK_EX|LOCK_NB | ok
umask | 0 | ok
inotify_init | | ok
inotify_init1 | 0 | ok
inotify_add_watch | own_watch, "dir", IN_ALL_EVENTS | ok | EPERM
inotify_add_watch | WATCH, "dir", IN_ALL_EVENTS | EBADF | EPERM
inotify_rm_watch | WATCH, 1 | EBADF | EPERM
open | "file", O_RDONLY | ok
open | "file", O_RDONLY|O_TRUNC | EACCES
open | "file", O_WRONLY | EACCES
open | "file", O_RDWR | EACCES
open | "file", O_ACCMODE | EACCES
open | "file", O_WRONLY|O_APPEND | EACCES
open | "link", O_WRONLY | EACCES
open | "new", O_RDONLY|O_CREAT, 0666 | EACCES
open | "new", O_RDONLY|O_CREAT|O_EXCL, 0666 | EACCES
open | "dir", O_TMPFILE|O_RDWR, 0666 | EACCES
open | "fifo", O_RDONLY|O_NONBLOCK | EACCES
open | "fifo", O_RDWR | EACCES
open | "/dev/null", O_RDWR|O_TRUNC|O_CREAT, 0666 | ok
open | "/proc", O_RDONLY|O_DIRECTORY | ok
open | "/dev/ptmx", O_RDONLY|O_NOCTTY | EACCES
open | "/dev/mem", O_RDONLY | EACCES ENOENT EPERM
open | "/dev/kvm", O_RDONLY | EACCES ENOENT
open | "/proc/self/fd/5", O_RDWR | EACCES
open | "/proc/self/fd/7", O_RDWR | EACCES
open | "/proc/self/fd/6", O_WRONLY | EACCES
open | "/proc/self/fd/6", O_RDONLY|O_NONBLOCK | EACCES
open | "/proc/self/fd/9", O_RDWR|O_NOCTTY | EACCES
open | "/proc/self/fd/9", O_RDONLY|O_NOCTTY | EACCES
open | "/dev/fd/5", O_WRONLY | EACCES
open | "/proc/self/cwd/file", O_WRONLY | EACCES
open | = SC(N_open, name("/proc/self/root%s/file", folder), O_WRONLY) | EACCES
open | = SC(N_open, name("/proc/self/fd/%ld", SC(N_open, "file", O_PATH)), O_RDWR) | EACCES
creat | "new", 0666 | EACCES
creat | "file", 0666 | EACCES
openat | FOLDER, "inside", O_WRONLY | EACCES
openat | FOLDER, "../file", O_WRONLY | EACCES
openat | DATA, "", O_WRONLY | EACCES ENOENT ENOTDIR
openat | AT_FDCWD, "dir", O_RDONLY|O_DIRECTORY | ok
openat2 | AT_FDCWD, "file", &(struct open_how){.flags = O_WRONLY}, 24 | EACCES
openat2 | own_folder, "/file", &(struct open_how){.flags = O_RDWR, .resolve = RESOLVE_IN_ROOT}, 24 | EACCES ENOENT
openat2 | FOLDER, "inside", &(struct open_how){.flags = O_RDWR, .resolve = RESOLVE_BENEATH}, 24 | EACCES
openat2 | AT_FDCWD, "new", &(struct open_how){.flags = O_CREAT|O_RDWR, .mode = 0600}, 24 | EACCES
openat2 | AT_FDCWD, "/dev/null", &(struct open_how){.flags = O_WRONLY}, 24 | ok
"""
