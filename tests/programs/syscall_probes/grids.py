"""Probes that are a product: a call with each descriptor, each bad pointer, each edge of a number."""

from .probe import BAD_POINTERS, DESCRIPTORS, Probe, crossed

_SIZES = {
    "0": "0L",
    "1": "1L",
    "page-1": "PAGE - 1",
    "page": "PAGE",
    "page+1": "PAGE + 1",
    "int-max": "(long)INT_MAX",
    "ssize-max": "SSIZE_MAX",
    "negative": "-1L",
}
_POSITION = "lseek(FILE_, 0, SEEK_CUR)"
_COMMANDS = {
    "getfd": "F_GETFD, 0",
    "getfl": "F_GETFL, 0",
    "pipe-size": "F_GETPIPE_SZ, 0",
    "seals": "F_GET_SEALS, 0",
    "getlk": "F_GETLK, &(struct flock){.l_type = F_WRLCK}",
    "getlk-null": "F_GETLK, NULL",
    "own": "F_GETOWN, 0",
    "lease": "F_GETLEASE, 0",
    "unknown": "99, 0",
    "sig": "F_GETSIG, 0",
}
_FEW = {name: DESCRIPTORS[name] for name in ("file", "dir", "pipe-r", "socket", "path", "closed", "huge")}
_LOCK = "&(struct flock){{.l_type = {0}, .l_whence = {1}, .l_start = {2}, .l_len = {3}}}"
_RANGES = {
    "page": "RW, PAGE",
    "all": "RW, 2 * PAGE",
    "none": "RW, 0L",
    "unaligned": "RW + 1, PAGE",
    "odd-length": "RW, 1L",
    "over-end": "RW, 3 * PAGE",
    "hole": "HOLE, PAGE",
    "huge": "RW, 1L << 46",
    "wraps": "RW, -1L",
    "wraps-to-zero": "RW, -4095L",
    "kernel": "KERNEL, PAGE",
    "last": "LAST - PAGE, PAGE",
    "null": "NULL, PAGE",
    "null-none": "NULL, 0L",
    "ro": "RO, PAGE",
    "prot-none": "NONE, PAGE",
    "file": "FILEMAP, PAGE",
    "shared": "SHARED, PAGE",
    "private-file": "PRIVFILE, PAGE",
    "across": "AT(2), 3 * PAGE",
    "fresh": "FRESH, PAGE",
    "minus": "(char *)-PAGE, PAGE",
    "hole-none": "HOLE, 0L",
}
_ADVICE = {
    "normal": "0",
    "dontneed": "4",
    "free": "8",
    "remove": "9",
    "dontfork": "10",
    "hugepage": "14",
    "dontdump": "16",
    "wipeonfork": "18",
    "cold": "20",
    "pageout": "21",
    "populate-read": "22",
    "populate-write": "23",
    "dontneed-locked": "24",
    "collapse": "25",
    "unknown": "77",
    "negative": "-1",
    "mergeable": "12",
    "hwpoison": "100",
}
_ADVISED = {
    name: _RANGES[name]
    for name in (
        "page",
        "none",
        "unaligned",
        "hole",
        "over-end",
        "ro",
        "file",
        "shared",
        "private-file",
        "wraps",
    )
}
_STATE = ("RW[0]", "SHARED[0]", "FILEMAP[0]", "PRIVFILE[0]")
_PROTECTIONS = {
    "none": "0",
    "read": "1",
    "write": "2",
    "rw": "3",
    "exec": "4",
    "rwx": "7",
    "sem": "8",
    "bad": "16",
    "grows": "PROT_READ | PROT_GROWSDOWN",
    "both": "PROT_GROWSDOWN | PROT_GROWSUP",
}
_WRITTEN = "SHARED[0] = 's'; PRIVFILE[0] = 'p'; FILEMAP[0] = 'f';"
_SIGNALS = {
    "0": "0",
    "hup": "1",
    "kill": "9",
    "stop": "19",
    "rt": "34",
    "last": "64",
    "over": "65",
    "negative": "-1",
}
_CLOCKS = {
    "real": "0",
    "mono": "1",
    "cpu": "2",
    "thread": "3",
    "raw": "4",
    "coarse": "5",
    "boot": "7",
    "alarm": "8",
    "tai": "11",
    "bad": "12",
    "negative": "-1",
    "pid": "-6",
    "thread-name": "-2",
    "big": "99",
}

