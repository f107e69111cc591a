"""What each call and command of a guest may change in the host's kernel, for Quire's process or for others.

Somebody looked at each. `UNDONE` are kinds of state that Quire puts back when the guest ends, `STAYS` what is left as a
native run leaves it. A row is in one line for each kind; those of NOTHING make no call of the host that changes
anything: they are records of the guest, or only ask.
"""

__all__ = ["CHANGES", "NOTHING", "STAYS", "UNDONE"]

UNDONE = {
    "descriptors": "which numbers this process has open, what they name, and which are closed on exec",
    "open file": "position, flags, owner and signal of an open file that others have open too",
    "terminal": "modes and size of a terminal",
    "folder": "the working directory",
    "ids": "users and groups, and with them whether others may look into this process",
    "umask": "what new files do not get of their mode: the guest's is put up for the call alone",
    "channels": "memory behind pipes, memory files and event channels: gone with their descriptors",
    "locks": "locks of files: gone with their descriptors",
}
STAYS = {
    "files": "names, contents and attributes of files",
    "others": "what other processes get: bytes, signals, priorities, limits",
}

CHANGES = {
    "descriptors": """
        accept accept4 close close_range creat dup dup2 dup3 epoll_create epoll_create1 eventfd eventfd2
        inotify_init inotify_init1 memfd_create open openat openat2 pipe pipe2 recvmsg socket socketpair
        timerfd_create pidfd_open signalfd signalfd4 fcntl.F_DUPFD fcntl.F_DUPFD_CLOEXEC fcntl.F_SETFD
        mq_open ioctl.FIOCLEX ioctl.FIONCLEX ioctl.TIOCGPTPEER
    """,
    "open file": """
        copy_file_range epoll_ctl epoll_pwait epoll_pwait2 epoll_wait fcntl.F_SETFL fcntl.F_SETOWN fcntl.F_SETOWN_EX
        fcntl.F_SETSIG fcntl.F_SET_FILE_RW_HINT getdents getdents64 getsockopt inotify_add_watch
        inotify_rm_watch ioctl.FIOASYNC ioctl.FIONBIO ioctl.FIOSETOWN ioctl.SIOCSPGRP
        listen lseek preadv2 pwritev2 read readv sendfile setsockopt shutdown
        splice tee timerfd_settime write writev
    """,
    "terminal": """
        ioctl.TCSETS ioctl.TCSETS2 ioctl.TCSETSF ioctl.TCSETSF2 ioctl.TCSETSW ioctl.TCSETSW2
        ioctl.TIOCSWINSZ
    """,
    "folder": "chdir fchdir",
    "ids": "setfsgid setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid",
    "umask": "bind creat mkdir mkdirat mknod mknodat open openat openat2",
    "channels": """
        eventfd eventfd2 fallocate fcntl.F_ADD_SEALS fcntl.F_SETPIPE_SZ ftruncate memfd_create pipe pipe2
        write
    """,
    "locks": "fcntl.F_OFD_SETLK fcntl.F_OFD_SETLKW fcntl.F_SETLK fcntl.F_SETLKW flock",
    "files": """
        bind chmod chown copy_file_range creat fadvise64 fallocate fchmod fchmodat fchmodat2 fchown fchownat
        fcntl.F_ADD_SEALS fcntl.F_SET_RW_HINT fdatasync fremovexattr fsetxattr fsync ftruncate futimesat
        lchown link linkat lremovexattr lsetxattr mkdir mkdirat mknod mknodat mmap msync munmap open openat
        openat2 pwrite64 pwritev pwritev2 readahead removexattr rename renameat renameat2 rmdir sendfile
        setxattr splice symlink symlinkat sync sync_file_range syncfs truncate unlink unlinkat utime
        utimensat utimes write writev
    """,
    "others": """
        connect fcntl.F_SETFL ioctl.TCFLSH ioctl.TCSBRK ioctl.TCSBRKP ioctl.TCXONC ioctl.TIOCPKT ioctl.TIOCSPGRP
        ioctl.TIOCSPTLCK recvfrom recvmsg
        sendmsg sendto sendmmsg recvmmsg setpriority shutdown write writev
    """,
}
NOTHING = """
    adjtimex clock_adjtime clock_settime ioprio_set mbind process_vm_readv process_vm_writev sched_getattr
    sched_setattr sched_setparam set_mempolicy settimeofday prctl.PR_GET_CHILD_SUBREAPER prctl.PR_GET_KEEPCAPS
    prctl.PR_GET_MDWE prctl.PR_GET_SECUREBITS prctl.PR_GET_SPECULATION_CTRL prctl.PR_GET_THP_DISABLE
    prctl.PR_GET_TID_ADDRESS prctl.PR_GET_TIMING prctl.PR_GET_TSC prctl.PR_SET_CHILD_SUBREAPER
    prctl.PR_SET_KEEPCAPS prctl.PR_SET_THP_DISABLE prctl.PR_SET_TIMING prctl.PR_SET_TSC
    clone clone3 execve execveat fork futex_waitv kill pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo setpgid
    setsid tgkill tkill unshare vfork
    mq_getsetattr mq_notify mq_timedreceive mq_timedsend mq_unlink
    msgctl msgget msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget
    access alarm arch_prctl brk capget capset clock_getres clock_gettime clock_nanosleep exit exit_group
    faccessat faccessat2 fcntl fcntl.F_GETFD fcntl.F_GETFL fcntl.F_GETLEASE fcntl.F_GETLK fcntl.F_GETOWN
    fcntl.F_GETOWN_EX fcntl.F_GETPIPE_SZ fcntl.F_GETSIG fcntl.F_GET_FILE_RW_HINT fcntl.F_GET_RW_HINT
    fcntl.F_GET_SEALS fcntl.F_OFD_GETLK fgetxattr flistxattr fstat fstatfs futex get_mempolicy get_robust_list
    getcpu getcwd getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid
    getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname gettid gettimeofday getuid
    getxattr ioctl ioctl.BLKGETSIZE64 ioctl.BLKSSZGET ioctl.FIOGETOWN ioctl.FIONREAD ioctl.SIOCGPGRP
    ioctl.FIOQSIZE ioctl.FS_IOC_GETFLAGS
    ioctl.FS_IOC_GETVERSION ioctl.TCGETS ioctl.TCGETS2 ioctl.TIOCGDEV ioctl.TIOCGPGRP ioctl.TIOCGPKT
    ioctl.TIOCGPTLCK ioctl.TIOCGPTN ioctl.TIOCGSID ioctl.TIOCNOTTY ioctl.TIOCSCTTY ioctl.TIOCSIG
    ioctl.TIOCGWINSZ ioctl.TIOCOUTQ ioprio_get lgetxattr listxattr llistxattr lstat madvise membarrier mincore
    mlock mlock2 mlockall mprotect mremap munlock munlockall nanosleep newfstatat pause personality poll ppoll
    prctl prctl.PR_CAPBSET_READ prctl.PR_GET_DUMPABLE prctl.PR_GET_NAME prctl.PR_GET_NO_NEW_PRIVS
    prctl.PR_GET_PDEATHSIG prctl.PR_GET_SECCOMP prctl.PR_GET_TIMERSLACK prctl.PR_SET_DUMPABLE prctl.PR_SET_NAME
    prctl.PR_SET_NO_NEW_PRIVS prctl.PR_SET_PDEATHSIG prctl.PR_SET_TIMERSLACK prctl.PR_SET_VMA pread64 preadv
    prlimit64 pselect6 readlink readlinkat rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend
    rt_sigtimedwait sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getparam
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setscheduler sched_yield select
    set_robust_list set_tid_address setitimer setrlimit sigaltstack stat statfs statx sysinfo syslog time
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_gettime times umask uname
    wait4 waitid
"""
