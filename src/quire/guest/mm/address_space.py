"""A process's address space: what is mapped where, and the page-fault handler that gives it frames.

Models Linux's memory map of one process: areas, demand paging with 4 KiB and 2 MiB pages, private and shared files,
the heap, a stack that grows, copies on write. Private file pages are shared until they are written. Does not model
swap, locking or huge page files. Contract: results are a non-negative number or a negative errno, as Linux returns
them; every number may come from a hostile guest. A fault that cannot be resolved is a
:class:`~quire.guest.kernel.siginfo.SignalInfo`. Times and randomness: only from the seeded generator.
"""

import random
import signal
from collections.abc import Callable
from dataclasses import replace

from quire.arch import PF_ERROR, WORD
from quire.errors import InternalError
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.kernel.siginfo import BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL, SignalInfo
from quire.guest.mm.advice import madvise
from quire.guest.mm.backing import Backing, FileBacking
from quire.guest.mm.commons import Commons, LargePages
from quire.guest.mm.file_pages import fill, known_page
from quire.guest.mm.huge_pages import map_huge
from quire.guest.mm.layout import DEFAULT_STACK_LIMIT, Layout, choose_layout
from quire.guest.mm.linux import (
    MAP_HUGETLB,
    PAGE_2M,
    PAGE_4K,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    STACK_GUARD_GAP,
    TASK_SIZE,
    page_down,
)
from quire.guest.mm.mapping import MemoryMap
from quire.guest.mm.pages import COW, PARKED, SHARED, allowed
from quire.guest.mm.procmaps import Region, maps_text, regions
from quire.guest.mm.ranges import lock, mincore, msync
from quire.guest.mm.remap import mremap
from quire.guest.mm.shared_pages import SharedPage
from quire.guest.mm.vma import Large, OnFork, Vma
from quire.memory import OutOfFrames

__all__ = ["OUT_OF_MEMORY", "AddressSpace"]

#: The reason of the SIGKILL that ends a guest when no frame is left.
OUT_OF_MEMORY = "guest memory exhausted (--memory SIZE)"

_SMALL_MASK = ~(PAGE_4K - 1)
_LARGE_MASK = ~(PAGE_2M - 1)
_RSVD = PF_ERROR.encode(RSVD=1)
_WRITES = PF_ERROR.encode(W=1)
_KIND = PF_ERROR.encode(W=1, ID=1)
#: Which protections allow the access that an error code describes.
_ALLOWED_BY = {
    0: PROT_READ | PROT_WRITE | PROT_EXEC,
    PF_ERROR.encode(W=1): PROT_WRITE,
    PF_ERROR.encode(ID=1): PROT_EXEC,
    _KIND: PROT_WRITE,
}


