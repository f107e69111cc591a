"""Ways out of a sandbox that are more than one call, or calls that Quire lacks.

S1 to S6 were open once: they are told in CHANGELOG.md.
"""

__all__ = ["WAYS"]

WAYS = """
way S1: a signal to another when a pipe is ready | = fcntl(own_pipe[0], F_SETOWN, victim) + \
fcntl(own_pipe[0], F_SETSIG, SIGKILL) + fcntl(own_pipe[0], F_SETFL, O_ASYNC|O_NONBLOCK) == -3 ? \
write(own_pipe[1], "z", 1) : -2 | ok
way S2: the memory of Quire's threads | = opens("/proc/%d/mem", 0) | none
way S2: the maps of Quire's threads | = opens("/proc/%d/maps", 0) | none
way S2: the environment of Quire's threads | = opens("/proc/self/task/%d/environ", 0) | none
way S2: the pages of Quire's threads | = opens("/proc/self/task/%d/pagemap", 0) | none
way S2: by a folder | = opens("mem", SC(N_open, "/proc/self", O_PATH|O_DIRECTORY)) | none
way S2: by a folder of a thread | = opens("%d/mem", SC(N_open, "/proc/self/task", O_PATH|O_DIRECTORY)) | none
way S2: in a bound procfs | = opens("bound/self/mem", 0) | none
way S2: in a bound folder of a thread | = opens("bound/self/task/%d/mem", 0) | none
way S2: in a second procfs | = opens("second/self/mem", 0) | none
way S2: in a second procfs, of threads | = opens("second/%d/mem", 0) | none
way S2: what is mapped | = opens("/proc/self/map_files", 0) | none
way S2: the system calls of Quire | = opens("/proc/self/syscall", 0) | none
way S2: openat2 without links | = SC(N_openat2, AT_FDCWD, "/proc/self/mem", \
&(struct open_how){.flags = O_RDWR, .resolve = RESOLVE_NO_XDEV}, 24) | EACCES EXDEV
way S2: openat2 in a root | = SC(N_openat2, SC(N_open, "/proc", O_PATH), "/self/mem", \
&(struct open_how){.flags = O_RDONLY, .resolve = RESOLVE_IN_ROOT}, 24) | EACCES EXDEV ELOOP
way S2: a path descriptor opened again | = SC(N_open, name("/proc/self/fd/%ld", \
SC(N_open, "/proc/self/mem", O_PATH)), O_RDWR) | EACCES ENOENT
way S2: Quire's own descriptors | = quires_descriptors() | none
way S2: how Quire is judged when memory ends | = SC(N_open, "/proc/self/oom_score_adj", O_WRONLY) | EACCES
way S2: Quire's name | = SC(N_open, "/proc/self/comm", O_WRONLY) | EACCES
way S2: the victim's memory | = SC(N_open, name("/proc/%ld/mem", victim), O_RDWR) | EACCES ENOENT
way S3: another file as descriptor 2 | = (SC(N_dup2, DATA, 2), SC(N_write, 2, "z", 1)) | EACCES
way S3: standard output closed and another file in its place | = standard_output_replaced() | EACCES
way S4: position of a shared file | = (SC(N_lseek, DATA, 0, SEEK_END), 0) | ok
way S4: a seal | = SC(N_fcntl, MEMORY, F_ADD_SEALS, F_SEAL_SHRINK) | EPERM
way S4: all of a descriptor's copies | = SC(N_ioctl, SC(N_dup, PIPE_IN), FIONBIO, &(int){1}) | EPERM
way S4: one's own event descriptor, then the inherited one | = (SC(N_eventfd2, 1, 0), \
SC(N_write, EVENT, "\\1\\0\\0\\0\\0\\0\\0\\0", 8)) | EBADF | EACCES
way S5: more memory files than there is memory | = fill_memory() | ENOSPC
way S6: a disk with the numbers of a null device | = SC(N_open, "block", O_WRONLY) | EACCES ENOENT ENXIO
way ptrace | = SC(101, PTRACE_SEIZE, victim, 0, 0) | ENOSYS
way pidfd_send_signal | = SC(424, DATA, SIGKILL, 0, 0) | EBADF
way pidfd_getfd | = SC(438, DATA, 0, 0) | ENOSYS
way unshare | = SC(272, CLONE_NEWUSER|CLONE_NEWNS) | EPERM
way setns | = SC(308, SC(N_open, "/proc/self/ns/mnt", O_RDONLY), 0) | ENOSYS
way chroot | = SC(161, "dir") | ENOSYS
way pivot_root | = SC(155, "dir", "dir") | ENOSYS
way mount | = SC(165, "none", "dir", "tmpfs", 0, 0) | ENOSYS
way umount2 | = SC(166, "/proc", MNT_DETACH) | ENOSYS
way open_tree | = SC(428, AT_FDCWD, "dir", 1) | ENOSYS
way move_mount | = SC(429, FOLDER, "", AT_FDCWD, "dir", 4) | ENOSYS
way fsopen | = SC(430, "proc", 0) | ENOSYS
way mount_setattr | = SC(442, AT_FDCWD, "dir", 0, buffer, 32) | ENOSYS
way open_by_handle_at | = SC(304, FOLDER, buffer, O_RDWR) | ENOSYS
way io_uring_setup | = SC(425, 1, buffer) | ENOSYS
way bpf | = SC(321, 0, buffer, 64) | ENOSYS
way userfaultfd | = SC(323, 0) | ENOSYS
way perf_event_open | = SC(298, buffer, victim, -1, -1, 0) | ENOSYS
way vmsplice | = SC(278, PIPE_IN, &vector, 1, 0) | ENOSYS
way add_key | = SC(248, "user", "new", "z", 1, -2) | ENOSYS
way sethostname | = SC(170, "new", 3) | ENOSYS
way reboot | = SC(169, 0xfee1dead, 672274793, 0, 0) | ENOSYS
way swapon | = SC(167, "file", 0) | ENOSYS
way init_module | = SC(175, buffer, 1, "") | ENOSYS
way move_pages | = SC(279, victim, 0, 0, 0, 0, 0) | ENOSYS
way migrate_pages | = SC(256, victim, 1, &(long){1}, &(long){1}) | ENOSYS
way process_madvise | = SC(440, DATA, &vector, 1, 0, 0) | ENOSYS
way fanotify_init | = SC(300, 0, 0) | ENOSYS
way vhangup | = SC(153) | ENOSYS
way acct | = SC(163, "file") | ENOSYS
way iopl | = SC(172, 3) | ENOSYS
way quotactl | = SC(179, 0, "/", 0, 0) | ENOSYS
way unlink by the 32-bit table | = interrupt_80(10, file_below_4g, 0, 0) | EACCES EFAULT
way open by the 32-bit table | = interrupt_80(5, file_below_4g, O_WRONLY|O_TRUNC, 0) | EACCES
way kill by the 32-bit table | = interrupt_80(37, victim, SIGKILL, 0) | ESRCH
way write by the 32-bit table | = interrupt_80(4, DATA, file_below_4g, 1) | EACCES
"""
