"""Ids of users and groups: Quire's record decides, and the host judges the guest's files by them."""

import errno
import signal
import struct
from dataclasses import replace

from quire.guest.kernel.credentials import UNCHANGED, Credentials, Ids
from quire.guest.kernel.group import ProcessThread
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import POINTER, S32, U32
from quire.guest.syscalls.state import group_state, thread_state
from quire.guest.syscalls.table import syscall

__all__ = ["become", "capable", "may_signal", "restore"]

_SETGROUPS, _SETRESUID, _SETRESGID, _SETFSUID, _SETFSGID, _CAPGET = 116, 117, 119, 122, 123, 125
_GROUPS_MAX = 65536
_GUEST = Effect.GUEST
_PRCTL, _SET_DEATH_SIGNAL, _GET_DEATH_SIGNAL = 157, 1, 2


def _adopt(new: Credentials) -> int:
    """Make the host's view of this thread that of `new`, all but the saved ids; 0 or -errno."""
    numbers = struct.pack(f"<{len(new.others)}I", *new.others)
    others = host.HostBuffer(len(numbers), numbers)
    steps: list[tuple[int, ...]] = [
        (_SETRESGID, new.groups.real, new.groups.effective, UNCHANGED),
        (_SETRESUID, new.users.real, new.users.effective, UNCHANGED),
    ]
    if new.root:  # back to the rights that the steps need, by the saved id
        regain = (_SETRESUID, UNCHANGED, 0, UNCHANGED)
        steps = [regain, (_SETGROUPS, len(new.others), others.address), *steps]
    for number, *words in steps:
        result = host.call(number, *words)
        if result < 0:
            return result
    host.call(_SETFSGID, new.groups.fs)
    host.call(_SETFSUID, new.users.fs)
    return 0


def become(task: Task, new: Credentials) -> int:
    """Give the thread other ids; 0, or -errno and nothing has changed."""
    state = thread_state(task)
    if new == state.credentials:
        return 0
    death_signal = host.HostBuffer(4)
    host.call(_PRCTL, _GET_DEATH_SIGNAL, death_signal.address)
    result = _adopt(new)
    if result < 0:
        _adopt(state.credentials)
    else:
        if new.judged != state.credentials.judged:
            group_state(task).dumpable = _dumpable_after_change()
        state.credentials = new
    # Whose ids change is no longer told of its parent's death; Quire's processes end with those that started them.
    host.call(_PRCTL, _SET_DEATH_SIGNAL, int.from_bytes(death_signal.take(), "little"))
    return min(result, 0)


