"""The memory map of a process and the system calls that change it: mmap, munmap, mprotect, brk.

Models Linux's mm/mmap.c and mm/mprotect.c, argument checks in the same order, so that a guest gets the same
errno. Arguments are taken as unsigned 64-bit register values. Contract: a call that fails has changed
nothing, but for mprotect over a hole, which Linux too carries out up to it.
"""

import errno
from abc import ABC, abstractmethod

from quire.arch import LOW32, WORD
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.kernel.siginfo import SignalInfo
from quire.guest.mm import linux
from quire.guest.mm.allowance import Allowance
from quire.guest.mm.backing import Backing, FileBacking, FileRegistry, ReadOnlyMemory, SharedMemory
from quire.guest.mm.commons import Commons, LargePages
from quire.guest.mm.layout import Layout, find_gap
from quire.guest.mm.linux import PAGE_2M, PAGE_4K, TASK_SIZE, page_down, page_up
from quire.guest.mm.pages import PageMap
from quire.guest.mm.vma import RIGHTS, Large, OnFork, Vma, VmaList
from quire.memory import OutOfFrames

__all__ = ["MemoryMap"]

_PROT = linux.PROT_READ | linux.PROT_WRITE | linux.PROT_EXEC
_NOWHERE = (0, 0, 0)
#: Flags of mmap that change nothing here, with those that are acted on: what MAP_SHARED_VALIDATE accepts.
_KNOWN_FLAGS = (
    linux.MAP_TYPE
    | linux.MAP_FIXED
    | linux.MAP_ANONYMOUS
    | linux.MAP_32BIT
    | linux.MAP_GROWSDOWN
    | 0x3800  # MAP_DENYWRITE, MAP_EXECUTABLE, MAP_LOCKED
    | linux.MAP_NORESERVE
    | linux.MAP_POPULATE
    | 0x10000  # MAP_NONBLOCK
    | linux.MAP_STACK
    | linux.MAP_HUGETLB
    | linux.MAP_FIXED_NOREPLACE
)