class AddressSpace(MemoryMap):
    """The memory of one process on `machine`. `aslr` off gives Linux's fixed layout.

    `layout` and `commons` are those of the other processes there; without them it is the first.
    """

    def __init__(
        self,
        machine: ProcessMachine,
        rng: random.Random,
        *,
        aslr: bool = True,
        layout: Layout | None = None,
        commons: Commons | None = None,
    ) -> None:
        super().__init__(machine, layout or choose_layout(rng, aslr), commons or Commons(machine))
        #: RLIMIT_STACK in bytes: how far an area that grows down may reach.
        self.stack_limit = DEFAULT_STACK_LIMIT
        #: Gives memory back that nobody needs any more; says whether there was some.
        self.reclaim: Callable[[], bool] = lambda: False
        #: How many page faults were resolved.
        self.faults = 0
        #: The SIGKILL of the first fault that found no frame; the process dies of it at the next kernel exit.
        self.exhausted: SignalInfo | None = None
        #: Whether the process is to have no large pages (PR_SET_THP_DISABLE).
        self.no_large = False
        self._left: list[Backing] = []  # behind areas that have gone, whose frames have not

    @property
    def mapped_bytes(self) -> int:
        """Bytes of all areas (VmSize)."""
        return self.areas.mapped_bytes

    @property
    def resident_bytes(self) -> int:
        """Bytes that have a frame (VmRSS)."""
        return self.pages.resident_bytes

    def regions(self) -> list[Region]:
        """Return the areas in ascending order, as plain records."""
        return regions(self.areas)

    def maps_text(self) -> bytes:
        """Return the text of /proc/self/maps."""
        return maps_text(self.areas)

    def fault(self, gva: int, error_code: int) -> SignalInfo | None:
        """Handle the page fault at `gva` (error code of SDM 3A §4.7); None means: try the access again.

        Otherwise the signal that Linux sends: SIGSEGV, SIGBUS, or SIGKILL when memory is exhausted.
        """
        vma = self._last
        if not vma.start <= gva < vma.end:
            found = self.areas.find(gva) or self._grow_stack(gva)
            if found is None:
                return SignalInfo(signal.SIGSEGV, SEGV_MAPERR, addr=gva, text="nothing is mapped there")
            self._last = vma = found
        if not vma.prot & _ALLOWED_BY[error_code & _KIND]:
            return SignalInfo(signal.SIGSEGV, SEGV_ACCERR, addr=gva, text="the mapping does not allow it")
        if error_code & _RSVD:
            raise InternalError(f"page fault at {gva:#x} with error {error_code:#x}: a table is corrupt.")
        self.faults += 1
        try:
            return self.pages.shared.with_room(lambda: self._resolve(gva, vma, error_code))
        except OutOfFrames:
            return self._out_of_memory()

    def _resolve(self, gva: int, vma: Vma, error_code: int) -> SignalInfo | None:
        """Give the page at `gva` a frame, or the rights that it lacks. Raises OutOfFrames."""
        page = gva & _SMALL_MASK
        if page in self.pages.small or (gva & _LARGE_MASK) in self.pages.large:
            return self._present(page, vma, error_code)
        if vma.backing is None:
            return self._anonymous(page, vma)
        return self._shared(page, gva, vma) if vma.shared else self._of_file(page, gva, vma, error_code)

    def mmap(self, addr: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
        """Map `length` bytes; return their address or a negative errno."""
        if flags & MAP_HUGETLB and length & WORD and not offset % PAGE_4K:
            return map_huge(self, addr & WORD, length & WORD, prot, flags)
        return super().mmap(addr, length, prot, flags, fd, offset)

    def mremap(self, old: int, old_size: int, new_size: int, flags: int, new_addr: int) -> int:
        """Resize or move the mapping at `old`; return its address or a negative errno."""
        return mremap(self, old, old_size, new_size, flags, new_addr)

    def madvise(self, addr: int, length: int, advice: int) -> int:
        """Follow advice about a range, as far as it changes what the process sees; return 0 or a negative errno."""
        return madvise(self, addr, length, advice)

    def lock(self, addr: int, length: int) -> int:
        """Say whether a range may be locked: ENOMEM for a hole, or for memory that nobody may touch."""
        return lock(self, addr, length)

    def msync(self, addr: int, length: int, flags: int) -> int:
        """Write the dirty shared pages of a range to their files."""
        return msync(self, addr, length, flags)

    def mincore(self, addr: int, length: int, vector: int) -> int:
        """Write one byte for each page of the range to user address `vector`: 1 for a page with a frame.

        Return 0 or a negative errno. Raises BadAddress when the guest may not write there.
        """
        return mincore(self, addr, length, vector)

    def zero(self, start: int, end: int) -> bool:
        """Zero the bytes from `start` to `end` whatever their protection, as execve clears the end of .data.

        False when there is no memory there.
        """
        while start < end:
            stop = min(end, page_down(start) + PAGE_4K)
            vma = self.areas.find(start)
            if vma is None or not vma.prot:
                return False
            # A kernel's own access: any that the area allows brings the page in.
            page = page_down(start)
            if not self.pages.has(page) and self.fault(start, self._any_access(vma)) is not None:
                return False
            entry = self.pages.small.get(page) or self.pages.large.get(page & _LARGE_MASK, 0)
            if entry & COW and not self.pages.own(page, vma.rights, self._frame):
                return False
            mapping = self.machine.lookup(start)
            if mapping is None:
                return False
            gpa = mapping.target + (start - mapping.start)
            self.machine.physical(gpa, stop - start, write=True)[:] = bytes(stop - start)
            start = stop
        return True

    def fork(self, machine: ProcessMachine) -> "AddressSpace":
        """Return a copy on `machine`, whose tables are empty: what fork makes.

        Raises OutOfFrames with all undone and `machine` closed.
        """
        made = AddressSpace(machine, random.Random(0), layout=self.layout, commons=self.commons)
        made.no_large = self.no_large
        made.files, backings = self.files.fork()
        made.stack_limit, made.allowance = self.stack_limit, replace(self.allowance)
        made.brk_start, made.brk_end = self.brk_start, self.brk_end
        left_out = [(one.start, one.end) for one in self.areas if one.on_fork is not OnFork.COPIED]
        for vma in self.areas:
            if vma.on_fork is OnFork.LEFT_OUT:
                continue
            backing = backings[vma.backing] if isinstance(vma.backing, FileBacking) else vma.backing
            made._insert(replace(vma, backing=backing))
        try:
            self.pages.fork(made.pages, left_out)
        except OutOfFrames:
            made.undo_fork()
            raise
        return made

    def undo_fork(self) -> None:
        """Let everything go, with the tables, but the descriptors, which are those of the space that was forked."""
        self.files.forget()
        self.release()
        self.machine.close()
        self.free_all()

    def close(self) -> None:
        """Unmap everything: write shared files back, free every frame, close every descriptor."""
        self.remove(0, TASK_SIZE)

    def abandon(self) -> None:
        """End with the machine: write shared files back and close descriptors, but free no frame.

        For a machine whose memory goes as a whole: freeing page by page would cost more than many a run.
        """
        self.pages.write_all_back()
        self.files.close()

    def release(self) -> None:
        """Write shared files back and let all go but the frames: :meth:`free_all` frees them when the tables went."""
        self.pages.note_dirty()
        for vma in self.areas.carve(0, TASK_SIZE):
            if vma.backing is not None:
                self._left.append(vma.backing)

    def free_all(self) -> None:
        """Free every frame: nothing maps them any more."""
        self.pages.free_all()
        for backing in self._left:
            self._unreference(backing)
        self._left.clear()

    def populate(self, start: int, end: int) -> SignalInfo | None:
        """Touch every page as MAP_POPULATE does; return the first fault that cannot be resolved."""
        for page in range(start, end, PAGE_4K):
            if page % PAGE_2M == 0:
                self.pages.pause()
            if not self.pages.has(page):
                vma = self.areas.find(page)
                if vma is None:
                    return SignalInfo(signal.SIGSEGV, SEGV_MAPERR, addr=page)
                failed = self.fault(page, self._any_access(vma))
                if failed is not None:
                    return failed
        return None

    @staticmethod
    def _any_access(vma: Vma) -> int:
        return PF_ERROR.encode(W=1) if vma.prot & PROT_WRITE else 0

    def _grow_stack(self, gva: int) -> Vma | None:
        """Return the area that grows down to `gva`, grown, if its limit and what lies below allow it."""
        below, above = self.areas.neighbours(gva)
        page = page_down(gva)
        if above is None or not above.grows_down or above.end - page > self.stack_limit:
            return None
        if below is not None and not below.grows_down and below.prot and page - below.end < STACK_GUARD_GAP:
            return None
        if page < STACK_GUARD_GAP or self.allowance.refuses(self.areas, above.start - page):
            return None
        self.areas.grow_down(above, page)
        return above

    def _present(self, page: int, vma: Vma, error_code: int) -> SignalInfo | None:
        """The page has a frame: parked, copied on write, or mapped since whoever faulted looked."""
        key = page if page in self.pages.small else page & _LARGE_MASK
        entry = self.pages.small.get(key)
        if entry is None:
            entry = self.pages.large[key]
        if entry & PARKED:
            self.pages.unpark(key, vma.rights)
        if entry & COW and error_code & _WRITES and not self.pages.own(page, vma.rights, self._frame):
            return self._out_of_memory()
        return None

    def takes_large(self, vma: Vma) -> bool:
        """Whether private anonymous memory of this area is mapped by large pages where they fit."""
        how = self.commons.large
        if vma.large is Large.ONLY:
            return True
        if how is LargePages.NEVER or self.no_large:
            return False
        return vma.large is Large.WANTED or (how is LargePages.ALWAYS and vma.large is not Large.UNWANTED)

    def _frame(self) -> int | None:
        """Return the GPA of a zeroed frame, None when there is none even after others gave theirs back."""
        gpa = self.machine.allocate(PAGE_4K)
        if gpa is None and (self.pages.shared.reclaim() or self.reclaim()):
            return self.machine.allocate(PAGE_4K)
        return gpa

    def _anonymous(self, page: int, vma: Vma) -> SignalInfo | None:
        machine, pages = self.machine, self.pages
        region = page & _LARGE_MASK
        fits = vma.start <= region and region + PAGE_2M <= vma.end
        if fits and self.takes_large(vma) and pages.is_empty(region):
            gpa = machine.allocate(PAGE_2M)
            if gpa is not None:
                self._map(region, gpa, PAGE_2M, vma)
                pages.large[region] = gpa
                return None
            if vma.large is Large.ONLY:
                return SignalInfo(signal.SIGBUS, BUS_ADRERR, addr=page, text="no page of 2 MiB is left")
        gpa = self._frame()
        if gpa is None:
            return self._out_of_memory()
        self._map(page, gpa, PAGE_4K, vma)
        pages.add(page, gpa)
        return None

    def _of_file(self, page: int, gva: int, vma: Vma, error_code: int) -> SignalInfo | None:
        """Give a private page the frame that all have who map the file there; one of its own if it is to be written."""
        if not error_code & _WRITES:
            return self._shared(page, gva, vma, SHARED | COW)
        assert isinstance(vma.backing, FileBacking)
        gpa = self._filled(vma.backing, vma.offset_at(page), gva)
        if isinstance(gpa, SignalInfo):
            return gpa
        self._map(page, gpa, PAGE_4K, vma)
        self.pages.add(page, gpa)
        return None

    def _shared(self, page: int, gva: int, vma: Vma, flags: int = SHARED) -> SignalInfo | None:
        backing = vma.backing
        assert backing is not None
        file = backing if isinstance(backing, FileBacking) else None
        store, index = self.pages.shared, vma.offset_at(page) // PAGE_4K
        known = known_page(self.pages, backing, index)
        if known is None:
            version = None if file is None else file.version()
            gpa = self._filled(file, index * PAGE_4K, gva)
            if isinstance(gpa, SignalInfo):
                return gpa
            known = SharedPage(backing.key, index, gpa, is_file=file is not None)
            store.add(known, version)
        store.use(known, (self.pages, page))
        if file is not None and file.writable and not flags & COW:
            store.let_write(known, file)
        try:
            self.machine.map(page, known.gpa, PAGE_4K, allowed(flags, vma.rights))
        except OutOfFrames:
            store.leave(known.gpa, (self.pages, page), False)
            raise
        self.pages.add(page, known.gpa | flags)
        return None

    def _filled(self, file: FileBacking | None, offset: int, gva: int) -> int | SignalInfo:
        """Return the GPA of a new frame with the page of `file` at `offset` (zeros without one)."""
        gpa = self._frame()
        if gpa is None:
            return self._out_of_memory()
        try:
            failed = "" if file is None else fill(self.pages, gpa, file, offset)
        except OutOfFrames:  # the host has none for it
            self.machine.free(gpa, PAGE_4K)
            raise
        if failed:
            self.machine.free(gpa, PAGE_4K)
            return SignalInfo(signal.SIGBUS, BUS_ADRERR, addr=gva, text=failed)
        return gpa

    def _map(self, page: int, gpa: int, size: int, vma: Vma) -> None:
        """Map a new private frame; free it when no frame is left for a table. Raises OutOfFrames."""
        try:
            self.machine.map(page, gpa, size, vma.rights)
        except OutOfFrames:
            self.machine.free(gpa, size)
            raise

    def _out_of_memory(self) -> SignalInfo:
        if self.exhausted is None:
            self.exhausted = SignalInfo(signal.SIGKILL, SI_KERNEL, text=OUT_OF_MEMORY)
        return self.exhausted
