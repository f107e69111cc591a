"""A secure region: consecutive frames that are accessible only while somebody has them open.

Models: opens, nested and counted; the policy of what an open may do; verification at the first open, new tags after
the last of an open for writing. Does not model: mapping into guest-physical memory (``rights`` is for who does).
Fails: MisuseError, Tampered, BackendError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import NoReturn

from quire.errors import MisuseError
from quire.memory.host import FRAME_SHIFT, HostMemory
from quire.memory.secure.integrity import PageTags
from quire.memory.secure.protection import CLOSED, READABLE, WRITABLE, protect
from quire.memory.secure.rights import Rights


class Initial(Enum):
    """What a new region contains: bytes of the random source, or zeros."""

    RANDOM = "random"
    ZERO = "zero"


class SecureRegion:
    """``pages`` consecutive frames from ``hfn``; made by ``SecurePool.secure_alloc``, freed by ``SecurePool.free``.

    ``locked`` says whether they are kept from being swapped, ``rights`` what an open may do. Cannot be pickled or
    copied; its repr shows counts, never contents.
    """

    def __init__(
        self, host: HostMemory, hfn: int, pages: int, name: str, rights: Rights, tags: PageTags, locked: bool
    ) -> None:
        self.hfn, self.pages, self.name, self.locked = hfn, pages, name, locked
        self._host, self._tags, self._rights = host, tags, rights
        self._opens = self._writers = 0
        self._written = False
        self._freed = False

    @property
    def size(self) -> int:
        """Bytes of the region."""
        return self.pages << FRAME_SHIFT

    @property
    def rights(self) -> Rights:
        """What may be done with its pages."""
        return self._rights

    @property
    def is_open(self) -> bool:
        """Whether its pages are accessible now."""
        return self._opens > 0

    def allow(self, rights: Rights) -> None:
        """Change the policy. MisuseError while the region is open, or when it was freed."""
        self.check_closed("change its rights")
        self._rights = rights

    @contextmanager
    def open(self, *, write: bool = False) -> Iterator[memoryview]:
        """Make the pages accessible inside the with block; the view of their bytes is writable with ``write``.

        The first open verifies all pages: Tampered, and the region stays closed. When the last one ends the pages are
        closed, and tagged if one was for writing. The view ends with its block; what was sliced off it must not be
        used any longer: the process would end with SIGSEGV. MisuseError when the rights do not permit it.
        """
        self._check_rights(write)
        self._enter(write)
        start = self.hfn << FRAME_SHIFT
        view = self._host.octets.data[start : start + self.size]
        given = view if write else view.toreadonly()
        try:
            yield given
        finally:
            for one in (given, view):
                with suppress(BufferError):  # somebody sliced it
                    one.release()
            self._leave(write)

    def sweep(self) -> None:
        """Verify all pages now; Tampered names the first that was changed. MisuseError while open for writing."""
        if self._writers:
            raise MisuseError(
                f"secure region {self.name!r} is open for writing: its pages have no tags until that ends; "
                "leave the with block first"
            )
        self._check_live()
        if self._opens:
            self._tags.verify()
        else:
            self._enter(False)  # verifies
            self._leave(False)

    def check_closed(self, action: str) -> None:
        """Raise MisuseError if the region is open or freed, naming what was to be done with it."""
        self._check_live()
        if self._opens:
            raise MisuseError(
                f"cannot {action} while secure region {self.name!r} is open: leave its with block first"
            )

    def end(self) -> None:
        """Say that its frames are gone; the pool's affair."""
        self._freed = True

    def __repr__(self) -> str:
        state = "freed" if self._freed else "open" if self._opens else "closed"
        return f"<SecureRegion of {self.pages:#x} pages, {self._rights}, {state}>"

    def __reduce__(self) -> NoReturn:
        raise MisuseError(f"{self!r} cannot be pickled or copied: seal() keeps a region in a file, encrypted")

    def _check_live(self) -> None:
        if self._freed:
            raise MisuseError(f"secure region {self.name!r} is freed: allocate another")

    def _check_rights(self, write: bool) -> None:
        self._check_live()
        if not (self._rights.write if write else self._rights.read):
            word = "writing" if write else "reading"
            raise MisuseError(
                f"secure region {self.name!r} has rights {str(self._rights)!r} and cannot be opened for {word}: "
                "change them with allow()"
            )

    def _enter(self, write: bool) -> None:
        if not self._opens:
            protect(self._host, self.hfn, self.pages, READABLE)
            try:
                self._tags.verify()
                if write:
                    protect(self._host, self.hfn, self.pages, WRITABLE)
            except BaseException:
                protect(self._host, self.hfn, self.pages, CLOSED)
                raise
        elif write and not self._writers:
            protect(self._host, self.hfn, self.pages, WRITABLE)
        self._opens += 1
        self._writers += write
        self._written |= write

    # Should tagging fail, the pages are closed all the same, and count as tampered with: nothing vouches for them.
    def _leave(self, write: bool) -> None:
        self._opens -= 1
        self._writers -= write
        try:
            if self._written and not self._writers:
                self._tags.update()
                self._written = False
        finally:
            if not self._opens:
                protect(self._host, self.hfn, self.pages, CLOSED)
            elif write and not self._writers:
                protect(self._host, self.hfn, self.pages, READABLE)