_OF_FILES: list[Probe] = [
    *crossed("read", "S(read, {0}, RW, 10L)", DESCRIPTORS, values=("RW[0]", "RW[9]")),
    *crossed("read.size", "S(read, FILE_, RW, {0})", _SIZES, values=(_POSITION, "RW[0]")),
    *crossed("read.pointer", "S(read, FILE_, {0}, 10L)", BAD_POINTERS, values=(_POSITION,)),
    *crossed("read.zero", "S(read, {0}, KERNEL, 0L)", DESCRIPTORS),
    *crossed("write", 'S(write, {0}, "0123456789", 10L)', DESCRIPTORS),
    *crossed(
        "write.size", "S(write, FILE_, RW, {0})", _SIZES, values=(_POSITION, "lseek(FILE_, 0, SEEK_END)")
    ),
    *crossed("write.pointer", "S(write, FILE_, {0}, 10L)", BAD_POINTERS, values=(_POSITION,)),
    *crossed("write.pipe.size", "S(write, PIPE_W, RW, {0})", _SIZES),
    *crossed(
        "write.pipe.pointer", "S(write, PIPE_W, {0}, 10L)", BAD_POINTERS, values=("S(read, PIPE_R, RW, 10L)",)
    ),
    *crossed("pread", "S(pread64, {0}, RW, 10L, 3L)", DESCRIPTORS, values=("RW[0]",)),
    *crossed(
        "pwrite", 'S(pwrite64, {0}, "xyz", 3L, 4998L)', DESCRIPTORS, values=("lseek(FILE_, 0, SEEK_END)",)
    ),
    *crossed("open.pointer", "S(open, {0}, O_RDONLY, 0)", BAD_POINTERS),
    *crossed("stat.pointer", 'S(stat, "file", {0})', BAD_POINTERS),
    *crossed("stat.path", "S(stat, {0}, RW)", BAD_POINTERS),
    *crossed("fstat", "S(fstat, {0}, RW)", DESCRIPTORS, values=("((struct stat *)RW)->st_mode & S_IFMT",)),
    *crossed("lseek.of", "S(lseek, {0}, 5L, SEEK_SET)", DESCRIPTORS),
    *crossed("ftruncate", "S(ftruncate, {0}, 7L)", DESCRIPTORS, values=("lseek(RDONLY, 0, SEEK_END)",)),
    *crossed(
        "fallocate", "S(fallocate, {0}, 0, 0L, 9000L)", DESCRIPTORS, values=("lseek(RDONLY, 0, SEEK_END)",)
    ),
    *crossed("fsync", "S(fsync, {0})", DESCRIPTORS),
    *crossed(
        "fchmod",
        "S(fchmod, {0}, 0600)",
        {name: DESCRIPTORS[name] for name in ("file", "path", "closed", "pipe-r", "negative", "huge")},
    ),
    *crossed("flock", "S(flock, {0}, LOCK_EX | LOCK_NB)", DESCRIPTORS),
    *crossed("getdents.of", "S(getdents64, {0}, RW, PAGE)", DESCRIPTORS),
]

_OF_DESCRIPTORS: list[Probe] = [
    *crossed("fcntl", "fcntl({0}, {1})", _FEW, _COMMANDS),
    *crossed(
        "lock",
        f"fcntl(FILE_, F_SETLK, {_LOCK})",
        {"read": "F_RDLCK", "write": "F_WRLCK", "bad": "9"},
        {"set": "SEEK_SET", "end": "SEEK_END", "whence": "7"},
        {"start": "0", "before": "-1"},
        {"all": "0", "back": "-1", "max": "LONG_MAX"},
    ),
    *crossed("pipe2", "S(pipe2, {0}, 0)", BAD_POINTERS),
]

