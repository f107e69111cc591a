"""The beginning of threads, processes and programs: clone and its relatives, execve."""

import errno
import os
import struct

from quire.arch import LOW32
from quire.guest.kernel.clone_flags import Clone
from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.load.launch import LaunchError, Program, prepare_file
from quire.guest.mm.linux import TASK_SIZE
from quire.guest.syscalls.busy_files import check_executed
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import AT_FDCWD, DIRECTORY, GIVEN, INT, POINTER, S32, fail
from quire.guest.syscalls.pidfds import open_pidfd
from quire.guest.syscalls.procfs import link_target
from quire.guest.syscalls.table import AGAIN, NO_RESULT, Result, syscall

_EXIT_SIGNAL = 0xFF
_ARGUMENTS = struct.Struct("<8Q")
_ARGUMENTS_MOST = 4096
_SIGNALS = 64
#: Flags that make namespaces and the like, which the guest does not get.
_NAMESPACES = (
    Clone.NEWNS | Clone.NEWCGROUP | Clone.NEWUTS | Clone.NEWIPC | Clone.NEWUSER | Clone.NEWPID | Clone.NEWNET
)
#: What else a task may have of its own, and CLONE_NEWTIME, which is no flag of clone.
_UNSHARED = Clone.THREAD | Clone.FS | Clone.SIGHAND | Clone.VM | Clone.FILES | Clone.SYSVSEM
_NEWTIME = 0x80
_KNOWN = Clone(sum(Clone))
#: Bytes of arguments and environment, at most, as Linux has it: a quarter of the stack limit, and of one word.
_STRINGS_MOST, _STRING_MOST = 6 << 20, 32 * 4096
_AT_EMPTY_PATH, _AT_SYMLINK_NOFOLLOW = 0x1000, 0x100


def _checked(flags: int, exit_signal: int) -> Clone:
    """Return the flags of a new task. EINVAL for what do not go together, as kernel/fork.c says."""
    if flags & ~_KNOWN or exit_signal > _SIGNALS:
        raise fail(errno.EINVAL)
    found = Clone(flags)
    wrong = (
        (found & Clone.SIGHAND and not found & Clone.VM)
        or (found & Clone.THREAD and not found & Clone.SIGHAND)
        or (found & Clone.SIGHAND and found & Clone.CLEAR_SIGHAND)
        or (found & Clone.FS and found & Clone.NEWNS)
    )
    if wrong:
        raise fail(errno.EINVAL)
    if found & _NAMESPACES:
        raise fail(errno.EPERM)
    return found


def _clone(
    task: Task, flags: Clone, exit_signal: int, stack: int, tls: int, pointers: tuple[int, int], pidfd: int
) -> int:
    """Make a task, and wait for its process to have memory of its own if it borrows this one's."""
    if "child" in task.kept:
        return _wait_for_memory(task, task.kept["child"])
    if flags & Clone.PIDFD and not flags & Clone.THREAD:
        task.memory.write_u32(pidfd, 0)
    child = task.clone(flags, exit_signal, stack, tls, pointers)
    if flags & Clone.PIDFD:
        descriptor = open_pidfd(task, child.process, 0)
        task.memory.write_u32(pidfd, max(descriptor, 0))
    if flags & Clone.VFORK:
        task.kept["child"] = child.tid
        return _wait_for_memory(task, child.tid)
    return child.tid


def _wait_for_memory(task: Task, number: int) -> int:
    process = task.kernel.processes.get(number)
    if process is not None and process.borrows and not task.signals.fatal:
        raise Blocks(queues=((process.vfork, 0),), unbroken=True)
    return number


@syscall(56, "clone", INT, POINTER, POINTER, POINTER, INT, effect=Effect.PLAYED)
def clone(task: Task, flags: int, stack: int, parent: int, child: int, tls: int) -> int:
    """Make a thread or a process."""
    if flags & Clone.PIDFD and flags & (Clone.PARENT_SETTID | Clone.DETACHED):
        return -errno.EINVAL
    checked = _checked(flags & LOW32 & ~_EXIT_SIGNAL, flags & _EXIT_SIGNAL)
    return _clone(task, checked & ~Clone.DETACHED, flags & _EXIT_SIGNAL, stack, tls, (parent, child), parent)


@syscall(57, "fork", effect=Effect.PLAYED)
def fork(task: Task) -> int:
    """Make a process that is a copy of this one."""
    return _clone(task, Clone(0), 17, 0, 0, (0, 0), 0)


@syscall(58, "vfork", effect=Effect.PLAYED)
def vfork(task: Task) -> int:
    """Make a process that borrows the memory until it executes a program or ends."""
    return _clone(task, Clone.VM | Clone.VFORK, 17, 0, 0, (0, 0), 0)


