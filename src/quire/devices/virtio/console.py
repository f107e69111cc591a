"""The console device: one port, bytes both ways (VIRTIO §5.3).

What the guest sends is passed on at once; what is put in waits until the guest has a buffer for it. Linux offers
buffers before anybody can read from them, and drops what comes early: who has sent nothing so far does not listen yet.
"""

import struct
from collections.abc import Callable

from quire.devices.virtio.chain import Chain

__all__ = ["CONSOLE", "ConsoleDevice"]

#: Its device ID.
CONSOLE = 3
_RECEIVE = 0
#: Bytes that are passed on at a time.
_PIECE = 1 << 16


class ConsoleDevice:
    """Calls `sent` with each byte, and :attr:`arrived` with its queue when the guest can receive something."""

    kind, features, queue_count = CONSOLE, 0, 2
    config = struct.pack("<HHII", 0, 0, 1, 0)  # no size, one port

    def __init__(self, sent: Callable[[int], None]) -> None:
        self._sent = sent
        self.arrived: Callable[[int], None] = lambda queue: None
        self._input = bytearray()
        self._listens = self._has_sent = False

    @property
    def wants_input(self) -> bool:
        """Whether the guest listens, has a buffer that waits, and has received all that was put in."""
        return self._has_sent and self._listens and not self._input

    def put(self, data: bytes) -> None:
        """Let the guest receive `data`."""
        self._input += data
        self.arrived(_RECEIVE)

    def serve(self, queue: int, chain: Chain) -> int | None:
        """Pass on what the guest sends, or give it what was put in. Raises NoMemory."""
        if queue != _RECEIVE:
            self._has_sent = True
            for at in range(0, chain.readable_bytes, _PIECE):
                for byte in chain.read(at, _PIECE):
                    self._sent(byte)
            return 0
        self._listens = not self._input
        if self._listens:
            return None
        data = bytes(self._input[: chain.writable_bytes])
        chain.write(0, data)
        del self._input[: len(data)]
        return len(data)
