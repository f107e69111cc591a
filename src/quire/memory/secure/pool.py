"""The secure pool: gives regions of a pool's frames to whoever has secrets, and takes them back clean.

Models: allocation with guards, contents, locks, tags and protection, each with its undo. Does not model: frames that
lie apart: a region is consecutive frames, so that one guard on each side is enough. Fails: MisuseError, OutOfFrames,
BackendError; then nothing is allocated.
"""

from __future__ import annotations

import errno
import operator
import os
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Literal, NoReturn, Self

import numpy as np

from quire import failpoints
from quire.errors import BackendError, MisuseError
from quire.memory.contents import Fill
from quire.memory.host import FRAME_SHIFT, FRAME_SIZE, HostMemory
from quire.memory.layout import MAX_ORDER
from quire.memory.owner import Owner, OwnerKind
from quire.memory.pool import Pool
from quire.memory.secure.integrity import KEY_BYTES, PageTags
from quire.memory.secure.protection import CLOSED, WRITABLE, dump, lock, protect, scrub, unlock
from quire.memory.secure.region import Initial, SecureRegion
from quire.memory.secure.rights import Rights

MAX_PAGES: Final = (1 << MAX_ORDER) - 2  # with its guards a region is at most the largest block
_RANDOM_FRAMES: Final = 256  # 1 MiB of random bytes at a time
_READ_WRITE: Final = Rights(write=True)
Lock = Literal["must", "try", "no"]


class SecurePool:
    """Regions of ``pool``, whose frames are those of ``host``; all of one owner, ``Owner(SECURE, name)``.

    ``random_source`` returns as many random bytes as it is asked for: `os.urandom`, or a test's own. The key of the
    tags comes from it and is never shown. A context manager: closing frees all regions.
    """

    def __init__(
        self,
        host: HostMemory,
        pool: Pool,
        name: str = "secure",
        random_source: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.owner = Owner(OwnerKind.SECURE, name)
        self._host, self._pool, self._source = host, pool, random_source
        self._key = self.random(KEY_BYTES)
        self._regions: list[SecureRegion] = []
        self._made = 0

    @property
    def regions(self) -> tuple[SecureRegion, ...]:
        """The regions that live, oldest first."""
        return tuple(self._regions)

    def random(self, length: int) -> bytes:
        """Return `length` bytes of the random source. MisuseError when it returns fewer or more."""
        if failpoints.armed is not None:
            failpoints.reach(
                "random source", lambda: BackendError(errno.EIO, "the random source failed: try again later")
            )
        found = self._source(length)
        if len(found) != length:
            raise MisuseError(
                f"the random source returned {len(found):#x} bytes instead of {length:#x}: pass one like os.urandom"
            )
        return found

    def secure_alloc(
        self,
        pages: int,
        *,
        fill: Initial = Initial.RANDOM,
        rights: Rights = _READ_WRITE,
        lock: Lock = "must",
    ) -> SecureRegion:
        """Return a new, closed region of ``pages`` consecutive pages with a guard frame on each side.

        ``lock`` "must" keeps it from being swapped or raises BackendError, which names the limit; "try" notes in
        ``locked`` what came of it; "no" does not ask. OutOfFrames when no block is large enough; MisuseError for
        0 pages or more than 0x3fffe.
        """
        pages = operator.index(pages)
        if not 1 <= pages <= MAX_PAGES:
            raise MisuseError(f"a secure region cannot have {pages:#x} pages: give 0x1 to {MAX_PAGES:#x}")
        if lock not in ("must", "try", "no"):
            raise MisuseError(f"there is no lock={lock!r}: give 'must', 'try' or 'no'")
        host, count = self._host, pages + 2
        with ExitStack() as undo:
            guard = self._take(count)
            hfn = guard + 1
            undo.callback(self._give_back, guard, count)
            if fill is Initial.RANDOM:
                self._fill(hfn, pages)
            undo.callback(scrub, host, hfn, pages)
            dump(host, guard, count, False)
            undo.callback(_dump_again, host, guard, count)
            locked = self._lock(hfn, pages, lock)
            undo.callback(unlock, host, hfn, pages)
            name = f"{self.owner.name} {self._made + 1}"
            tags = PageTags(host, hfn, pages, self._key, name)
            tags.update()
            # The guards first: refused half-way, the whole is opened again.
            undo.callback(protect, host, guard, count, WRITABLE)
            protect(host, guard, count, CLOSED)
            undo.pop_all()
        region = SecureRegion(host, hfn, pages, name, rights, tags, locked)
        self._regions.append(region)
        self._made += 1
        return region

    def free(self, region: SecureRegion) -> None:
        """Overwrite a region with zeros and give its frames back. MisuseError while it is open, or not this pool's.

        A region that was tampered with is freed as well.
        """
        if region not in self._regions:
            raise MisuseError(f"{region!r} is not of {self!r}: free it where it was allocated, once")
        region.check_closed("free it")
        guard, count = region.hfn - 1, region.pages + 2
        protect(self._host, guard, count, WRITABLE)
        scrub(self._host, region.hfn, region.pages)
        if region.locked:
            unlock(self._host, region.hfn, region.pages)
        _dump_again(self._host, guard, count)
        self._give_back(guard, count)
        self._regions.remove(region)
        region.end()

    def sweep(self) -> None:
        """Verify every page of every region; Tampered names the first that was changed."""
        for region in self._regions:
            region.sweep()

    def close(self) -> None:
        """Free all regions; may be repeated. MisuseError when one is open."""
        for region in self._regions:
            region.check_closed("close its pool")
        while self._regions:
            self.free(self._regions[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        pages = sum(region.pages for region in self._regions)
        return f"<SecurePool of {len(self._regions)} regions, {pages:#x} pages>"

    def __reduce__(self) -> NoReturn:
        raise MisuseError(f"{self!r} cannot be pickled or copied: seal() keeps a region in a file, encrypted")

    # Consecutive frames, zeroed: a block of the next power of two, less what is too much.
    def _take(self, count: int) -> int:
        order = (count - 1).bit_length()
        hfn = self._pool.allocate(order, self.owner, Fill.ZERO)
        self._pool.trim(hfn, order, count, self.owner)
        return hfn

    def _give_back(self, hfn: int, count: int) -> None:
        self._pool.free_many(np.arange(hfn, hfn + count, dtype=np.uint64), 0, self.owner)

    def _fill(self, hfn: int, pages: int) -> None:
        try:
            for at in range(0, pages, _RANDOM_FRAMES):
                length = min(_RANDOM_FRAMES, pages - at) * FRAME_SIZE
                self._host.write((hfn + at) << FRAME_SHIFT, self.random(length))
        except BaseException:
            scrub(self._host, hfn, pages)
            raise

    def _lock(self, hfn: int, pages: int, wanted: Lock) -> bool:
        if wanted == "no":
            return False
        try:
            lock(self._host, hfn, pages)
        except BackendError:
            if wanted == "must":
                raise
            return False
        return True


# Frames that stay out of core dumps do no harm.
def _dump_again(host: HostMemory, hfn: int, count: int) -> None:
    try:
        dump(host, hfn, count, True)
    except BackendError:
        pass
