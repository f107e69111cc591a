"""Numbers of the Linux x86-64 ABI that the guest's memory map and its system calls share.

Models the values of ``asm-generic/mman.h`` and ``asm/processor.h``, nothing else. errno values come from the
standard library: Quire's host is Linux on x86-64 too.
"""

from quire.arch import PAGES

__all__ = [
    "ADDRESS_END",
    "MADVICE",
    "MADV_COLLAPSE",
    "MADV_DONTNEED",
    "MADV_DONTNEED_LOCKED",
    "MADV_FREE",
    "MADV_HUGEPAGE",
    "MADV_NOHUGEPAGE",
    "MADV_POPULATE_READ",
    "MADV_POPULATE_WRITE",
    "MADV_REMOVE",
    "MADV_WIPEONFORK",
    "MAP_32BIT",
    "MAP_ANONYMOUS",
    "MAP_FIXED",
    "MAP_FIXED_NOREPLACE",
    "MAP_GROWSDOWN",
    "MAP_HUGETLB",
    "MAP_NORESERVE",
    "MAP_POPULATE",
    "MAP_PRIVATE",
    "MAP_SHARED",
    "MAP_SHARED_VALIDATE",
    "MAP_STACK",
    "MAP_SYNC",
    "MAP_TYPE",
    "MAX_MAP_COUNT",
    "MMAP_MIN_ADDR",
    "MREMAP_DONTUNMAP",
    "MREMAP_FIXED",
    "MREMAP_MAYMOVE",
    "MS_ASYNC",
    "MS_INVALIDATE",
    "MS_SYNC",
    "PAGE_2M",
    "PAGE_4K",
    "PROT_EXEC",
    "PROT_GROWSDOWN",
    "PROT_GROWSUP",
    "PROT_NONE",
    "PROT_READ",
    "PROT_WRITE",
    "STACK_GUARD_GAP",
    "TASK_SIZE",
    "VSYSCALL",
    "page_down",
    "page_up",
]

PAGE_4K, PAGE_2M = PAGES["4K"], PAGES["2M"]

#: Above every user address that the processor takes: the end of the lower half of canonical addresses.
ADDRESS_END = 1 << 47
#: First address above user space: one page short of 47 bits (arch/x86/include/asm/page_64_types.h).
TASK_SIZE = ADDRESS_END - PAGE_4K
#: The page of three calls at fixed addresses (arch/x86/entry/vsyscall), which can be executed and not read.
VSYSCALL = 0xFFFF_FFFF_FF60_0000
#: /proc/sys/vm/mmap_min_addr: nothing is mapped below, so that a null pointer faults.
MMAP_MIN_ADDR = 0x10000
#: /proc/sys/vm/max_map_count.
MAX_MAP_COUNT = 65530
#: Bytes kept free below a mapping that grows down (256 pages).
STACK_GUARD_GAP = 256 * PAGE_4K

PROT_NONE = 0
PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4
PROT_GROWSDOWN = 0x0100_0000
PROT_GROWSUP = 0x0200_0000

MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_SHARED_VALIDATE = 0x03
MAP_TYPE = 0x0F
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_32BIT = 0x40
MAP_GROWSDOWN = 0x0100
MAP_NORESERVE = 0x4000
MAP_POPULATE = 0x8000
MAP_STACK = 0x20000
MAP_HUGETLB = 0x40000
MAP_SYNC = 0x80000
MAP_FIXED_NOREPLACE = 0x100000

MREMAP_MAYMOVE = 1
MREMAP_FIXED = 2
MREMAP_DONTUNMAP = 4

MADV_DONTNEED = 4
MADV_FREE = 8
MADV_REMOVE = 9
MADV_DONTFORK = 10
MADV_DOFORK = 11
MADV_HUGEPAGE = 14
MADV_NOHUGEPAGE = 15
MADV_WIPEONFORK = 18
MADV_KEEPONFORK = 19
MADV_POPULATE_READ = 22
MADV_POPULATE_WRITE = 23
MADV_DONTNEED_LOCKED = 24
MADV_COLLAPSE = 25
#: Every value of madvise that Linux knows for user mappings.
MADVICE = frozenset((*range(5), *range(8, 26)))

MS_ASYNC = 1
MS_INVALIDATE = 2
MS_SYNC = 4


def page_down(address: int) -> int:
    """Return `address` rounded down to 4 KiB."""
    return address & ~(PAGE_4K - 1)


def page_up(address: int) -> int:
    """Return `address` rounded up to 4 KiB; it may become 2**64, Python's integers do not wrap."""
    return (address + PAGE_4K - 1) & ~(PAGE_4K - 1)
