"""The audit of a shadow: every present entry against the guest's tables and the memory map, every back reference.

Written from what an entry may say, not from the code that makes entries. A page table that is out of sync is held to
the entry that its shadow was made from: the guest has not flushed yet. A breach names the shadow entry and what should
justify it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from quire.arch import PAGE_SHIFT, PDE, PTE, PagingMode
from quire.errors import MisuseError
from quire.paging.context import Rights
from quire.paging.shadow.page import ShadowPage
from quire.paging.shadow.shadow import Shadow

__all__ = ["Breach", "audit"]

_P, _RW, _US, _A, _D, _XD = (PTE.mask(name) for name in ("P", "RW", "US", "A", "D", "XD"))
_PS, _ADDRESS = PDE.mask("PS"), PTE.mask("addr")


@dataclass(frozen=True, slots=True)
class Breach:
    """Shadow `entry` at HPA `where`, which maps guest-virtual addresses by `page`, is not justified: `why`."""

    page: ShadowPage
    where: int
    entry: int
    why: str

    def __str__(self) -> str:
        return f"shadow entry {self.entry:#x} at HPA {self.where:#x} of {self.page}: {self.why}"


def audit(shadow: Shadow) -> list[Breach]:
    """Return every breach of the contract, none if all is well. Not while one instruction may pass (MisuseError)."""
    if shadow.stepping:
        raise MisuseError("The guest is executing one instruction with more rights: settle first, then audit")
    return [breach for page in shadow.tables.pages for breach in _page(shadow, page)]


def _page(shadow: Shadow, page: ShadowPage) -> Iterator[Breach]:
    tables = shadow.tables
    for where, parent in page.parents.items():
        if tables.memory.load(where) & _ADDRESS != page.table:
            yield Breach(parent, where, tables.memory.load(where), f"it should reference {page}")
    for index in np.flatnonzero(tables.pages.table(page)).tolist():
        where = page.table + 8 * index
        entry = tables.memory.load(where)
        if not entry & _P:
            yield Breach(page, where, entry, "it is neither present nor 0")
            continue
        check = _link if page.role.level > 1 and not entry & _PS else _leaf
        for why in check(shadow, page, index, entry):
            yield Breach(page, where, entry, why)


def _link(shadow: Shadow, page: ShadowPage, index: int, entry: int) -> Iterator[str]:
    tables, where = shadow.tables, page.table + 8 * index
    child = tables.pages.by_table.get(entry & _ADDRESS)
    if child is None:
        yield f"no shadow page is at {entry & _ADDRESS:#x}"
        return
    if child.parents.get(where) is not page:
        yield f"{child} does not know it as parent"
    if child.role.level != page.role.level - 1:
        yield f"{child} has the wrong level"
    if page.guest is None or (page.role.mode < PagingMode.LEVEL_4 and page.role.level > 2):
        return
    guest = tables.pages.entry(page, index)
    if not guest & _P or not guest & _A:
        yield f"guest entry {guest:#x} is not present or not accessed"
        return
    if child.role.direct:
        frame = tables.frame_of(page, index, guest)
        if not _large(page, guest) or child.frame != frame:
            yield f"guest entry {guest:#x} maps no page of guest frame {child.frame:#x}"
        if child.role.access & _RW and not guest & _D:
            yield f"guest entry {guest:#x} is not dirty, but {child} allows writes"
    elif _large(page, guest) or (guest & _ADDRESS) >> PAGE_SHIFT != child.frame:
        yield f"guest entry {guest:#x} does not reference {child}"
    yield from _access(child.role.access, page.role.access, guest, page.role.nxe)


def _large(page: ShadowPage, guest: int) -> bool:
    """Whether `guest`, an entry of a directory, maps a page: without CR4.PSE, 32-bit paging has none."""
    return bool(guest & _PS) and (page.role.pse or page.role.mode != PagingMode.BITS_32)


def _access(have: int, above: int, guest: int, nxe: bool) -> Iterator[str]:
    for bit, name in ((_RW, "writes"), (_US, "user accesses")):
        if have & bit and not (above & bit and guest & bit):
            yield f"guest entry {guest:#x} below access {above:#x} does not allow {name}"
    if nxe and (above | guest) & _XD and not have & _XD:
        yield f"guest entry {guest:#x} below access {above:#x} forbids fetches"


def _leaf(shadow: Shadow, page: ShadowPage, index: int, entry: int) -> Iterator[str]:
    tables, level = shadow.tables, page.role.level
    frame = tables.mapped_frame(page, index)
    where = page.table + 8 * index
    if where not in tables.reverse.leaves(frame, level):
        yield f"the reverse map of guest frame {frame:#x} does not have it"
    if not entry & _A or bool(entry & _D) != bool(entry & _RW):
        yield "accessed is not set, or dirty is not what the right to write is"
    yield from _target(shadow, frame, level, entry)
    if entry & _RW and tables.pages.protects(frame):
        yield f"guest frame {frame:#x} is a table that must be write-protected"
    if level > 1 and tables.pages.tables_in(frame, level):
        yield f"the large page of guest frame {frame:#x} holds a table"
    guest = page.role.access
    if not page.role.direct:
        guest = page.source[index] if page.unsync else tables.pages.entry(page, index)
        if not guest & _P or not guest & _A:
            yield f"guest entry {guest:#x} is not present or not accessed"
        if tables.frame_of(page, index, guest) != frame or (level > 1) != bool(guest & _PS and level > 1):
            yield f"guest entry {guest:#x} does not map guest frame {frame:#x}"
        if entry & _RW and not guest & _D:
            yield f"guest entry {guest:#x} is not dirty"
    if page.role.access & guest & _US and not entry & _US:
        if page.role.wp or page.role.smap:
            yield f"guest entry {guest:#x} is a user page: SMEP and SMAP must know it as one"
        elif page.role.smep and not entry & _XD:
            yield f"guest entry {guest:#x} is a user page: SMEP forbids the supervisor to execute it"
    if entry & _RW and not entry & _US and not page.role.wp:  # a supervisor's page for now, see mmu.rst
        yield from _access(entry & _XD, page.role.access, guest, page.role.nxe)
        return
    yield from _access(entry & (_RW | _US | _XD), page.role.access, guest, page.role.nxe)


def _target(shadow: Shadow, frame: int, level: int, entry: int) -> Iterator[str]:
    """Yield how the leaf differs from the memory map."""
    size = 1 << PAGE_SHIFT + 9 * (level - 1)
    gpa = frame << PAGE_SHIFT
    device = None if shadow.devices is None else shadow.devices.target(gpa)
    if device is not None:
        if level > 1 or entry & _ADDRESS != device or not entry & _XD:
            yield f"GPA {gpa:#x} is a device, whose leaf is of one page, at {device:#x}, without fetches"
        return
    place = shadow.memory_map.lookup(gpa)
    if place is None or place.start + place.size < gpa + size:
        yield f"the memory map has no page of {size:#x} bytes at GPA {gpa:#x}"
        return
    hpa = place.target + (gpa - place.start)
    if entry & _ADDRESS & -size != hpa:
        yield f"the memory map has GPA {gpa:#x} at HPA {hpa:#x}"
    for bit, right, name in ((_P, Rights.READ, "reads"), (_RW, Rights.WRITE, "writes")):
        if entry & bit and not place.rights & right:
            yield f"the memory map does not allow {name} at GPA {gpa:#x}"
    if not entry & _XD and not place.rights & Rights.EXECUTE:
        yield f"the memory map does not allow fetches at GPA {gpa:#x}"
