"""What /proc says of the guest's memory: statm, the lines of status that begin with Vm and Rss, smaps."""

from dataclasses import dataclass, field

from quire.guest.kernel.task import ThreadGroup
from quire.guest.mm.linux import PAGE_2M, PAGE_4K, PROT_EXEC, PROT_READ, PROT_WRITE
from quire.guest.mm.procmaps import VSYSCALL_REGION, maps_line, regions
from quire.guest.mm.residence import Residence, residences
from quire.guest.mm.vma import Large, OnFork, Vma

__all__ = ["memory_lines", "smaps", "smaps_rollup", "statm"]

_KIB = 1024


@dataclass(slots=True)
class _Sums:
    """Bytes of an address space by what is mapped, and `pages`: by what has a frame."""

    size: int
    pages: Residence = field(default_factory=Residence)
    text: int = 0
    data: int = 0
    stack: int = 0


def _sums(group: ThreadGroup) -> _Sums:
    sums = _Sums(size=group.space.mapped_bytes)
    for vma, here in residences(group.space):
        size = vma.end - vma.start
        sums.pages.include(here)
        if vma.grows_down:
            sums.stack += size
        elif vma.prot & PROT_EXEC and not vma.prot & PROT_WRITE:
            sums.text += size
        elif vma.prot & PROT_WRITE and not vma.shared:
            sums.data += size
    return sums


def statm(group: ThreadGroup) -> bytes:
    """Return /proc/self/statm: pages in all, resident, of files and shared, of code, 0, of data and stack, 0."""
    sums = _sums(group)
    pages = sums.pages
    words = (sums.size, pages.resident, pages.files + pages.memory, sums.text, 0, sums.data + sums.stack, 0)
    return (" ".join(str(word // PAGE_4K) for word in words) + "\n").encode()


def memory_lines(group: ThreadGroup, peak: int) -> dict[str, str]:
    """Return the lines of /proc/self/status that are of memory, by name; `peak` is the most that was resident."""
    sums = _sums(group)
    sizes = {
        "VmPeak": sums.size,
        "VmSize": sums.size,
        "VmLck": 0,
        "VmPin": 0,
        "VmHWM": peak,
        "VmRSS": sums.pages.resident,
        "RssAnon": sums.pages.anonymous,
        "RssFile": sums.pages.files,
        "RssShmem": sums.pages.memory,
        "VmData": sums.data,
        "VmStk": sums.stack,
        "VmExe": sums.text,
        "VmLib": 0,
        "VmSwap": 0,
        "HugetlbPages": sums.pages.huge,
    }
    return {name: f"{size // _KIB:8} kB" for name, size in sizes.items()}


_SMAPS = (
    "Size", "KernelPageSize", "MMUPageSize", "Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty",
    "Private_Clean", "Private_Dirty", "Referenced", "Anonymous", "KSM", "LazyFree", "AnonHugePages",
    "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap", "SwapPss", "Locked",
)  # fmt: skip


#: smaps_rollup has no sizes of areas and pages, and tells what is resident apart.
_ROLLUP = (*_SMAPS[3:6], "Pss_Anon", "Pss_File", "Pss_Shmem", *_SMAPS[6:])


def _sizes(size: int, page: int, here: Residence) -> dict[str, int]:
    """Return what smaps says of `size` bytes of which `here` is resident, in pages of `page` bytes."""
    of_files = here.pss * here.files // here.resident if here.resident else 0
    of_memory = here.pss * here.memory // here.resident if here.resident else 0
    return {
        "Size": size,
        "KernelPageSize": page,
        "MMUPageSize": page,
        "Rss": here.resident,
        "Pss": here.pss,
        "Pss_Dirty": here.pss_dirty,
        "Pss_Anon": here.pss - of_files - of_memory,
        "Pss_File": of_files,
        "Pss_Shmem": of_memory,
        "Shared_Clean": here.shared_clean,
        "Shared_Dirty": here.shared_dirty,
        "Private_Clean": here.private_clean,
        "Private_Dirty": here.private_dirty,
        "Referenced": here.resident,
        "Anonymous": here.anonymous,
        "AnonHugePages": here.large,
        "Private_Hugetlb": here.huge,
    }


def _lines(sizes: dict[str, int], names: tuple[str, ...] = _SMAPS) -> str:
    return "".join(f"{name + ':':<16}{sizes.get(name, 0) // _KIB:8} kB\n" for name in names)


def _flags(vma: Vma) -> str:
    """Return the flags of an area as the kernel abbreviates them (show_smap_vma_flags)."""
    shown = {
        "rd": vma.prot & PROT_READ,
        "wr": vma.prot & PROT_WRITE,
        "ex": vma.prot & PROT_EXEC,
        "sh": vma.shared,
        "mr": True,
        "mw": True,
        "me": True,
        "ms": vma.shared,
        "gd": vma.grows_down,
        "ac": vma.prot & PROT_WRITE and not vma.shared,
        "dc": vma.on_fork is OnFork.LEFT_OUT,
        "ht": vma.large is Large.ONLY,
        "wf": vma.on_fork is OnFork.WIPED,
        "hg": vma.large is Large.WANTED,
        "nh": vma.large is Large.UNWANTED,
    }
    return "VmFlags: " + "".join(f"{name} " for name, is_set in shown.items() if is_set) + "\n"


def _eligible(group: ThreadGroup, vma: Vma) -> str:
    """Return whether the kernel maps large pages there."""
    fits = -(-vma.start // PAGE_2M) * PAGE_2M + PAGE_2M <= vma.end
    wanted = vma.backing is None and vma.large is not Large.ONLY and group.space.takes_large(vma)
    return f"THPeligible:    {int(fits and wanted):8}\n"


def smaps(group: ThreadGroup) -> bytes:
    """Return /proc/self/smaps."""
    parts = []
    for vma, here in residences(group.space):
        page = PAGE_2M if vma.large is Large.ONLY else PAGE_4K
        sizes = _lines(_sizes(vma.end - vma.start, page, here))
        text = sizes + _eligible(group, vma) + _flags(vma)
        parts.append(maps_line(regions([vma])[0]) + text.encode())
    every = _lines(_sizes(PAGE_4K, PAGE_4K, Residence())) + f"THPeligible:    {0:8}\nVmFlags: ex \n"
    return b"".join(parts) + maps_line(VSYSCALL_REGION) + every.encode()


def smaps_rollup(group: ThreadGroup) -> bytes:
    """Return /proc/self/smaps_rollup: the sums over all areas."""
    whole, areas = Residence(), []
    for vma, here in residences(group.space):
        areas.append(vma)
        whole.include(here)
    head = f"{areas[0].start:08x}-{areas[-1].end:08x} ---p 00000000 00:00 0 " if areas else ""
    return f"{head:<73}[rollup]\n{_lines(_sizes(0, PAGE_4K, whole), _ROLLUP)}".encode()
