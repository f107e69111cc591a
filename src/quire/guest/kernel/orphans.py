"""Orphaned process groups: those that no process of their session but another group could bring back when they stop.

Models will_become_orphaned_pgrp and kill_orphaned_pgrp of kernel/exit.c. A member whose parent is Quire counts for
nothing, but for the first process: its parent is whoever started Quire.
"""

import signal
from collections.abc import Iterable
from typing import Protocol

from quire.guest.kernel.group import Process
from quire.guest.kernel.outside import Outside
from quire.guest.kernel.terminals import Terminals

__all__ = ["is_orphaned", "tell_orphans"]


class Family(Protocol):
    """The kernel, as far as it knows who is whose child."""

    outside: Outside
    terminals: Terminals

    @property
    def first(self) -> Process:
        """The process that the guest began with."""
        ...

    def group(self, number: int) -> list[Process]:
        """Return the processes of a group."""
        ...


def is_orphaned(kernel: Family, number: int) -> bool:
    """Whether no member of a group has a parent in another group of its session."""
    return not any(_is_kept(kernel, one) for one in kernel.group(number) if not one.ended)


def _is_kept(kernel: Family, process: Process) -> bool:
    """Whether the parent of a process could bring its group back."""
    parent = process.parent
    if parent is None:
        return process is kernel.first and process.session == process.pid and not kernel.outside.is_orphaned()
    return parent.group != process.group and parent.session == process.session


def tell_orphans(kernel: Family, process: Process, children: Iterable[Process]) -> None:
    """Have groups go on that are stopped, and orphaned since `process` ended: they get SIGHUP and SIGCONT.

    `children` are those that it had, which have another parent by now.
    """
    groups = [one.group for one in children if one.group != process.group and one.session == process.session]
    groups = [*dict.fromkeys(groups), *([process.group] if _is_kept(kernel, process) else ())]
    for number in groups:
        if any(one.stopped and not one.ended for one in kernel.group(number)) and is_orphaned(kernel, number):
            kernel.terminals.send(number, signal.SIGHUP, signal.SIGCONT)