class MemoryMap(ABC):
    """What is mapped where in one process on `machine`, with `commons` shared by all processes there."""

    def __init__(self, machine: ProcessMachine, layout: Layout, commons: Commons) -> None:
        self.machine = machine
        self.layout = layout
        self.commons = commons
        self.areas = VmaList()
        self.pages = PageMap(machine, commons)
        self.files = FileRegistry(commons.new_memory)
        self.allowance = Allowance()
        self.brk_start = self.brk_end = 0
        #: The area of the last fault; empty after every change of the list.
        self._last = Vma(*_NOWHERE)

    def mmap(self, addr: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
        """Map `length` bytes; return their address or a negative errno."""
        addr, length, offset = addr & WORD, length & WORD, offset & WORD
        if length == 0 or offset % PAGE_4K:
            return -errno.EINVAL
        length = page_up(length)
        if length > TASK_SIZE or len(self.areas) >= linux.MAX_MAP_COUNT:
            return -errno.ENOMEM
        if offset + length >= 1 << 63:
            return -errno.EOVERFLOW
        backing = self._backing(prot, flags, fd)
        if isinstance(backing, int):
            return backing
        if backing is not None:
            backing.references += 1  # held, though what it replaces may be all that refers to it
        start = self._place(addr, length, flags, backing)
        if start >= 0 and self._too_much(start, length, prot, flags):
            start = -errno.ENOMEM
        if start >= 0:
            start = self._map_at(start, length, prot, flags, backing, offset)
        if backing is not None:
            self._unreference(backing)
        if start >= 0 and flags & linux.MAP_POPULATE:
            self.populate(start, start + length)  # best effort, as on Linux: what is missing faults later
        return start

    def attach(self, addr: int, length: int, prot: int, backing: Backing, *, replaces: bool) -> int:
        """Map memory that the kernel keeps at `addr`, 0 for anywhere; return the address or a negative errno.

        EINVAL where something is mapped already, unless it `replaces` that.
        """
        length = page_up(length)
        if addr and not replaces and (addr + length > WORD or self.areas.overlapping(addr, addr + length)):
            return -errno.EINVAL
        if length > TASK_SIZE or len(self.areas) >= linux.MAX_MAP_COUNT:
            return -errno.ENOMEM
        flags = linux.MAP_SHARED | linux.MAP_NORESERVE | (linux.MAP_FIXED if addr else 0)
        start = self._place(addr, length, flags, backing)
        if start >= 0 and self._too_much(start, length, prot, flags):
            start = -errno.ENOMEM
        return self._map_at(start, length, prot, flags, backing, 0) if start >= 0 else start

    def detach(self, addr: int) -> SharedMemory | None:
        """Unmap what :meth:`attach` mapped at `addr`, in however many parts; return whose memory it was."""
        memory: SharedMemory | None = None
        for vma in self.areas.overlapping(addr, TASK_SIZE):
            backing = vma.backing
            own = backing.memory if isinstance(backing, ReadOnlyMemory) else backing
            if (
                not isinstance(own, SharedMemory)
                or vma.start - addr != vma.offset
                or memory not in (None, own)
            ):
                continue
            memory = own
            self.remove(vma.start, vma.end)
        return memory

    def let_go(self, memory: SharedMemory) -> None:
        """The kernel keeps `memory` no longer: it goes with its last mapping."""
        self._unreference(memory)

    def _too_much(self, start: int, length: int, prot: int, flags: int) -> bool:
        """Whether the process may not map so much more; what lies where it goes is replaced."""
        replaced = sum(
            min(vma.end, start + length) - max(vma.start, start)
            for vma in self.areas.overlapping(start, start + length)
        )
        shared = flags & linux.MAP_TYPE != linux.MAP_PRIVATE
        anonymous = bool(flags & linux.MAP_ANONYMOUS)
        return self.allowance.refuses(
            self.areas,
            length,
            replaced=replaced,
            data=bool(prot & linux.PROT_WRITE) and not shared,
            memory=shared and anonymous,
            held=not flags & linux.MAP_NORESERVE,
        )

    def map_area(
        self, start: int, end: int, prot: int, *, grows_down: bool = False, name: bytes = b""
    ) -> None:
        """Map anonymous memory of the kernel's own choosing, such as the stack; the range must be free."""
        self._insert(Vma(start, end, prot, grows_down=grows_down, name=name))

    def map_copy(self, vma: Vma, old: int, start: int, length: int) -> None:
        """Map `length` bytes at `start`, which must be free, like those of `vma` from address `old` on."""
        offset = vma.offset_at(old)
        made = Vma(start, start + length, vma.prot, vma.shared, False, vma.backing, offset, vma.name)
        made.large = vma.large
        self._insert(made)

    def reserve(self, length: int, align: int) -> int:
        """Return a free, aligned address for `length` bytes, or -ENOMEM; nothing is mapped yet."""
        found = find_gap(self.areas, page_up(length), self.layout.mmap_base, align)
        return -errno.ENOMEM if found is None else found

    def munmap(self, addr: int, length: int) -> int:
        """Unmap every page of the range; holes are no error."""
        addr, length = addr & WORD, length & WORD
        end = addr + page_up(length)
        if addr % PAGE_4K or length == 0 or end > TASK_SIZE or self._cuts_huge(addr, end):
            return -errno.EINVAL
        return self.remove(addr, end)

    def mprotect(self, addr: int, length: int, prot: int) -> int:
        """Change the protection of a range; ENOMEM at the first hole, with what lies before it changed."""
        addr, length = addr & WORD, length & WORD
        grows = prot & (linux.PROT_GROWSDOWN | linux.PROT_GROWSUP)
        prot &= ~grows
        if prot & ~(_PROT | 0x8) or addr % PAGE_4K or grows & linux.PROT_GROWSUP:
            return -errno.EINVAL
        end = addr + page_up(length)
        if end > WORD:
            return -errno.ENOMEM
        if length == 0:
            return 0
        if grows:
            vma = self.areas.find(addr)
            if vma is None or not vma.grows_down:
                return -errno.ENOMEM if vma is None else -errno.EINVAL
            addr = vma.start
        if self._cuts_huge(addr, end):
            return -errno.EINVAL
        try:
            self.pages.split_edges(addr, end)
        except OutOfFrames:
            return -errno.ENOMEM
        return self._protect(addr, end, prot & _PROT)

    def _cuts_huge(self, start: int, end: int) -> bool:
        """Whether a range ends within a page of 2 MiB, where the area takes no other."""
        return any(
            edge % PAGE_2M and (vma := self.areas.find(edge)) is not None and vma.large is Large.ONLY
            for edge in (start, end)
        )

    def brk(self, addr: int) -> int:
        """Move the end of the heap to `addr`; return the end afterwards, unmoved when that cannot be."""
        addr &= WORD
        if addr < self.brk_start or addr > TASK_SIZE:
            return self.brk_end
        old, new = page_up(self.brk_end), page_up(addr)
        if new < old:
            if self.remove(new, old) < 0:
                return self.brk_end
        elif new > old:
            _, above = self.areas.neighbours(old - 1)
            # One page stays free between the heap and what follows, as in the kernel.
            if new + PAGE_4K > (TASK_SIZE if above is None else above.guarded_start):
                return self.brk_end
            if self.allowance.refuses(self.areas, new - old, data=True):
                return self.brk_end
            if self.areas.overlapping(old, new) or len(self.areas) >= linux.MAX_MAP_COUNT:
                return self.brk_end
            self._insert(Vma(old, new, linux.PROT_READ | linux.PROT_WRITE, name=b"[heap]"))
        self.brk_end = addr
        return addr

    def set_brk(self, end_of_program: int) -> None:
        """Start an empty heap after the program, at the layout's random distance."""
        self.brk_start = self.brk_end = page_up(end_of_program) + self.layout.brk_gap

    def set_on_fork(self, start: int, end: int, what: OnFork) -> None:
        """Say what a child gets of the range."""

        def change(vma: Vma) -> None:
            vma.on_fork = what

        self._last = Vma(*_NOWHERE)
        self.areas.change(start, end, change)

    def set_large(self, start: int, end: int, what: Large) -> None:
        """Say what the program has said of large pages in the range; those that are there stay."""

        def change(vma: Vma) -> None:
            vma.large = what

        self._last = Vma(*_NOWHERE)
        self.areas.change(start, end, change)

    def remove(self, start: int, end: int) -> int:
        """Unmap the aligned range; return 0, or -ENOMEM when splitting a 2 MiB page needs a frame."""
        try:
            self.pages.split_edges(start, end)
        except OutOfFrames:
            return -errno.ENOMEM
        # Pages first: what they hold of a file is written through the backing that the areas keep open.
        with self.machine.together():
            self.pages.drop(start, end)
        self._last = Vma(*_NOWHERE)
        for vma in self.areas.carve(start, end):
            if vma.backing is not None:
                self._unreference(vma.backing)
        return 0

    @abstractmethod
    def fault(self, gva: int, error_code: int) -> SignalInfo | None:
        """Make an access possible and return None, or return the signal that refuses it."""

    @abstractmethod
    def populate(self, start: int, end: int) -> SignalInfo | None:
        """Give every page of the range a frame, as far as that goes: the page-fault handler's part."""

    def _insert(self, vma: Vma) -> None:
        self._last = Vma(*_NOWHERE)
        if vma.backing is not None:
            vma.backing.references += 1
        self.areas.insert(vma)

    def _unreference(self, backing: Backing) -> None:
        if self.files.release(backing) and not isinstance(backing, FileBacking):
            self.pages.shared.forget(backing.key)

    def _backing(self, prot: int, flags: int, fd: int) -> Backing | int | None:
        """Return what a new mapping refers to, None for private anonymous memory, or a negative errno."""
        kind = flags & linux.MAP_TYPE
        if kind not in (linux.MAP_SHARED, linux.MAP_PRIVATE, linux.MAP_SHARED_VALIDATE):
            return -errno.EINVAL
        if kind == linux.MAP_SHARED_VALIDATE and flags & LOW32 & ~_KNOWN_FLAGS:
            return -errno.EOPNOTSUPP
        shared = kind != linux.MAP_PRIVATE
        if not flags & linux.MAP_ANONYMOUS:
            signed = (fd & LOW32 ^ 0x8000_0000) - 0x8000_0000  # an int of 32 bits
            backing = self.files.open(signed, shared=shared, write=bool(prot & linux.PROT_WRITE))
            if backing is not None:
                return -errno.EINVAL if not isinstance(backing, int) and self._grows(flags) else backing
        if shared and self._grows(flags):
            return -errno.EINVAL
        return self.files.shared_anonymous() if shared else None

    @staticmethod
    def _grows(flags: int) -> bool:
        return bool(flags & linux.MAP_GROWSDOWN)

    def _place(self, addr: int, length: int, flags: int, backing: Backing | None) -> int:
        """Return where a new mapping goes, or a negative errno."""
        if flags & (linux.MAP_FIXED | linux.MAP_FIXED_NOREPLACE):
            if addr % PAGE_4K:
                return -errno.EINVAL
            if addr + length > TASK_SIZE:
                return -errno.ENOMEM
            if addr < linux.MMAP_MIN_ADDR:
                return -errno.EPERM
            noreplace = flags & linux.MAP_FIXED_NOREPLACE
            return -errno.EEXIST if noreplace and self.areas.overlapping(addr, addr + length) else addr
        hint = page_up(addr)
        if hint:
            hint = max(hint, linux.MMAP_MIN_ADDR)
            if hint + length <= TASK_SIZE and self._is_free(hint, length):
                return hint
        large = backing is None and length >= PAGE_2M and self.commons.large is LargePages.ALWAYS
        low = bool(flags & linux.MAP_32BIT)
        found = None
        if large:  # as Linux does since 6.7, so that large pages fit
            found = find_gap(self.areas, length, self.layout.mmap_base, PAGE_2M, low=low)
        if found is None:
            found = find_gap(self.areas, length, self.layout.mmap_base, low=low)
        return -errno.ENOMEM if found is None else found

    def _is_free(self, start: int, length: int) -> bool:
        if self.areas.overlapping(start, start + length):
            return False
        _, above = self.areas.neighbours(start)
        return above is None or start + length <= above.guarded_start

    def _map_at(
        self, start: int, length: int, prot: int, flags: int, backing: Backing | None, offset: int
    ) -> int:
        """Put a new area at `start`, in the place of what is there; return `start` or a negative errno."""
        if self.areas.overlapping(start, start + length):
            failed = self.remove(start, start + length)
            if failed:
                return failed
        shared = flags & linux.MAP_TYPE != linux.MAP_PRIVATE
        grows = self._grows(flags) and backing is None
        where = offset if isinstance(backing, FileBacking) else 0
        self._insert(Vma(start, start + length, prot & _PROT, shared, grows, backing, where))
        return start

    def _protect(self, start: int, end: int, prot: int) -> int:
        position = start
        for vma in self.areas.overlapping(start, end):
            if vma.start > position:
                break
            if vma.shared and prot & linux.PROT_WRITE and vma.backing and not vma.backing.writable:
                return self._apply_protection(start, position, prot) or -errno.EACCES
            if self._becomes_too_much(vma, start, end, prot):
                return self._apply_protection(start, position, prot) or -errno.ENOMEM
            position = min(vma.end, end)
        self._apply_protection(start, position, prot)
        return 0 if position == end else -errno.ENOMEM

    def _becomes_too_much(self, vma: Vma, start: int, end: int, prot: int) -> bool:
        """Whether writable memory of this area would be more than the process may have of its own."""
        if vma.shared or vma.grows_down or not prot & linux.PROT_WRITE & ~vma.prot:
            return False
        return self.allowance.refuses_data(self.areas, min(vma.end, end) - max(vma.start, start))

    def _apply_protection(self, start: int, end: int, prot: int) -> int:
        if start < end:
            self._last = Vma(*_NOWHERE)
            self.areas.set_protection(page_down(start), end, prot)
            with self.machine.together():
                self.pages.protect(start, end, RIGHTS[prot])
        return 0
