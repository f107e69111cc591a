"""Attempts of a sandboxed guest on descriptors: those it inherited, its own, and the commands of fcntl and ioctl."""

__all__ = ["DESCRIPTORS"]

DESCRIPTORS = """
read | DATA, buffer, 2 | ok | EACCES
read | PIPE_OUT, buffer, 1 | EACCES
read | PIPE_IN, buffer, 1 | EACCES
read | MEMORY, buffer, 2 | ok | EACCES
read | SOCKET, buffer, 1 | EACCES
read | TERMINAL, buffer, 1 | EACCES
read | EVENT, buffer, 8 | EBADF | EACCES
read | TIMER, buffer, 8 | EBADF | EACCES
read | WATCH, buffer, 4096 | EBADF | EACCES
read | = SC(N_read, SC(N_dup, PIPE_OUT), buffer, 1) | EACCES
pread64 | DATA, buffer, 2, 0 | ok | EACCES
readv | PIPE_OUT, &vector, 1 | EACCES
preadv | DATA, &vector, 1, 0 | ok | EACCES
preadv2 | PIPE_OUT, &vector, 1, -1L, -1L, 0 | EACCES
write | DATA, "z", 1 | EACCES
write | PIPE_IN, "z", 1 | EACCES
write | MEMORY, "z", 1 | EACCES
write | SOCKET, "z", 1 | EACCES
write | TERMINAL, "z", 1 | EACCES
write | EVENT, "\\1\\0\\0\\0\\0\\0\\0\\0", 8 | EBADF | EACCES
write | own_file, "z", 1 | EACCES
write | = SC(N_dup2, DATA, 250) == 250 ? SC(N_write, 250, "z", 1) : 0 | EACCES
write | 1, "", 0 | ok
write | own_pipe[1], "z", 1 | ok
pwrite64 | DATA, "z", 1, 0 | EACCES
writev | DATA, &vector, 1 | EACCES
pwritev | MEMORY, &vector, 1, 0 | EACCES
pwritev2 | DATA, &vector, 1, 0, 0, 0 | EACCES
lseek | DATA, 1, SEEK_SET | ok | EPERM
lseek | MEMORY, 1, SEEK_SET | ok | EPERM
lseek | own_file, 1, SEEK_SET | ok | EPERM
sendfile | DATA, own_file, 0, 1 | EACCES
sendfile | own_pipe[1], MEMORY, 0, 1 | ok | EACCES
sendfile | own_pipe[1], PIPE_OUT, 0, 1 | EACCES
splice | own_pipe[0], 0, DATA, 0, 1, SPLICE_F_NONBLOCK | EACCES
splice | PIPE_OUT, 0, own_pipe[1], 0, 1, SPLICE_F_NONBLOCK | EACCES
splice | PIPE_OUT, 0, own_memory, 0, 1, SPLICE_F_NONBLOCK | EACCES
splice | SOCKET, 0, own_pipe[1], 0, 1, SPLICE_F_NONBLOCK | EACCES
tee | own_pipe[0], PIPE_IN, 1, SPLICE_F_NONBLOCK | EACCES
tee | PIPE_OUT, own_pipe[1], 1, SPLICE_F_NONBLOCK | EACCES
copy_file_range | own_file, 0, DATA, 0, 1, 0 | EACCES
copy_file_range | MEMORY, 0, own_memory, 0, 1, 0 | ok | EACCES
mmap | 0, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, DATA, 0 | EACCES
mmap | 0, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, MEMORY, 0 | EACCES
mmap | 0, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, own_file, 0 | EACCES
mmap | = *(long *)SC(N_mmap, 0, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE, own_file, 0) = 1 | ok
mmap | = SC(N_mprotect, SC(N_mmap, 0, 4096, PROT_READ, MAP_SHARED, own_file, 0), 4096, PROT_WRITE) | EACCES
close | = SC(N_close, SC(N_dup, DATA)) | ok
close_range | 300, 400, 0 | ok
dup | DATA | ok
dup2 | PIPE_IN, 251 | ok
dup3 | SOCKET, 252, O_CLOEXEC | ok
pipe | spare | ok
pipe2 | spare, O_NONBLOCK | ok
eventfd | 0 | ok
eventfd2 | 0, 0 | ok
timerfd_create | CLOCK_MONOTONIC, 0 | ok
timerfd_settime | TIMER, 0, &seconds, 0 | EBADF | EPERM
timerfd_settime | own_timer, 0, &seconds, 0 | ok
timerfd_gettime | own_timer, buffer | ok
signalfd | -1, zeros, 8 | ok
signalfd4 | -1, zeros, 8, 0 | ok
memfd_create | "m", 0 | ok
epoll_create | 1 | ok
epoll_create1 | 0 | ok
epoll_ctl | EPOLL, EPOLL_CTL_ADD, PIPE_IN, buffer | EBADF | EPERM
epoll_ctl | own_epoll, EPOLL_CTL_ADD, own_pipe[0], buffer | ok | EPERM
epoll_wait | EPOLL, buffer, 1, 0 | EBADF | EPERM
epoll_wait | own_epoll, buffer, 1, 0 | ok | EPERM
epoll_pwait | EPOLL, buffer, 1, 0, 0, 8 | EBADF | EPERM
epoll_pwait2 | EPOLL, buffer, 1, zeros, 0, 8 | EBADF | EPERM
poll | &(struct pollfd){PIPE_OUT, POLLIN}, 1, 0 | ok
ppoll | &(struct pollfd){PIPE_OUT, POLLIN}, 1, zeros, 0, 8 | ok
select | 0, 0, 0, 0, zeros | ok
pselect6 | 0, 0, 0, 0, zeros, 0 | ok
socket | AF_UNIX, SOCK_STREAM, 0 | EPERM
socket | AF_INET, SOCK_DGRAM, 0 | EPERM
socket | AF_NETLINK, SOCK_RAW, 0 | EPERM
socketpair | AF_UNIX, SOCK_STREAM, 0, spare | EPERM
connect | SOCKET, &(struct sockaddr_un){AF_UNIX, "socket"}, sizeof(struct sockaddr_un) | EPERM
bind | SOCKET, &(struct sockaddr_un){AF_UNIX, "new"}, sizeof(struct sockaddr_un) | EPERM
listen | SOCKET, 1 | EPERM
accept | SOCKET, 0, 0 | EPERM
accept4 | SOCKET, 0, 0, 0 | EPERM
shutdown | SOCKET, SHUT_RDWR | EPERM
sendto | SOCKET, "z", 1, MSG_DONTWAIT, 0, 0 | EPERM
recvfrom | SOCKET, buffer, 1, MSG_DONTWAIT, 0, 0 | EPERM
sendmmsg | SOCKET, buffer, 1, MSG_DONTWAIT | EPERM
recvmmsg | SOCKET, buffer, 1, MSG_DONTWAIT, 0 | EPERM
sendmsg | SOCKET, passing_a_descriptor(DATA), MSG_DONTWAIT | EPERM
recvmsg | SOCKET, passing_a_descriptor(DATA), MSG_DONTWAIT | EPERM
setsockopt | SOCKET, SOL_SOCKET, SO_SNDBUF, &(int){4096}, 4 | EPERM
getsockopt | SOCKET, SOL_SOCKET, SO_ERROR, buffer, &(int){4} | EACCES
getsockname | SOCKET, buffer, &(int){64} | ok
getpeername | SOCKET, buffer, &(int){64} | ok
fcntl F_DUPFD | DATA, 20 | ok
fcntl F_DUPFD_CLOEXEC | DATA, 20 | ok
fcntl F_GETFD | DATA, 0 | ok
fcntl F_SETFD | DATA, FD_CLOEXEC | ok
fcntl F_GETFL | DATA, 0 | ok
fcntl F_SETFL | DATA, O_NONBLOCK|O_APPEND | ok | EPERM
fcntl F_SETFL | PIPE_IN, O_NONBLOCK | EPERM
fcntl F_SETFL | SOCKET, O_NONBLOCK | EPERM
fcntl F_SETFL | own_pipe[0], O_ASYNC|O_NONBLOCK | EPERM
fcntl F_GETLK | DATA, &lock | ok
fcntl F_SETLK | DATA, &lock | ok
fcntl F_SETLKW | own_file, &lock | ok
fcntl F_OFD_GETLK | DATA, &lock | ok
fcntl F_OFD_SETLK | DATA, &lock | ok
fcntl F_OFD_SETLKW | MEMORY, &lock | ok
fcntl F_SETOWN | PIPE_OUT, victim | EPERM
fcntl F_SETOWN | own_pipe[0], victim | EPERM
fcntl F_SETOWN | own_pipe[0], getpid() | EPERM
fcntl F_GETOWN | PIPE_OUT, 0 | ok
fcntl F_SETSIG | own_pipe[0], SIGKILL | EPERM
fcntl F_GETSIG | PIPE_OUT, 0 | ok
fcntl F_SETOWN_EX | own_pipe[0], &(struct f_owner_ex){F_OWNER_PID, victim} | EPERM
fcntl F_SETOWN_EX | own_pipe[0], &(struct f_owner_ex){F_OWNER_PGRP, victim} | EPERM
fcntl F_GETOWN_EX | PIPE_OUT, buffer | ok
fcntl F_GETLEASE | DATA, 0 | ok
fcntl F_SETPIPE_SZ | PIPE_IN, 1 << 20 | EPERM
fcntl F_SETPIPE_SZ | 1, 1 << 20 | EPERM
fcntl F_SETPIPE_SZ | own_pipe[0], 1 << 17 | ok
fcntl F_GETPIPE_SZ | PIPE_IN, 0 | ok
fcntl F_ADD_SEALS | MEMORY, F_SEAL_WRITE|F_SEAL_SEAL | EPERM
fcntl F_ADD_SEALS | own_memory, F_SEAL_SEAL | ok
fcntl F_GET_SEALS | MEMORY, 0 | ok
fcntl F_GET_RW_HINT | DATA, buffer | ok
fcntl F_SET_RW_HINT | DATA, &(long){4} | EPERM
fcntl F_GET_FILE_RW_HINT | DATA, buffer | ok EINVAL
fcntl F_SET_FILE_RW_HINT | DATA, &(long){4} | EPERM
fcntl | DATA, F_NOTIFY, DN_CREATE|DN_MULTISHOT | EINVAL
fcntl | DATA, F_SETLEASE, F_RDLCK | EINVAL
ioctl TCGETS | TERMINAL, modes | ok
ioctl TCGETS2 | TERMINAL, modes2 | ok
ioctl TCSETS | TERMINAL, modes | EPERM
ioctl TCSETSW | TERMINAL, modes | EPERM
ioctl TCSETSF | TERMINAL, modes | EPERM
ioctl TCSETS2 | TERMINAL, modes2 | EPERM
ioctl TCSETSW2 | TERMINAL, modes2 | EPERM
ioctl TCSETSF2 | TERMINAL, modes2 | EPERM
ioctl TCSBRK | TERMINAL, 0 | EPERM
ioctl TCXONC | TERMINAL, TCOOFF | EPERM
ioctl TCXONC | 1, TCOOFF | EPERM
ioctl TCFLSH | TERMINAL, TCIOFLUSH | EPERM
ioctl TCSBRKP | TERMINAL, 0 | EPERM
ioctl TIOCSCTTY | TERMINAL, 1 | EPERM
ioctl TIOCNOTTY | TERMINAL, 0 | ENOTTY
ioctl TIOCGPGRP | TERMINAL, buffer | ENOTTY
ioctl TIOCSPGRP | TERMINAL, &victim | ENOTTY
ioctl TIOCSIG | TERMINAL, SIGINT | ENOTTY
ioctl TIOCPKT | TERMINAL, &(int){1} | EPERM
ioctl TIOCSPTLCK | TERMINAL, &(int){1} | EPERM
ioctl TIOCGPTPEER | TERMINAL, O_RDWR | EPERM
ioctl TIOCGDEV | TERMINAL, buffer | ok
ioctl TIOCGPKT | TERMINAL, buffer | ok ENOTTY
ioctl TIOCGPTLCK | TERMINAL, buffer | ok ENOTTY
ioctl TIOCOUTQ | TERMINAL, buffer | ok
ioctl TIOCGWINSZ | TERMINAL, buffer | ok
ioctl TIOCSWINSZ | TERMINAL, zeros | EPERM
ioctl TIOCGSID | TERMINAL, buffer | ENOTTY
ioctl TIOCGPTN | TERMINAL, buffer | ok ENOTTY
ioctl FIONREAD | PIPE_OUT, buffer | ok
ioctl FIONBIO | PIPE_IN, &(int){1} | EPERM
ioctl FIONBIO | SOCKET, &(int){1} | EPERM
ioctl FIONBIO | own_pipe[0], &(int){1} | ok
ioctl FIOCLEX | DATA, 0 | ok
ioctl FIONCLEX | DATA, 0 | ok
ioctl FIOQSIZE | DATA, buffer | ok
ioctl FIOASYNC | PIPE_IN, &(int){1} | EPERM
ioctl FIOASYNC | own_pipe[0], &(int){1} | EPERM
ioctl FIOSETOWN | SOCKET, &victim | EPERM
ioctl SIOCSPGRP | SOCKET, &victim | EPERM
ioctl FIOGETOWN | SOCKET, buffer | ok
ioctl SIOCGPGRP | SOCKET, buffer | ok
ioctl FS_IOC_GETFLAGS | DATA, buffer | ok ENOTTY EOPNOTSUPP
ioctl FS_IOC_GETVERSION | DATA, buffer | ok ENOTTY EOPNOTSUPP
ioctl BLKGETSIZE64 | DATA, buffer | ENOTTY
ioctl BLKSSZGET | DATA, buffer | ENOTTY
ioctl | TERMINAL, TIOCSTI, "z" | ENOTTY
ioctl | TERMINAL, TIOCEXCL, 0 | ENOTTY
ioctl | DATA, 0x40086602, &(long){0} | ENOTTY
ioctl | own_memory, 0x40049409, DATA | EOPNOTSUPP
"""