@syscall(435, "clone3", POINTER, INT, effect=Effect.PLAYED)
def clone3(task: Task, pointer: int, size: int) -> int:
    """Make a thread or a process, as a structure says."""
    if size < _ARGUMENTS.size:
        return -errno.EINVAL
    if size > _ARGUMENTS_MOST:
        return -errno.E2BIG
    data = task.memory.read(pointer, size)
    flags, pidfd, child, parent, exit_signal, stack, stack_size, tls = _ARGUMENTS.unpack_from(data)
    rest = data[_ARGUMENTS.size :]
    if any(rest[24:]):
        return -errno.E2BIG
    if any(rest[:16]) or (stack == 0) != (stack_size == 0) or stack + stack_size > TASK_SIZE:
        return -errno.EINVAL
    if flags & _EXIT_SIGNAL or (flags & (Clone.THREAD | Clone.PARENT) and exit_signal):
        return -errno.EINVAL
    checked = _checked(flags, exit_signal)
    if checked & Clone.DETACHED:
        return -errno.EINVAL
    return _clone(task, checked, exit_signal, stack + stack_size, tls, (parent, child), pidfd)


@syscall(272, "unshare", INT, effect=Effect.PLAYED)
def unshare(task: Task, flags: int) -> Result:
    """Have descriptors or a working directory of its own. ENOMEM for those of a thread among others; no namespace."""
    if flags & ~(_UNSHARED | _NAMESPACES | _NEWTIME):
        return -errno.EINVAL
    wanted, process = Clone(flags & ~_NEWTIME), task.process
    memory = wanted & (Clone.THREAD | Clone.SIGHAND | Clone.VM)
    if memory and sum(1 for _ in process.live()) > 1:
        return -errno.EINVAL
    others = [one for one in task.kernel.live() if one is not process]
    if memory & (Clone.SIGHAND | Clone.VM) and any(
        one.signals.actions is process.signals.actions for one in others
    ):
        return -errno.EINVAL
    if memory & Clone.VM and process.image.users > 1:
        return -errno.EINVAL
    if flags & (_NAMESPACES | _NEWTIME):
        return -errno.EPERM
    if wanted & Clone.SYSVSEM:
        task.kernel.ipc.undoes(process)
    own = wanted & (Clone.FILES | Clone.FS)
    return AGAIN if own and task.parts(own) else 0


def _strings(task: Task, pointer: int, left: int) -> list[bytes]:
    """Return the strings of an array that ends with a null pointer. E2BIG for more than `left` bytes."""
    found: list[bytes] = []
    while pointer:
        where = task.memory.read_u64(pointer)
        if not where:
            break
        try:
            found.append(task.memory.read_cstring(where, _STRING_MOST))
        except OSError:
            raise fail(errno.E2BIG) from None
        left -= len(found[-1]) + 9
        if left < 0:
            raise fail(errno.E2BIG)
        pointer += 8
    return found


def _execute(task: Task, path: bytes, name: bytes, argv: int, envp: int) -> Result:
    words = _strings(task, argv, _STRINGS_MOST)
    environment = _strings(task, envp, _STRINGS_MOST - sum(map(len, words)))
    path = link_target(task, path) or path  # /proc/self/exe: on the host that is Quire's interpreter
    file = os.fsdecode(path)
    if path and os.access(file, os.X_OK):
        check_executed(task, file)
    program = _prepared(path, name, words or [b""], environment, task.options.root)
    check_executed(task, file, program)
    return AGAIN if task.execute(program) else NO_RESULT


def _prepared(path: bytes, name: bytes, words: list[bytes], environment: list[bytes], root: str) -> Program:
    try:
        return prepare_file(os.fsdecode(path), name, words, tuple(environment), root)
    except LaunchError as error:
        raise fail(error.errno) from None


@syscall(59, "execve", GIVEN, POINTER, POINTER, effect=Effect.PLAYED)
def execve(task: Task, program: tuple[bytes, bytes], argv: int, envp: int) -> Result:
    """Be another program."""
    name, path = program
    return _execute(task, path, name, argv, envp)


@syscall(322, "execveat", DIRECTORY, GIVEN, POINTER, POINTER, S32, effect=Effect.PLAYED)
def execveat(
    task: Task, directory: int, program: tuple[bytes, bytes], argv: int, envp: int, flags: int
) -> Result:
    """Be another program, named relative to a directory, or by a descriptor."""
    name, path = program
    if flags & ~(_AT_EMPTY_PATH | _AT_SYMLINK_NOFOLLOW):
        return -errno.EINVAL
    if path.startswith(b"/") or directory == AT_FDCWD:
        return _execute(task, path, name, argv, envp)
    if not path and not flags & _AT_EMPTY_PATH:
        return -errno.ENOENT
    place = b"/dev/fd/%d" % directory + (b"/" + path if path else b"")
    where = b"/proc/thread-self/fd/%d" % directory + (b"/" + path if path else b"")
    return _execute(task, where, place, argv, envp)
