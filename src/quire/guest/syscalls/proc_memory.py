"""What /proc says of the guest's memory: statm, the lines of status that begin with Vm and Rss, smaps."""

from bisect import bisect_left
from dataclasses import dataclass

from quire.guest.kernel.task import ThreadGroup
from quire.guest.mm.linux import PAGE_2M, PAGE_4K, PROT_EXEC, PROT_WRITE
from quire.guest.mm.procmaps import maps_text
from quire.guest.mm.vma import Vma

__all__ = ["memory_lines", "smaps", "smaps_rollup", "statm"]

_KIB = 1024


@dataclass(slots=True)
class _Resident:
    """What has a frame of each area, in bytes: small pages and large ones."""

    small: list[int]
    large: list[int]

    def of(self, vma: Vma) -> tuple[int, int]:
        counts = [
            (bisect_left(pages, vma.end) - bisect_left(pages, vma.start)) * size
            for pages, size in ((self.small, PAGE_4K), (self.large, PAGE_2M))
        ]
        return sum(counts), counts[1]


def _resident(group: ThreadGroup) -> _Resident:
    pages = group.space.pages
    return _Resident(sorted(pages.small), sorted(pages.large))


@dataclass(slots=True)
class _Sums:
    """Bytes of an address space by what is in them."""

    size: int = 0
    resident: int = 0
    files: int = 0
    shared: int = 0
    text: int = 0
    data: int = 0
    stack: int = 0


def _sums(group: ThreadGroup) -> _Sums:
    sums, resident = _Sums(size=group.space.mapped_bytes), _resident(group)
    for vma in group.space.areas:
        size, (here, _) = vma.end - vma.start, resident.of(vma)
        sums.resident += here
        if vma.shared:
            sums.shared += here
        elif vma.backing is not None and not vma.prot & PROT_WRITE:
            sums.files += here
        if vma.grows_down:
            sums.stack += size
        elif vma.prot & PROT_EXEC and not vma.prot & PROT_WRITE:
            sums.text += size
        elif vma.prot & PROT_WRITE and not vma.shared:
            sums.data += size
    return sums


def statm(group: ThreadGroup) -> bytes:
    """Return /proc/self/statm: pages in all, resident, of files, of code, 0, of data and stack, 0."""
    sums = _sums(group)
    words = (sums.size, sums.resident, sums.files + sums.shared, sums.text, 0, sums.data + sums.stack, 0)
    return (" ".join(str(word // PAGE_4K) for word in words) + "\n").encode()


def memory_lines(group: ThreadGroup, peak: int) -> dict[str, str]:
    """Return the lines of /proc/self/status that are of memory, by name; `peak` is the most that was resident."""
    sums = _sums(group)
    anonymous = sums.resident - sums.files - sums.shared
    sizes = {
        "VmPeak": sums.size,
        "VmSize": sums.size,
        "VmLck": 0,
        "VmPin": 0,
        "VmHWM": peak,
        "VmRSS": sums.resident,
        "RssAnon": anonymous,
        "RssFile": sums.files,
        "RssShmem": sums.shared,
        "VmData": sums.data,
        "VmStk": sums.stack,
        "VmExe": sums.text,
        "VmLib": 0,
        "VmSwap": 0,
        "HugetlbPages": 0,
    }
    return {name: f"{size // _KIB:8} kB" for name, size in sizes.items()}


_SMAPS = (
    "Size", "KernelPageSize", "MMUPageSize", "Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty",
    "Private_Clean", "Private_Dirty", "Referenced", "Anonymous", "KSM", "LazyFree", "AnonHugePages",
    "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap", "SwapPss", "Locked",
)  # fmt: skip


#: smaps_rollup has no sizes of areas and pages, and tells what is resident apart.
_ROLLUP = (*_SMAPS[3:6], "Pss_Anon", "Pss_File", "Pss_Shmem", *_SMAPS[6:])


def _sizes(vma: Vma, here: int, large: int) -> dict[str, int]:
    """Return what smaps says of an area, in bytes. Private pages count as dirty: they were filled here."""
    anonymous = 0 if vma.shared else here
    return {
        "Size": vma.end - vma.start,
        "KernelPageSize": PAGE_4K,
        "MMUPageSize": PAGE_4K,
        "Rss": here,
        "Pss": here,
        "Pss_Dirty": anonymous,
        "Pss_Anon": anonymous,
        "Pss_Shmem": here - anonymous,
        "Private_Clean": here - anonymous,
        "Private_Dirty": anonymous,
        "Referenced": here,
        "Anonymous": anonymous,
        "AnonHugePages": large,
    }


def _lines(sizes: dict[str, int], names: tuple[str, ...] = _SMAPS) -> str:
    return "".join(f"{name + ':':<16}{sizes.get(name, 0) // _KIB:8} kB\n" for name in names)


def smaps(group: ThreadGroup) -> bytes:
    """Return /proc/self/smaps."""
    resident = _resident(group)
    return b"".join(
        maps_text([vma]) + (_lines(_sizes(vma, *resident.of(vma))) + "THPeligible:    0\n").encode()
        for vma in group.space.areas
    )


def smaps_rollup(group: ThreadGroup) -> bytes:
    """Return /proc/self/smaps_rollup: the sums over all areas."""
    resident, sums, areas = _resident(group), dict.fromkeys((*_SMAPS, *_ROLLUP), 0), list(group.space.areas)
    for vma in areas:
        for name, size in _sizes(vma, *resident.of(vma)).items():
            sums[name] += size
    head = f"{areas[0].start:08x}-{areas[-1].end:08x} ---p 00000000 00:00 0 " if areas else ""
    return f"{head:<73}[rollup]\n{_lines(sums, _ROLLUP)}".encode()
