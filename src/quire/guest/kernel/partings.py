"""How a process that shares its descriptors or its working directory with others gets its own: by unshare and execve.

Models unshare_files and unshare_fs of Linux's kernel/fork.c. A thread of the host that takes copies cannot give the
others back what it had, so what is copied gets another thread: that of the process that asks, or, if it is the first,
whose thread is Quire's own, that of the others. Descriptors of files that only the other side has mapped are closed.
"""

import errno
import os

from quire.guest.kernel.clone_flags import Clone
from quire.guest.kernel.group import Image, Process
from quire.guest.kernel.seat import Seat
from quire.guest.kernel.system import Kernel

__all__ = ["has_image", "of_others", "part"]


def _beside(kernel: Kernel, process: Process) -> list[Process]:
    """Return the other processes that have the same table of descriptors."""
    table = process.seat.table
    return [one for one in kernel.live() if one is not process and one.seat.table is table]


def has_image(kernel: Kernel, process: Process, image: Image) -> bool:
    """Whether another process uses `image` with the descriptors that `process` has."""
    return any(one.image is image for one in _beside(kernel, process))


def of_others(kernel: Kernel, process: Process) -> set[int]:
    """Return the numbers of Quire's descriptors in the table of `process` that other tasks alone have to do with."""
    found = set(process.seat.table.slots)
    for one in _beside(kernel, process):
        if one.image is not process.image:
            found |= one.image.space.files.numbers()
    return found


def _of_its_own(kernel: Kernel, process: Process) -> set[int]:
    """Return the numbers of those that `process` alone has to do with, as far as it has mapped them."""
    image = process.image
    return set() if has_image(kernel, process, image) else image.space.files.numbers()


def part(kernel: Kernel, process: Process, what: Clone) -> bool:
    """Give `process`, which has one thread and the turn, its own of `what` it shares.

    Return whether it has another seat from now on, where it is to go on. Raises OSError.
    """
    seat = process.seat
    here = [one for one in _beside(kernel, process) if one.seat is seat]
    wanted = what & (Clone.FILES if seat.table.processes > 1 else Clone(0))
    wanted |= what & (Clone.FS if here else Clone(0))
    if not wanted:
        return False
    kernel.scheduler.prepare()
    if process is not kernel.first:
        _move(kernel, process, wanted)
        return True
    if wanted & Clone.FILES and len(here) + 1 < seat.table.processes:
        raise OSError(errno.ENOMEM, "other seats have the table of Quire's own thread")
    _stay(kernel, process, here, wanted)
    return False


def _move(kernel: Kernel, process: Process, wanted: Clone) -> None:
    """Have `process` go to a new seat, with copies."""
    old, files = process.seat, wanted & Clone.FILES
    made = old.start(lambda: kernel.sit(made), wanted, of_others(kernel, process) if files else ())
    if files:
        kernel.copied(old, made)
        for number in _of_its_own(kernel, process):
            os.close(number)
    process.seat = made
    _count(old, made, 1, files)
    old.over = not old.processes


def _stay(kernel: Kernel, process: Process, here: list[Process], wanted: Clone) -> None:
    """Have the others go to a new seat, with copies: what `process` has is its own then."""
    old, files = process.seat, wanted & Clone.FILES
    made = old.start(lambda: kernel.sit(made), wanted, _of_its_own(kernel, process) if files else ())
    if files:
        kernel.copied(old, made)
        for number in of_others(kernel, process):
            os.close(number)
        made.table.slots, old.table.slots = old.table.slots, set()
    for one in here:
        one.seat = made
    _count(old, made, len(here), files)


def _count(old: Seat, made: Seat, count: int, files: Clone) -> None:
    """So many processes have gone from one seat to the other, and to another table if there are `files` of theirs."""
    old.processes -= count
    made.processes += count
    if files:
        old.table.processes -= count
        made.table.processes += count
