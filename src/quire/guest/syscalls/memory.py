"""Memory calls: the address space does the work; here arguments are checked and the sandbox is minded."""

import errno
import os
import resource

from quire.arch import WORD
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import PAGE_4K, page_up
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import capable
from quire.guest.syscalls.kinds import INT, POINTER, S32, fail, signed32
from quire.guest.syscalls.state import group_state
from quire.guest.syscalls.table import absent, syscall
from quire.own_descriptors import FIRST_OWN

_MAP_ANONYMOUS = 0x20
_MAP_SHARED_BITS = 0x3  # MAP_SHARED, MAP_PRIVATE or MAP_SHARED_VALIDATE
_MAP_PRIVATE = 0x2
_MLOCK_ONFAULT = 1
_MCL_CURRENT, _MCL_ONFAULT = 1, 4


def _check_file(task: Task, descriptor: int, flags: int) -> None:
    """Raise EBADF for a descriptor that is not the guest's, EACCES for a mapping that could leak out."""
    if descriptor >= FIRST_OWN:
        raise fail(errno.EBADF)
    opened = host.call(72, descriptor, 3)  # F_GETFL
    if opened < 0:
        raise fail(-opened)
    shared = flags & _MAP_SHARED_BITS != _MAP_PRIVATE
    writable = opened & os.O_ACCMODE != os.O_RDONLY
    if task.options.sandbox and shared and writable and not group_state(task).owns(descriptor):
        raise fail(errno.EACCES)


@syscall(9, "mmap", POINTER, INT, INT, INT, INT, INT, effect=Effect.CHOOSES)
def mmap(task: Task, address: int, length: int, prot: int, flags: int, descriptor: int, offset: int) -> int:
    """Map memory or a file."""
    if flags & _MAP_ANONYMOUS:
        return task.space.mmap(address, length, prot, flags, -1, 0)
    if offset % PAGE_4K:
        return -errno.EINVAL
    file = signed32(descriptor)
    _check_file(task, file, flags)
    return task.space.mmap(address, length, prot, flags, file, offset)


@syscall(11, "munmap", POINTER, INT, effect=Effect.GUEST)
def munmap(task: Task, address: int, length: int) -> int:
    """Unmap a range."""
    return task.space.munmap(address, length)


@syscall(10, "mprotect", POINTER, INT, INT, effect=Effect.GUEST)
def mprotect(task: Task, address: int, length: int, prot: int) -> int:
    """Change the rights of a range."""
    return task.space.mprotect(address, length, prot)


@syscall(25, "mremap", POINTER, INT, INT, INT, POINTER, effect=Effect.GUEST)
def mremap(task: Task, old: int, old_size: int, new_size: int, flags: int, new_address: int) -> int:
    """Grow, shrink or move a mapping."""
    return task.space.mremap(old, old_size, new_size, flags, new_address)


@syscall(12, "brk", POINTER, effect=Effect.GUEST)
def brk(task: Task, address: int) -> int:
    """Move the end of the heap."""
    return task.space.brk(address)


@syscall(28, "madvise", POINTER, INT, S32, effect=Effect.GUEST)
def madvise(task: Task, address: int, length: int, advice: int) -> int:
    """Advise about a range; MADV_DONTNEED and its like act."""
    return task.space.madvise(address, length, advice)


@syscall(26, "msync", POINTER, INT, S32, effect=Effect.GUEST)
def msync(task: Task, address: int, length: int, flags: int) -> int:
    """Write shared file mappings back."""
    return task.space.msync(address, length, flags)


@syscall(27, "mincore", POINTER, INT, POINTER, effect=Effect.GUEST)
def mincore(task: Task, address: int, length: int, vector: int) -> int:
    """Tell which pages of a range are resident."""
    return task.space.mincore(address, length, vector)


@syscall(149, "mlock", POINTER, INT, effect=Effect.GUEST)
def mlock(task: Task, address: int, length: int) -> int:
    """Check the range and accept: nothing here is ever swapped out, so all memory is locked."""
    return _may_lock(task, page_up(address % PAGE_4K + length) & WORD) or task.space.lock(address, length)


@syscall(150, "munlock", POINTER, INT, effect=Effect.GUEST)
def munlock(task: Task, address: int, length: int) -> int:
    """Check the range, as :func:`mlock` does."""
    return task.space.lock(address, length)


def _may_lock(task: Task, length: int) -> int:
    """Return 0, EPERM for who may lock nothing, ENOMEM for more than one may lock."""
    limit = group_state(task).limits[resource.RLIMIT_MEMLOCK][0]
    if capable(task) or length <= limit:
        return 0
    return -errno.ENOMEM if limit else -errno.EPERM


@syscall(325, "mlock2", POINTER, INT, S32, effect=Effect.GUEST)
def mlock2(task: Task, address: int, length: int, flags: int) -> int:
    """Lock a range, as :func:`mlock` does, perhaps only when it is touched."""
    return -errno.EINVAL if flags & ~_MLOCK_ONFAULT else mlock(task, address, length)


@syscall(151, "mlockall", S32, effect=Effect.GUEST)
def mlockall(task: Task, flags: int) -> int:
    """Accept valid flags, as :func:`mlock` does."""
    if not flags or flags & ~7 or flags == _MCL_ONFAULT:
        return -errno.EINVAL
    return _may_lock(task, task.space.mapped_bytes if flags & _MCL_CURRENT else 1)


@syscall(152, "munlockall", effect=Effect.GUEST)
def munlockall(task: Task) -> int:
    """Accept."""
    return 0


absent(216, "remap_file_pages")
