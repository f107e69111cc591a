"""The audit of a host: a proof, from entries and records alone, that every frame is what its owner says.

Proved: no frame is both free and used, and each has one owner; every frame of tables is reached from exactly one root,
each once, and none is left over; every leaf maps pages of its own machine, so that no page is in two guests; every page
that a guest owns is one that its machine knows. Written from what tables may say, not from the code that makes them: it
walks the entries in host memory. A breach is a value that names the frame. Changes nothing; reads every record and
every table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quire.arch import PAGE_SHIFT, page_size
from quire.errors import InternalError
from quire.memory import OwnerKind, PoolStatistics
from quire.mmu.abilities import Mapped, Shadowed
from quire.mmu.host import Host
from quire.mmu.paged import PagedMmu
from quire.mmu.replicated_tables import ReplicatedTables
from quire.observe.watched import WatchedMachine
from quire.paging import PagingFormat, Tables
from quire.paging.shadow import audit as audit_shadow

__all__ = ["HostAudit", "audit_host"]

_TOP = 4
_BREACHES_SHOWN = 100


@dataclass(slots=True)
class HostAudit:
    """What was looked at, in frames of 4 KiB and entries, and every breach in a sentence."""

    statistics: PoolStatistics
    tables: int = 0  #: frames of tables that were reached
    leaves: int = 0  #: entries that map pages
    pages: int = 0  #: frames that machines own
    breaches: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise InternalError with every breach, if there is one."""
        if self.breaches:
            raise InternalError("host audit: " + "; ".join(self.breaches[:_BREACHES_SHOWN]) + ".")


def audit_host(host: Host, machines: Sequence[WatchedMachine]) -> HostAudit:
    """Audit `host`, on which `machines` run and nobody else does."""
    found = HostAudit(host.pool.statistics())
    try:
        host.pool.audit()
    except InternalError as error:
        found.breaches.append(str(error))
    audit = _Audit(host, found)
    # Under native a page has no record but its owner's kind: what is nobody else's is that machine's.
    backed_first = sorted(enumerate(machines), key=lambda one: one[1].mmu.mapped is None)
    for number, machine in backed_first:
        found.breaches += audit.pages(number, machine.mmu)
    for number, machine in enumerate(machines):
        found.breaches += audit.machine(number, machine)
    found.breaches += audit.left_over(machines)
    return found


