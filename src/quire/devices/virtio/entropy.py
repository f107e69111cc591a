"""The entropy device: bytes of a seeded generator, so that a run is deterministic (VIRTIO §5.4)."""

import random

from quire.devices.virtio.chain import Chain

__all__ = ["ENTROPY", "EntropyDevice"]

#: Its device ID.
ENTROPY = 4
#: Bytes that a driver gets at a time: a device may give fewer than were asked for.
_MOST = 1 << 16


class EntropyDevice:
    """Fills buffers with what follows from `seed`; the stream goes on over resets."""

    kind, features, queue_count = ENTROPY, 0, 1
    config = b""

    def __init__(self, seed: int) -> None:
        self._generator = random.Random(seed)
        self.bytes_given = 0

    def serve(self, queue: int, chain: Chain) -> int:
        """Fill the buffers of `chain`. Raises NoMemory."""
        del queue
        data = self._generator.randbytes(min(chain.writable_bytes, _MOST))
        chain.write(0, data)
        self.bytes_given += len(data)
        return len(data)
