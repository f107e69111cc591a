"""The balloon: pages that the guest lends to the host, as many as it is asked for (VIRTIO §5.5).

A page is 4 KiB, named by its number. The host may use a page that is in the balloon; the guest takes it out before it
uses it again.
"""

import struct
from collections.abc import Callable, Sequence

from quire.arch import PAGE_SHIFT
from quire.devices.virtio.chain import Chain
from quire.devices.virtio.driver_error import DriverError

__all__ = ["BALLOON", "BalloonDevice"]

#: Its device ID.
BALLOON = 5
_INFLATE = 0
_NUMBER = struct.Struct("<I")
_CONFIG = struct.Struct("<II")
#: Numbers that one request may hold; Linux sends 256.
_MOST = 4096


class BalloonDevice:
    """Asks for `wanted` bytes, of the first `end` bytes of the guest's memory.

    `given` gets the GPAs of pages that have come in, and returns how many frames the host has got back for them.
    """

    kind, features, queue_count = BALLOON, 0, 2

    def __init__(self, wanted: int, end: int, given: Callable[[Sequence[int]], int]) -> None:
        self.wanted = wanted >> PAGE_SHIFT  #: pages
        self._end, self._given = end >> PAGE_SHIFT, given
        self._inside: set[int] = set()
        self.frames_returned = 0

    @property
    def pages(self) -> int:
        """How many pages are in it."""
        return len(self._inside)

    @property
    def config(self) -> bytes:
        """How many pages are wanted, and are there."""
        return _CONFIG.pack(self.wanted, self.pages)

    def serve(self, queue: int, chain: Chain) -> int:
        """Take pages in, or let them out. Raises DriverError for a list that is no such list, or names no page."""
        length = chain.readable_bytes
        if length % _NUMBER.size or length > _MOST * _NUMBER.size:
            raise DriverError(f"a list of pages for the balloon has {length:#x} bytes")
        numbers = [number for (number,) in _NUMBER.iter_unpack(chain.read(0, length))]
        outside = next((number for number in numbers if number >= self._end), None)
        if outside is not None:
            raise DriverError(f"page {outside:#x} for the balloon is none of the guest's {self._end:#x}")
        if queue == _INFLATE:
            self._inside.update(numbers)
            self.frames_returned += self._given([number << PAGE_SHIFT for number in numbers])
        else:
            self._inside.difference_update(numbers)
        return 0