class _Audit:
    """What is known of each frame while machines are gone through."""

    def __init__(self, host: Host, found: HostAudit) -> None:
        self._host, self._found = host, found
        self._kinds = np.zeros(host.memory.frame_count, np.uint8)
        for kind in OwnerKind:
            if kind is not OwnerKind.FREE:
                self._kinds[host.pool.frames_held(kind).astype(np.int64)] = kind
        self._machine_of: npt.NDArray[np.int16] = np.full(host.memory.frame_count, -1, np.int16)
        self._reached: dict[int, str] = {}  # frames of tables, and from where

    def pages(self, number: int, mmu: PagedMmu) -> Iterator[str]:
        """Note whose pages are whose; yield what a machine has and may not."""
        if mmu.mapped is not None:
            yield from self._own_blocks(number, mmu.mapped)
        else:
            self._machine_of[(self._kinds == OwnerKind.GUEST_PAGE) & (self._machine_of < 0)] = number
            self._found.pages += int(np.count_nonzero(self._machine_of == number))

    def machine(self, number: int, machine: WatchedMachine) -> Iterator[str]:
        """Yield the breaches of one machine's tables."""
        mmu = machine.mmu
        if mmu.mapped is not None:
            yield from self._memory_map(number, mmu.mapped.memory_map)
            for one in machine.vcpus:
                if one.mmu.shadowed is not None:
                    yield from self._shadow(number, one.mmu.shadowed)
        elif mmu.builds_tables:
            what, tables = f"tables of machine {number}", mmu.tables
            yield from self._walk(what, tables.root, _TOP, tables.form, OwnerKind.GUEST_TABLE, number)

    def left_over(self, machines: Sequence[WatchedMachine]) -> Iterator[str]:
        """Yield the frames that are owned, and that no machine knows."""
        for kind in (OwnerKind.EPT_TABLE, OwnerKind.SHADOW_TABLE, OwnerKind.GUEST_TABLE):
            for hfn in np.flatnonzero(self._kinds == kind).tolist():
                if hfn not in self._reached:
                    yield f"frame {hfn:#x} is owned as {kind.name} and no root reaches it"
        stray = np.flatnonzero((self._kinds == OwnerKind.GUEST_PAGE) & (self._machine_of < 0))
        for hfn in stray.tolist():
            yield f"frame {hfn:#x} is owned as GUEST_PAGE and is no machine's"
        regions = {one.vmcs.hpa >> PAGE_SHIFT for machine in machines for one in machine.vcpus}
        held = set(np.flatnonzero(self._kinds == OwnerKind.VMCS).tolist())
        for hfn in sorted(held ^ regions):
            yield f"frame {hfn:#x} is a VMCS region in only one of the pool's records and the vCPUs"

    def _own_blocks(self, number: int, mmu: Mapped) -> Iterator[str]:
        """Note the frames behind a machine's memory; yield those that are not pages, or another machine's."""
        frames = mmu.page_size >> PAGE_SHIFT
        for gpa, hfn in mmu.blocks.items():
            part = slice(hfn, hfn + frames)
            wrong = np.flatnonzero(self._kinds[part] != OwnerKind.GUEST_PAGE)
            if wrong.size:
                at = hfn + int(wrong[0])
                yield f"frame {at:#x} backs GPA {gpa:#x} of machine {number} and is owned as {self._kind(at)}"
            taken = np.flatnonzero(self._machine_of[part] >= 0)
            if taken.size:
                at = hfn + int(taken[0])
                other = int(self._machine_of[at])
                yield f"frame {at:#x} backs GPA {gpa:#x} of machine {number} and memory of machine {other}"
            self._machine_of[part] = number
            self._found.pages += frames

    def _memory_map(self, number: int, tables: Tables) -> Iterator[str]:
        """Walk every copy of the hierarchy as hardware would."""
        copies = tables.memory
        roots = copies.copies()[tables.root] if isinstance(copies, ReplicatedTables) else (tables.root,)
        for root in roots:
            yield from self._walk(
                f"EPT of machine {number}", root, _TOP, tables.form, OwnerKind.EPT_TABLE, number
            )

    def _walk(
        self, what: str, table: int, level: int, form: PagingFormat, kind: OwnerKind, number: int
    ) -> Iterator[str]:
        """Yield what is wrong with the table at HPA `table` and those below it."""
        hfn = table >> PAGE_SHIFT
        if not 0 <= hfn < self._kinds.size:
            yield f"{what} references a table at HPA {table:#x}, outside host memory"
            return
        if self._kinds[hfn] != kind:
            yield f"frame {hfn:#x} is a table of level {level} in {what} and is owned as {self._kind(hfn)}"
            return
        if hfn in self._reached:
            yield f"frame {hfn:#x} is a table of level {level} in {what} and was reached from {self._reached[hfn]}"
            return
        self._reached[hfn] = what
        self._found.tables += 1
        row = self._host.memory.frames[hfn]
        for index in np.flatnonzero(row & np.uint64(form.present)).tolist():
            entry = int(row[index])
            target = form.address(entry, level)
            if form.is_leaf(entry, level):
                self._found.leaves += 1
                yield from self._leaf(
                    f"entry {index:#x} of the table in frame {hfn:#x} ({what})", target, level, number
                )
            else:
                yield from self._walk(what, target, level - 1, form, kind, number)

    def _leaf(self, what: str, target: int, level: int, number: int) -> Iterator[str]:
        first = target >> PAGE_SHIFT
        frames = page_size(level) >> PAGE_SHIFT
        if first + frames > self._machine_of.size:
            yield f"{what} maps HPA {target:#x}, outside host memory"
            return
        owners = self._machine_of[first : first + frames]
        foreign = np.flatnonzero(owners != number)
        if foreign.size:
            hfn = first + int(foreign[0])
            other = int(self._machine_of[hfn])
            whose = self._kind(hfn) if other < 0 else f"memory of machine {other}"
            yield f"{what} maps frame {hfn:#x}, which is {whose}"

    def _shadow(self, number: int, mmu: Shadowed) -> Iterator[str]:
        """Yield entries that nothing justifies, and frames that are tables in only one of records and shadow."""
        shadow = mmu.shadow
        if not shadow.stepping:
            yield from (str(one) for one in audit_shadow(shadow))
        copies = mmu.copies
        for page in shadow.tables.pages:
            for table in (page.table,) if copies is None else copies.copies()[page.table]:
                hfn = table >> PAGE_SHIFT
                if self._kinds[hfn] != OwnerKind.SHADOW_TABLE or hfn in self._reached:
                    yield f"frame {hfn:#x} is {page} of machine {number} and is owned as {self._kind(hfn)}"
                self._reached[hfn] = f"shadow of machine {number}"
                self._found.tables += 1

    def _kind(self, hfn: int) -> str:
        return OwnerKind(int(self._kinds[hfn])).name