_OF_WAITING: list[Probe] = [
    *crossed(
        "poll",
        "({{struct pollfd p = {{{0}, POLLIN | POLLOUT | POLLPRI, 99}}; poll(&p, 1, 0) * 1000 + p.revents;}})",
        DESCRIPTORS,
    ),
    *crossed("poll.pointer", "S(poll, {0}, 1, 0)", BAD_POINTERS),
    *crossed("select.pointer", "S(select, 4, {0}, NULL, NULL, ((long[]){{0, 0}}))", BAD_POINTERS),
    *crossed(
        "epoll-add",
        "({{struct epoll_event e = {{EPOLLIN | EPOLLOUT, {{.u64 = 7}}}}; epoll_ctl(EPOLL, EPOLL_CTL_ADD, {0}, &e);}})",
        DESCRIPTORS,
    ),
    *crossed(
        "epoll-wait.pointer",
        "({{struct epoll_event e = {{EPOLLIN | EPOLLOUT, {{.u64 = 7}}}}; epoll_ctl(EPOLL, 1, EVENT, &e);"
        " S(epoll_wait, EPOLL, {0}, 1, 0);}})",
        BAD_POINTERS,
    ),
    *crossed("sendmsg.pointer", "S(sendmsg, SOCK_A, {0}, 0)", BAD_POINTERS),
    *crossed("recvmsg.pointer", "S(recvmsg, SOCK_A, {0}, 0)", BAD_POINTERS),
    *crossed("sendto", 'S(sendto, {0}, "abc", 3L, 0, NULL, 0)', DESCRIPTORS),
    *crossed("recvfrom", "S(recvfrom, {0}, RW, 3L, MSG_DONTWAIT, NULL, NULL)", DESCRIPTORS),
    *crossed("sockname", "S(getsockname, {0}, RW, ((int[]){{100}}))", DESCRIPTORS),
]

_OF_MEMORY: list[Probe] = [
    *crossed("munmap", "S(munmap, {0})", _RANGES),
    *crossed("mprotect", "S(mprotect, {0}, PROT_READ)", _RANGES),
    *crossed(
        "mprotect.prot",
        "S(mprotect, RW, PAGE, {0})",
        _PROTECTIONS,
        values=("S(write, NULL_, RW, 1L)", "S(read, FILE_, RW, 1L)"),
    ),
    *crossed(
        "mprotect.shared",
        "S(mprotect, (mmap(HOLE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, RDONLY, 0), HOLE), PAGE, {0})",
        _PROTECTIONS,
    ),
    *crossed("msync", "S(msync, {0}, MS_SYNC)", _RANGES),
    *crossed(
        "msync.flags",
        "S(msync, RW, PAGE, {0})",
        {"none": "0", "async": "1", "both": "5", "bad": "8", "invalidate": "2"},
    ),
    *crossed("mincore.range", "S(mincore, {0}, SHARED)", _RANGES),
    *crossed("mincore.vector", "S(mincore, RW, PAGE, {0})", BAD_POINTERS),
    *crossed("mlock.range", "S(mlock, {0})", _RANGES),
    *crossed(
        "munlock",
        "S(munlock, {0})",
        {name: _RANGES[name] for name in ("page", "none", "hole", "over-end", "wraps", "unaligned")},
    ),
    *crossed(
        "mmap",
        "({{char *p = mmap({0}, PROT_READ | PROT_WRITE, {1}, -1, 0); p == MAP_FAILED ? -1 : 0;}})",
        {
            "none": "NULL, 0",
            "page": "NULL, PAGE",
            "odd": "NULL, 1",
            "huge": "NULL, 1L << 47",
            "minus": "NULL, -1L",
            "kernel": "KERNEL, PAGE",
            "low": "(void *)PAGE, PAGE",
            "unaligned": "HOLE + 1, PAGE",
            "last": "LAST, PAGE",
            "most": "NULL, 1L << 46",
        },
        {
            "private": "MAP_PRIVATE | MAP_ANONYMOUS",
            "shared": "MAP_SHARED | MAP_ANONYMOUS",
            "fixed": "MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED",
            "noreplace": "MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE",
            "no-kind": "MAP_ANONYMOUS",
            "noreserve": "MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE",
        },
    ),
    *crossed(
        "mmap.file",
        "({{char *p = mmap(HOLE, PAGE, {1}, {2} | MAP_FIXED, {0}, 0); p == MAP_FAILED ? -1 : p[1];}})",
        {"file": "FILE_", "rdonly": "RDONLY"},
        {"read": "PROT_READ", "rw": "PROT_READ | PROT_WRITE"},
        {"shared": "MAP_SHARED", "private": "MAP_PRIVATE", "validate": "MAP_SHARED_VALIDATE"},
    ),
    *crossed(
        "mmap.kind",
        "({{char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, {0}, 0); p == MAP_FAILED ? -1 : 0;}})",
        {
            "wronly": "WRONLY",
            "dir": "DIR_",
            "pipe": "PIPE_R",
            "socket": "SOCK_A",
            "event": "EVENT",
            "epoll": "EPOLL",
            "path": "PATH_",
            "null": "NULL_",
            "zero": "ZERO",
            "closed": "CLOSED",
            "negative": "-1",
            "huge": "INT_MAX",
        },
    ),
    *crossed("madvise", "S(madvise, {1}, {0})", _ADVICE, _ADVISED, values=_STATE, before=_WRITTEN),
]

