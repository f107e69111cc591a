"""The vCPUs of a process guest, of which one runs at a time, and what their TLBs may hold of which address space.

The kernel that Quire plays does all its work on the vCPU that runs. What another one has to drop it is told at once, by
an inter-processor interrupt, if it is busy in that address space; any other finds out when it loads it (Linux,
arch/x86/mm/tlb.c).
"""

from collections.abc import Callable, Sequence

from quire.machine import Vcpu
from quire.observe.flushes import Actor
from quire.paging import Tables
from quire.vcpu import Exit, breaking

__all__ = ["Processors"]


class Processors:
    """All vCPUs of one machine, in order; the first runs."""

    def __init__(self, vcpus: Sequence[Vcpu]) -> None:
        self.all = tuple(vcpus)
        self.go_to(0)
        #: How often each told others to drop translations, and was told.
        self.sent, self.received = [0] * len(self.all), [0] * len(self.all)
        #: Whose translations each last had under which PCID.
        self.tagged: list[dict[int, Tables]] = [{} for _ in self.all]
        #: Whether a task runs there that goes on when its turn comes; the scheduler sets it.
        self.is_busy: Callable[[int], bool] = lambda number: False
        #: The instructions that each is to stop after, counted from the first of all; empty if nobody counts.
        self.steps: list[int] = []
        for one in self.all:
            one.mmu.on_exit = self._exit
            if one.flush_check is not None:
                one.flush_check.log.acting = self._acting

    def go_to(self, number: int) -> None:
        """Work on vCPU `number` from now on: memory that is wanted is wanted on its node."""
        self.number, self.current = number, self.all[number]
        self.current.machine.placement.toucher = self.current.node

    def interrupt(self) -> None:
        """Have the vCPU that runs stop. Any thread may call."""
        self.current.cpu.interrupt()

    def begin_steps(self, instructions: int) -> None:
        """Stop the vCPU that runs after so many instructions. Raises MisuseError if its engine cannot."""
        places = breaking(self.current.cpu)
        if not self.steps:
            self.steps = [0] * len(self.all)
        executed = self.steps[self.number] - places.left
        self.steps[self.number] = executed + instructions
        places.after(executed + instructions)

    @property
    def steps_over(self) -> bool:
        """Whether the vCPU that runs has executed all of them."""
        return breaking(self.current.cpu).left <= 0

    def others_in(self, tables: Tables) -> list[int]:
        """Return the vCPUs, but for the one that runs, where a task is at work whose tables these are."""
        if len(self.all) == 1:
            return []
        return [
            number
            for number, one in enumerate(self.all)
            if number != self.number and one.mmu.tables is tables and self.is_busy(number)
        ]

    def shoot_down(self, number: int, pages: Sequence[int | None]) -> None:
        """Interrupt vCPU `number`, which drops what it has of `pages`, each None for all of its address space.

        It executes the instructions itself: where they exit, it is the one that does.
        """
        here = self.number
        self.sent[here] += 1
        self.received[number] += 1
        self.go_to(number)
        try:
            for page in pages:
                self.current.mmu.invalidate(page)
        finally:
            self.go_to(here)

    def _acting(self, kind: str) -> Actor:
        """Whichever vCPU's tables are written: the one that runs has them written, in a checked run."""
        assert self.current.flush_check is not None
        return self.current.flush_check.actor(kind)

    def _exit(self, stop: Exit) -> None:
        """Whichever Mmu met it: the vCPU that runs has exited."""
        self.current.handle_exit(stop)
