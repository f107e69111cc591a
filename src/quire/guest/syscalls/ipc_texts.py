"""The files of /proc/sysvipc: the guest's own objects, one a line. Models sysvipc_proc_show of Linux's ipc."""

from collections.abc import Iterable

from quire.guest.kernel.ipc_objects import IpcObject
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import PAGE_4K

__all__ = ["IPC_TEXTS"]


def _text(titles: str, widths: Iterable[int], rows: Iterable[tuple[int, ...]]) -> bytes:
    """Return a line of titles, and one of numbers for each row after its key, identifier and mode."""
    lines = [titles]
    for key, ident, mode, *numbers in rows:
        rest = " ".join(f"{number:{width}}" for number, width in zip(numbers, widths, strict=True))
        lines.append(f"{key:10} {ident:10}  {mode:4o} {rest}")
    return "".join(line + "\n" for line in lines).encode()


def _begin(one: IpcObject, flags: int = 0) -> tuple[int, int, int]:
    return one.key, one.ident, one.mode | flags


def _users(one: IpcObject) -> tuple[int, int, int, int]:
    return one.uid, one.gid, *one.creator


def segments_text(task: Task) -> bytes:
    """Return the text of /proc/sysvipc/shm."""
    ipc, store = task.kernel.ipc, task.space.pages.shared
    ipc.forget_segments()
    titles = (
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid"
        "      atime      dtime      ctime                   rss                  swap"
    )
    widths = (21, 5, 5, 6, 5, 5, 5, 5, 10, 10, 10, 21, 21)
    rows = []
    for one in ipc.segments:
        flags = 0o1000 * one.doomed | 0o2000 * one.locked
        processes = one.maker, one.user, one.attachments
        times = one.attached, one.detached, one.changed
        resident = len(store.of(one.memory.key)) * PAGE_4K
        rows.append((*_begin(one, flags), one.size, *processes, *_users(one), *times, resident, 0))
    return _text(titles, widths, rows)


def semaphores_text(task: Task) -> bytes:
    """Return the text of /proc/sysvipc/sem."""
    titles = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime"
    rows = (
        (*_begin(one), len(one.values), *_users(one), one.used, one.changed)
        for one in task.kernel.ipc.semaphores
    )
    return _text(titles, (10, 5, 5, 5, 5, 10, 10), rows)


def queues_text(task: Task) -> bytes:
    """Return the text of /proc/sysvipc/msg."""
    titles = (
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid"
        "      stime      rtime      ctime"
    )
    rows = []
    for one in task.kernel.ipc.queues:
        there, times = (one.bytes, len(one.messages)), (one.sent, one.taken, one.changed)
        rows.append((*_begin(one), *there, one.sender, one.taker, *_users(one), *times))
    return _text(titles, (11, 10, 5, 5, 5, 5, 5, 5, 10, 10, 10), rows)


#: By their names in procfs.
IPC_TEXTS = {
    "/proc/sysvipc/shm": segments_text,
    "/proc/sysvipc/sem": semaphores_text,
    "/proc/sysvipc/msg": queues_text,
}
