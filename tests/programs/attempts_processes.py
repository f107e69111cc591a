"""Attempts of a sandboxed guest on processes: signals, ids, limits, priorities, memory, time, and prctl."""

__all__ = ["PROCESSES"]

PROCESSES = """
kill | victim, SIGKILL | ESRCH
kill | victim, 0 | ESRCH
kill | getppid(), SIGUSR1 | EPERM
kill | -1, SIGUSR1 | ESRCH
kill | 0, SIGWINCH | ok
kill | getpid(), 0 | ok
tkill | victim, SIGKILL | ESRCH
tgkill | victim, victim, SIGKILL | ESRCH
rt_sigqueueinfo | victim, SIGKILL, buffer | ESRCH
rt_tgsigqueueinfo | victim, victim, SIGKILL, buffer | EPERM ESRCH
shmget | 0x51, 4096, 01666 | ok
shmat | 0, 0, 0 | ok
shmctl | 0, IPC_RMID, 0 | ok
shmdt | 0 | EINVAL
semget | 0x51, 1, 01666 | ok
semop | 0, &(struct sembuf){0, 1, 0}, 1 | ok
semtimedop | 0, &(struct sembuf){0, -1, 0}, 1, 0 | ok
semctl | 0, 0, IPC_RMID, 0 | ok
msgget | 0x51, 01666 | ok
msgsnd | 0, &(struct msgbuf){1, "z"}, 1, 0 | ok
msgrcv | 0, buffer, 1, 0, 0 | ok
msgctl | 0, IPC_RMID, 0 | ok
mq_open | "new", O_CREAT|O_RDWR, 0666, 0 | ok
mq_timedsend | SC(N_mq_open, "new", O_WRONLY), "z", 1, 0, 0 | ok
mq_timedreceive | SC(N_mq_open, "new", O_RDONLY), buffer, 8192, 0, 0 | ok
mq_timedreceive | DATA, buffer, 8192, 0, 0 | EBADF
mq_notify | SC(N_mq_open, "new", O_RDONLY), 0 | ok
mq_getsetattr | SC(N_mq_open, "new", O_RDONLY), 0, buffer | ok
mq_unlink | "new" | ok
setpgid | victim, 0 | ESRCH
setpgid | 0, 0 | EPERM
setsid | | EPERM
setpriority | PRIO_PROCESS, victim, 19 | EPERM
setpriority | PRIO_PGRP, 0, 19 | EPERM
setpriority | PRIO_USER, 0, 19 | EPERM
setpriority | PRIO_PROCESS, 0, 19 | ok
getpriority | PRIO_PROCESS, victim | ok
sched_setaffinity | victim, 8, &(long){1} | ESRCH
sched_getaffinity | 0, 8, buffer | ok
sched_setscheduler | victim, SCHED_IDLE, zeros | ESRCH
sched_setscheduler | 0, SCHED_FIFO, &(int){1} | EPERM
sched_getscheduler | victim | ok
sched_getparam | victim, buffer | ok
sched_get_priority_max | 0 | ok
sched_get_priority_min | 0 | ok
sched_rr_get_interval | 0, buffer | ok
sched_yield | | ok
prlimit64 | victim, RLIMIT_NOFILE, &(struct rlimit){9, 9}, 0 | EPERM
prlimit64 | 0, RLIMIT_CORE, &(struct rlimit){0, 0}, 0 | ok
getrlimit | RLIMIT_NOFILE, buffer | ok
setrlimit | RLIMIT_CORE, &(struct rlimit){0, 0} | ok
ioprio_get | 1, victim | ok
wait4 | -1, 0, WNOHANG, 0 | ECHILD
waitid | P_ALL, 0, 0, WEXITED|WNOHANG, 0 | ECHILD
getpid | | ok
gettid | | ok
getppid | | ok
getpgrp | | ok
getpgid | victim | ESRCH
getsid | victim | ESRCH
uname | buffer | ok
sysinfo | buffer | ok
syslog | 5, 0, 0 | EPERM
personality | 0x40000 | EINVAL
getcpu | 0, 0, 0 | ok
getrandom | buffer, 8, 0 | ok
getrusage | RUSAGE_SELF, buffer | ok
times | buffer | ok
time | 0 | ok
gettimeofday | buffer, 0 | ok
clock_gettime | CLOCK_REALTIME, buffer | ok
clock_getres | CLOCK_REALTIME, buffer | ok
clock_nanosleep | CLOCK_MONOTONIC, 0, zeros, 0 | ok
nanosleep | zeros, 0 | ok
getitimer | ITIMER_REAL, buffer | ok
setitimer | ITIMER_REAL, zeros, 0 | ok
alarm | 0 | ok
timer_create | CLOCK_MONOTONIC, &(struct sigevent){.sigev_notify = SIGEV_NONE}, &timer | ok
timer_settime | timer, 0, &seconds, 0 | ok
timer_gettime | timer, buffer | ok
timer_getoverrun | timer | ok
timer_delete | timer | ok
rt_sigaction | SIGUSR2, 0, buffer, 8 | ok
rt_sigprocmask | SIG_BLOCK, &(long){1L << (SIGUSR2 - 1)}, 0, 8 | ok
rt_sigpending | buffer, 8 | ok
rt_sigtimedwait | &(long){1L << (SIGUSR2 - 1)}, 0, zeros, 8 | EAGAIN
rt_sigreturn | = raise(SIGUSR1) | ok
sigaltstack | 0, buffer | ok
pause | = ticking(SC(N_pause)) | EINTR
rt_sigsuspend | = ticking(SC(N_rt_sigsuspend, zeros, 8)) | EINTR
futex | zeros, 1, 1, 0, 0, 0 | ok
set_tid_address | buffer | ok
set_robust_list | buffer, 24 | ok
get_robust_list | 0, buffer, buffer | ok
arch_prctl | 0x1003, buffer | ok
brk | 0 | ok
mprotect | page, 4096, PROT_READ|PROT_WRITE | ok
mremap | page, 4096, 4096, 0, 0 | ok
msync | page, 4096, MS_SYNC | ok
mincore | page, 4096, buffer | ok
madvise | page, 4096, MADV_DONTNEED | ok
mlock | page, 4096 | ok
mlock2 | page, 4096, 0 | ok
munlock | page, 4096 | ok
mlockall | MCL_CURRENT | ok
munlockall | | ok
munmap | page, 4096 | ok
membarrier | 0, 0, 0 | ok
rseq | buffer, 1, 0, 0 | EINVAL
get_mempolicy | 0, 0, 0, 0, 0 | ok
prctl PR_SET_PDEATHSIG | SIGKILL | ok
prctl PR_GET_PDEATHSIG | buffer | ok
prctl PR_GET_DUMPABLE | | ok
prctl PR_SET_DUMPABLE | 0 | ok
prctl PR_SET_NAME | "renamed" | ok
prctl PR_GET_NAME | buffer | ok
prctl PR_GET_SECCOMP | | ok
prctl PR_CAPBSET_READ | 0 | ok
prctl PR_SET_TIMERSLACK | 1 | ok
prctl PR_GET_TIMERSLACK | | ok
prctl PR_SET_NO_NEW_PRIVS | 1, 0, 0, 0 | ok
prctl PR_GET_NO_NEW_PRIVS | 0, 0, 0, 0 | ok
prctl PR_SET_VMA | 0, page, 4096, 0 | ok
prctl PR_GET_KEEPCAPS | | ok
prctl PR_SET_KEEPCAPS | 1 | ok EPERM
prctl PR_GET_TIMING | | ok
prctl PR_SET_TIMING | 0 | ok
prctl PR_GET_TSC | buffer | ok
prctl PR_SET_TSC | 1 | ok
prctl PR_GET_SECUREBITS | | ok
prctl PR_SET_CHILD_SUBREAPER | 1 | ok
prctl PR_GET_CHILD_SUBREAPER | buffer | ok
prctl PR_GET_TID_ADDRESS | buffer | ok EINVAL
prctl PR_SET_THP_DISABLE | 1, 0, 0, 0 | ok
prctl PR_GET_THP_DISABLE | 0, 0, 0, 0 | ok
prctl PR_GET_SPECULATION_CTRL | 0, 0, 0, 0 | ok ENODEV
prctl PR_GET_MDWE | 0, 0, 0, 0 | ok
process_vm_readv | victim, &vector, 1, &vector, 1, 0 | EPERM ESRCH
process_vm_writev | victim, &vector, 1, &vector, 1, 0 | EPERM ESRCH
process_vm_writev | getpid(), &vector, 1, &vector, 1, 0 | ok
pidfd_open | victim, 0 | ESRCH
pidfd_send_signal | 0, 0, 0, 0 | EBADF
fork | = ended(SC(N_fork)) | ok
vfork | = borrowed() | ok
clone | 0x10000, 0, 0, 0, 0 | EINVAL
clone3 | buffer, 8 | EINVAL
unshare | CLONE_FILES | ok
execve | "/none", 0, 0 | ENOENT
execveat | AT_FDCWD, "/none", 0, 0, 0 | ENOENT
futex_waitv | zeros, 0, 0, 0, 0 | EINVAL
pidfd_open | getpid(), 0 | ok
settimeofday | &seconds, 0 | EPERM
clock_settime | CLOCK_REALTIME, zeros | EPERM
adjtimex | &(int[52]){1} | EPERM
clock_adjtime | CLOCK_REALTIME, &(int[52]){1} | EPERM
ioprio_set | 1, victim, 0 | ESRCH EPERM
sched_setparam | victim, zeros | ESRCH EPERM
sched_setattr | victim, &(int[14]){56}, 0 | ESRCH EPERM
sched_getattr | 0, buffer, 56, 0 | ok
set_mempolicy | 0, 0, 0 | ok
mbind | page, 4096, 0, 0, 0, 0 | ok EFAULT
prctl | PR_CAPBSET_DROP, 0 | EINVAL
prctl | PR_SET_MM, PR_SET_MM_BRK, 0 | EINVAL
getuid | | ok
geteuid | | ok
getgid | | ok
getegid | | ok
getresuid | buffer, buffer, buffer | ok
getresgid | buffer, buffer, buffer | ok
getgroups | 0, 0 | ok
capget | capability, buffer | ok
capset | capability, buffer | EPERM
setgroups | 1, &(int){1000} | ok EPERM
setfsgid | 1000 | ok
setregid | -1, 1000 | ok EPERM
setresgid | 1000, 1000, 0 | ok EPERM
setgid | 1000 | ok EPERM
setfsuid | 1000 | ok
setreuid | -1, 1000 | ok EPERM
setresuid | 1000, 0, 0 | ok EPERM
setuid | 1000 | ok EPERM
exit | = end_by == N_exit ? SC(N_exit, 7) : 0 | ok
exit_group | = end_by == N_exit_group ? SC(N_exit_group, 7) : 0 | ok
"""