_OF_PROCESSES: list[Probe] = [
    *crossed("sigaction", "S(rt_sigaction, {0}, NULL, RW, 8L)", _SIGNALS),
    *crossed("sigaction.set", "({{memset(RW, 0, 100); S(rt_sigaction, {0}, RW, NULL, 8L);}})", _SIGNALS),
    *crossed("sigaction.pointer", "S(rt_sigaction, SIGUSR1, {0}, NULL, 8L)", BAD_POINTERS),
    *crossed("sigaction.old", "S(rt_sigaction, SIGUSR1, NULL, {0}, 8L)", BAD_POINTERS),
    *crossed("sigprocmask.pointer", "S(rt_sigprocmask, 0, {0}, NULL, 8L)", BAD_POINTERS),
    *crossed("sigprocmask.old", "S(rt_sigprocmask, 0, NULL, {0}, 8L)", BAD_POINTERS),
    *crossed("altstack.pointer", "S(sigaltstack, {0}, NULL)", BAD_POINTERS),
    *crossed(
        "kill",
        "S(kill, getpid(), {0})",
        {name: word for name, word in _SIGNALS.items() if name in ("0", "over", "negative")},
    ),
    *crossed(
        "tgkill",
        "S(tgkill, getpid(), getpid(), {0})",
        {name: word for name, word in _SIGNALS.items() if name in ("0", "over", "negative")},
    ),
    *crossed("clock-gettime", "S(clock_gettime, {0}, RW)", _CLOCKS),
    *crossed("clock-getres", "S(clock_getres, {0}, RW)", _CLOCKS, values=("((long *)RW)[1]",)),
    *crossed("clock-nanosleep", "S(clock_nanosleep, {0}, 0, ((long[]){{0, 0}}), NULL)", _CLOCKS),
    *crossed("timer-create", "({{int t; S(timer_create, {0}, NULL, &t);}})", _CLOCKS),
    *crossed("clock-gettime.pointer", "S(clock_gettime, 1, {0})", BAD_POINTERS),
    *crossed("nanosleep.pointer", "S(nanosleep, {0}, NULL)", BAD_POINTERS),
    *crossed("getitimer.pointer", "S(getitimer, 0, {0})", BAD_POINTERS),
    *crossed(
        "setitimer.pointer",
        "S(setitimer, 0, {0}, NULL)",
        {name: word for name, word in BAD_POINTERS.items() if name != "null"},
    ),
    *crossed("gettimeofday.pointer", "S(gettimeofday, {0}, NULL)", BAD_POINTERS),
    *crossed("times.pointer", "S(times, {0}) > 0", BAD_POINTERS),
    *crossed(
        "getrlimit",
        "S(getrlimit, {0}, RW)",
        {"first": "0", "stack": "3", "last": "15", "over": "16", "negative": "-1"},
    ),
    *crossed("setrlimit.pointer", "S(setrlimit, RLIMIT_CORE, {0})", BAD_POINTERS),
    *crossed(
        "prctl.plain",
        "S(prctl, {0}, RW, 0L, 0L, 0L)",
        {
            "pdeathsig-get": "2",
            "dumpable": "3",
            "name": "16",
            "keepcaps": "7",
            "timing": "13",
            "seccomp": "21",
            "securebits": "27",
            "slack": "30",
            "nnp": "39",
            "thp": "42",
            "tsc": "25",
            "subreaper": "37",
            "tid-address": "40",
            "unknown": "9999",
            "negative": "-1",
            "mce": "34",
            "speculation": "52",
        },
    ),
    *crossed("xattr.get.pointer", 'S(getxattr, "file", {0}, RW, 10L)', BAD_POINTERS),
]

GRIDS = [*_OF_FILES, *_OF_DESCRIPTORS, *_OF_WAITING, *_OF_MEMORY, *_OF_PROCESSES]
