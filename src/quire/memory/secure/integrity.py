"""Tags of pages: keyed BLAKE2b over a page, where it is, and how often it was written.

Models: that a page is what its last writer left (RFC 7693, keyed; 32-byte tags). The address keeps a page from being
taken for another, the generation from being taken for an older one of itself. Does not model: who wrote. Fails:
Tampered.
"""

from __future__ import annotations

import errno
import hashlib
import hmac

from quire import failpoints
from quire.errors import BackendError
from quire.memory.host import FRAME_SHIFT, FRAME_SIZE, HostMemory

KEY_BYTES = 32
TAG_BYTES = 32


class Tampered(RuntimeError):
    """A page of a region changed while the region was closed.

    Data: ``hfn`` of the page, the name of the ``region``, ``offset`` of the page in it (bytes).
    """

    def __init__(self, hfn: int, region: str, offset: int) -> None:
        super().__init__(
            f"frame {hfn:#x}, at offset {offset:#x} of secure region {region!r}, was changed while the region was "
            "closed: trust nothing in it, free it, and look for who writes to host memory"
        )
        self.hfn, self.region, self.offset = hfn, region, offset

    def __reduce__(self) -> tuple[type[Tampered], tuple[int, str, int]]:
        return Tampered, (self.hfn, self.region, self.offset)  # crosses to worker processes


class PageTags:
    """The tags of ``count`` pages from frame ``hfn``, which have to be readable whenever this looks at them."""

    def __init__(self, host: HostMemory, hfn: int, count: int, key: bytes, region: str) -> None:
        self._host, self._hfn, self._count, self._region = host, hfn, count, region
        self._key = key
        self._generation = 0
        self._tags: list[bytes] = []

    def update(self) -> None:
        """Tag all pages as they are now, as a new generation."""
        if failpoints.armed is not None:
            failpoints.reach("tag pages", lambda: BackendError(errno.ENOMEM, "cannot tag pages: no memory"))
        tags = [self._tag(page, self._generation + 1) for page in range(self._count)]
        self._tags, self._generation = tags, self._generation + 1

    def verify(self) -> None:
        """Raise Tampered for the first page that is not what was tagged."""
        for page, tag in enumerate(self._tags):
            if not hmac.compare_digest(self._tag(page, self._generation), tag):
                raise Tampered(self._hfn + page, self._region, page << FRAME_SHIFT)

    def _tag(self, page: int, generation: int) -> bytes:
        hpa = (self._hfn + page) << FRAME_SHIFT
        made = hashlib.blake2b(key=self._key, digest_size=TAG_BYTES)
        made.update(hpa.to_bytes(8, "little") + generation.to_bytes(8, "little"))
        made.update(self._host.octets.data[hpa : hpa + FRAME_SIZE])
        return made.digest()