def _dumpable_after_change() -> int:
    """Return what PR_GET_DUMPABLE says of a process that became another user: the host's suid_dumpable."""
    try:
        with open("/proc/sys/fs/suid_dumpable", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def capable(task: Task) -> bool:
    """Whether the thread has the rights of user 0."""
    return thread_state(task).credentials.capable


def may_signal(task: Task, target: ProcessThread, signo: int) -> bool:
    """Whether the thread may send a signal to another: its own process, the same user, or as user 0; else SIGCONT only
    within its session. Models kill_ok_by_cred and check_kill_permission of Linux's kernel/signal.c.
    """
    if target.process is task.process:
        return True
    own, its = thread_state(task).credentials, thread_state(target).credentials
    targets = (its.users.real, its.users.saved)
    if own.capable or own.users.effective in targets or own.users.real in targets:
        return True
    return signo == signal.SIGCONT and target.process.session == task.process.session


def restore(task: Task) -> None:
    """Make this thread Quire's own again."""
    state = thread_state(task)
    become(task, state.credentials_before)


def _change_users(task: Task, ids: Ids | None) -> int:
    """Take the users that a rule yields; None is its refusal."""
    credentials = thread_state(task).credentials
    return -errno.EPERM if ids is None else become(task, replace(credentials, users=ids))


def _change_groups(task: Task, ids: Ids | None) -> int:
    """Take the groups that a rule yields; None is its refusal."""
    credentials = thread_state(task).credentials
    return -errno.EPERM if ids is None else become(task, replace(credentials, groups=ids))


@syscall(102, "getuid", effect=_GUEST)
def getuid(task: Task) -> int:
    """Return the real user."""
    return thread_state(task).credentials.users.real


@syscall(107, "geteuid", effect=_GUEST)
def geteuid(task: Task) -> int:
    """Return the effective user."""
    return thread_state(task).credentials.users.effective


@syscall(104, "getgid", effect=_GUEST)
def getgid(task: Task) -> int:
    """Return the real group."""
    return thread_state(task).credentials.groups.real


@syscall(108, "getegid", effect=_GUEST)
def getegid(task: Task) -> int:
    """Return the effective group."""
    return thread_state(task).credentials.groups.effective


def _write_three(task: Task, ids: Ids, pointers: tuple[int, int, int]) -> int:
    for pointer, value in zip(pointers, (ids.real, ids.effective, ids.saved), strict=True):
        task.memory.write_u32(pointer, value)
    return 0


@syscall(118, "getresuid", POINTER, POINTER, POINTER, effect=_GUEST)
def getresuid(task: Task, real: int, effective: int, saved: int) -> int:
    """Return the three users."""
    return _write_three(task, thread_state(task).credentials.users, (real, effective, saved))


@syscall(120, "getresgid", POINTER, POINTER, POINTER, effect=_GUEST)
def getresgid(task: Task, real: int, effective: int, saved: int) -> int:
    """Return the three groups."""
    return _write_three(task, thread_state(task).credentials.groups, (real, effective, saved))


@syscall(115, "getgroups", S32, POINTER, effect=_GUEST)
def getgroups(task: Task, size: int, pointer: int) -> int:
    """Return the supplementary groups, or with size 0 how many there are."""
    groups = thread_state(task).credentials.others
    if size < 0 or 0 < size < len(groups):
        return -errno.EINVAL
    if size:
        task.memory.write(pointer, struct.pack(f"<{len(groups)}I", *groups))
    return len(groups)


@syscall(116, "setgroups", S32, POINTER, effect=_GUEST)
def setgroups(task: Task, size: int, pointer: int) -> int:
    """Set the supplementary groups: the right of user 0."""
    credentials = thread_state(task).credentials
    if not credentials.capable:
        return -errno.EPERM
    if not 0 <= size <= _GROUPS_MAX:
        return -errno.EINVAL
    groups = struct.unpack(f"<{size}I", task.memory.read(pointer, 4 * size)) if size else ()
    return become(task, credentials.with_others(sorted(groups)))


@syscall(105, "setuid", U32, effect=_GUEST)
def setuid(task: Task, user: int) -> int:
    """Become another user."""
    credentials = thread_state(task).credentials
    if user == UNCHANGED:
        return -errno.EINVAL
    return _change_users(task, credentials.users.to(user, credentials.capable))


@syscall(106, "setgid", U32, effect=_GUEST)
def setgid(task: Task, group: int) -> int:
    """Become a member of another group."""
    credentials = thread_state(task).credentials
    if group == UNCHANGED:
        return -errno.EINVAL
    return _change_groups(task, credentials.groups.to(group, credentials.capable))


@syscall(113, "setreuid", U32, U32, effect=_GUEST)
def setreuid(task: Task, real: int, effective: int) -> int:
    """Set the real and the effective user."""
    credentials = thread_state(task).credentials
    new = credentials.users.to_real_and_effective(real, effective, credentials.capable)
    return _change_users(task, new)


@syscall(114, "setregid", U32, U32, effect=_GUEST)
def setregid(task: Task, real: int, effective: int) -> int:
    """Set the real and the effective group."""
    credentials = thread_state(task).credentials
    new = credentials.groups.to_real_and_effective(real, effective, credentials.capable)
    return _change_groups(task, new)


@syscall(117, "setresuid", U32, U32, U32, effect=_GUEST)
def setresuid(task: Task, real: int, effective: int, saved: int) -> int:
    """Set the three users."""
    credentials = thread_state(task).credentials
    return _change_users(task, credentials.users.to_all(real, effective, saved, credentials.capable))


@syscall(119, "setresgid", U32, U32, U32, effect=_GUEST)
def setresgid(task: Task, real: int, effective: int, saved: int) -> int:
    """Set the three groups."""
    credentials = thread_state(task).credentials
    return _change_groups(task, credentials.groups.to_all(real, effective, saved, credentials.capable))


@syscall(122, "setfsuid", U32, effect=_GUEST)
def setfsuid(task: Task, user: int) -> int:
    """Set the user by whom files are judged; return the one before."""
    credentials = thread_state(task).credentials
    _change_users(task, credentials.users.to_fs(user, credentials.capable))
    return credentials.users.fs


@syscall(123, "setfsgid", U32, effect=_GUEST)
def setfsgid(task: Task, group: int) -> int:
    """Set the group by which files are judged; return the one before."""
    credentials = thread_state(task).credentials
    _change_groups(task, credentials.groups.to_fs(group, credentials.capable))
    return credentials.groups.fs


@syscall(_CAPGET, "capget", POINTER, POINTER, effect=_GUEST)
def capget(task: Task, header: int, data: int) -> int:
    """Return capabilities; a thread that is no longer user 0 in any way has none."""
    asked = host.HostBuffer(8, task.memory.read(header, 8))
    found = host.HostBuffer(24)
    result = host.call(_CAPGET, asked.address, found.address if data else 0)
    task.memory.write(header, asked.take())
    if result < 0 or not data:
        return result
    state = thread_state(task)
    users = state.credentials.users
    dropped = state.credentials_before != state.credentials and 0 not in (
        users.real,
        users.effective,
        users.saved,
    )
    task.memory.write(data, bytes(24) if dropped else found.take())
    return 0


@syscall(126, "capset", POINTER, POINTER, effect=_GUEST)
def capset(task: Task, header: int, data: int) -> int:
    """Check both pointers and refuse: capabilities are Quire's own."""
    task.memory.read(header, 8)
    task.memory.read(data, 24)
    return -errno.EPERM
