"""Files that are mapped while they are read and written by system calls: both see the same bytes.

Models what the page cache does for that: what a mapping wrote is in the file before a call reads it, and what a call
wrote is in every page that maps the file, of whichever process. Results are 0 or a negative errno, as Linux returns
them.
"""

import os
from collections.abc import Sequence

from quire.arch import WORD
from quire.guest.mm.backing import Backing, FileBacking, identity_of
from quire.guest.mm.linux import PAGE_4K
from quire.guest.mm.pages import PageMap
from quire.guest.mm.shared_pages import SharedPage
from quire.guest.mm.vma import VmaList

__all__ = ["fill", "known_page", "read_again", "refresh_file", "sync_file", "writes_to"]


def writes_to(areas: VmaList, fd: int) -> bool:
    """Whether a shared mapping may write to the file behind `fd`."""
    key = identity_of(fd)
    return any(
        vma.shared and vma.backing is not None and vma.backing.key == key and vma.backing.writable
        for vma in areas
    )


def sync_file(pages: PageMap, fd: int, start: int = 0, length: int = WORD) -> int:
    """Write the dirty shared pages of a range of the file behind `fd` to it; return 0 or a negative errno."""
    if not pages.shared.has_written:
        return 0
    result = 0
    for page in _pages_of(pages, fd, start, length):
        if page.writer is not None:
            result = pages.shared.write_back(page) or result
    return result


def refresh_file(pages: PageMap, fd: int, start: int, length: int) -> None:
    """A range of the file behind `fd` changed: read its pages again, drop what lies beyond its end."""
    store = pages.shared
    found = _pages_of(pages, fd, start, length)
    store.drop_idle(found)
    mapped = [page for page in found if page.users]
    if not mapped:
        return
    try:
        own = os.open(f"/proc/thread-self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # whoever may not read the file has not mapped it; others see what they saw
    try:
        read_again(pages, FileBacking(mapped[0].key, b"", fd=own), mapped)
    finally:
        os.close(own)


def known_page(pages: PageMap, backing: Backing, index: int) -> SharedPage | None:
    """Return the frame with page `index` of `backing`, if there is one and it holds what the file does now."""
    if isinstance(backing, FileBacking):
        read_again(pages, backing, pages.shared.changed(backing))
    return pages.shared.find(backing.key, index)


def fill(pages: PageMap, gpa: int, file: FileBacking, offset: int) -> str:
    """Copy the page of `file` at `offset` to the frame at `gpa`; return why not if it cannot be read.

    Raises OutOfFrames.
    """
    view = pages.machine.physical(gpa, PAGE_4K, write=True)
    known = known_page(pages, file, offset // PAGE_4K)
    if known is not None:  # newer than the file, as far as a mapping wrote to it
        view[:] = pages.machine.physical(known.gpa, PAGE_4K)
        return ""
    count = file.read_page(offset, view)
    if count > 0:
        return ""
    return f"the file cannot be read (errno {-count})" if count else "the file ends before that page"


def read_again(pages: PageMap, file: FileBacking, stale: Sequence[SharedPage]) -> None:
    """Have `stale` hold what `file` does now; what lies beyond its end is taken away from all that map it."""
    size = file.version()[0]
    for page in stale:
        if page.index * PAGE_4K >= size:
            pages.shared.drop(page)
            continue
        view = pages.machine.physical(page.gpa, PAGE_4K, write=True)
        count = max(file.read_page(page.index * PAGE_4K, view), 0)
        view[count:] = bytes(PAGE_4K - count)


def _pages_of(pages: PageMap, fd: int, start: int, length: int) -> list[SharedPage]:
    """Return the pages that hold a range of the file behind `fd`."""
    store = pages.shared
    key = identity_of(fd) if len(store) and length > 0 else None
    return [] if key is None else store.between(key, start // PAGE_4K, (start + length - 1) // PAGE_4K)
