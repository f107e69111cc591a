"""The block device: sectors of a disk, read, written, flushed, discarded and zeroed by requests (VIRTIO §5.2).

What a driver asks for in vain gets a status: an error, or that there is no such request. Sectors have 512 bytes.
"""

import struct
from enum import IntEnum

from quire.arch.layout import Layout, bit, reserved
from quire.devices.virtio.chain import Chain
from quire.devices.virtio.disk import SECTOR, Disk, DiskMode
from quire.devices.virtio.driver_error import DriverError

__all__ = ["BLOCK", "BLOCK_FEATURES", "BlockDevice", "BlockStatus", "Request"]

#: Its device ID.
BLOCK = 2
#: Buffers of a request and bytes of each that the driver is to keep to: together less than a chain may have.
_BUFFERS, _BUFFER_BYTES = 126, 1 << 17
#: Ranges of a request to discard or zero, and sectors of each: together no more bytes than a request may write.
_RANGES, _RANGE_SECTORS = 4, 1 << 13
_HEADER, _RANGE = struct.Struct("<I4xQ"), struct.Struct("<QII")
_CONFIG = struct.Struct("<QII4xI8xB3x5IB3x")
_ID_BYTES = 20
_UNMAP = 1

BLOCK_FEATURES = Layout(
    "BLOCK_FEATURES",
    24,
    "VIRTIO §5.2.3",
    (
        reserved(0),
        bit(1, "SIZE_MAX", "a buffer has a greatest size"),
        bit(2, "SEG_MAX", "a request has a greatest number of buffers"),
        reserved(3, 4),
        bit(5, "RO", "read-only"),
        bit(6, "BLK_SIZE", "the size of a block is told"),
        reserved(7, 8),
        bit(9, "FLUSH", "what was written can be made to stay"),
        reserved(10, 12),
        bit(13, "DISCARD", "sectors can be given up"),
        bit(14, "WRITE_ZEROES", "sectors can be zeroed"),
        reserved(15, 23),
    ),
)


class Request(IntEnum):
    """What is asked for."""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    DISCARD = 11
    WRITE_ZEROES = 13


class BlockStatus(IntEnum):
    """What became of it: the last byte that the device writes."""

    OK = 0
    IOERR = 1
    UNSUPP = 2


class BlockDevice:
    """`disk` as a device. Counts sectors and flushes, of requests that were carried out."""

    kind, queue_count = BLOCK, 1

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        names = ["SIZE_MAX", "SEG_MAX", "BLK_SIZE", "FLUSH"]
        names += ["RO"] if disk.mode is DiskMode.READ_ONLY else ["DISCARD", "WRITE_ZEROES"]
        self.features = BLOCK_FEATURES.mask(*names)
        limits = (_RANGE_SECTORS, _RANGES, 1, _RANGE_SECTORS, _RANGES)
        self.config = _CONFIG.pack(disk.sectors, _BUFFER_BYTES, _BUFFERS, SECTOR, 1, *limits, 1)
        self.sectors_read = self.sectors_written = self.flushes = 0

    def serve(self, queue: int, chain: Chain) -> int:
        """Carry out the request of `chain`. Raises DriverError where it has no header or no room for a status."""
        del queue
        if chain.readable_bytes < _HEADER.size or not chain.writable_bytes:
            raise DriverError("a request to a disk lacks its header or its status")
        kind, sector = _HEADER.unpack(chain.read(0, _HEADER.size))
        try:
            status = self._answer(kind, sector, chain)
        except OSError:
            status = BlockStatus.IOERR
        chain.write(chain.writable_bytes - 1, bytes((status,)))
        return chain.writable_bytes if status is BlockStatus.OK else 1

    def _answer(self, kind: int, sector: int, chain: Chain) -> BlockStatus:
        if kind == Request.IN:
            return self._read(sector, chain)
        if kind == Request.FLUSH:
            self.disk.flush()
            self.flushes += 1
            return BlockStatus.OK
        if kind == Request.GET_ID:
            chain.write(0, self._identity()[: chain.writable_bytes - 1])
            return BlockStatus.OK
        if kind not in (Request.OUT, Request.DISCARD, Request.WRITE_ZEROES):
            return BlockStatus.UNSUPP
        if self.disk.mode is DiskMode.READ_ONLY:
            return BlockStatus.IOERR
        return self._write(sector, chain) if kind == Request.OUT else self._erase(kind, chain)

    def _holds(self, sector: int, count: int) -> bool:
        return sector + count <= self.disk.sectors

    def _read(self, sector: int, chain: Chain) -> BlockStatus:
        count, rest = divmod(chain.writable_bytes - 1, SECTOR)
        if rest or not self._holds(sector, count):
            return BlockStatus.IOERR
        chain.write(0, self.disk.read(sector * SECTOR, count * SECTOR))
        self.sectors_read += count
        return BlockStatus.OK

    def _write(self, sector: int, chain: Chain) -> BlockStatus:
        length = chain.readable_bytes - _HEADER.size
        count, rest = divmod(length, SECTOR)
        if rest or not self._holds(sector, count):
            return BlockStatus.IOERR
        self.disk.write(sector * SECTOR, chain.read(_HEADER.size, length))
        self.sectors_written += count
        return BlockStatus.OK

    def _erase(self, kind: int, chain: Chain) -> BlockStatus:
        """Zero ranges, also those that are discarded: what they read then is the device's to say."""
        length = chain.readable_bytes - _HEADER.size
        if length % _RANGE.size or length > _RANGES * _RANGE.size:
            return BlockStatus.IOERR
        ranges = list(_RANGE.iter_unpack(chain.read(_HEADER.size, length)))
        for _, _, flags in ranges:
            if flags & ~_UNMAP or (kind == Request.DISCARD and flags):
                return BlockStatus.UNSUPP
        if not all(count <= _RANGE_SECTORS and self._holds(sector, count) for sector, count, _ in ranges):
            return BlockStatus.IOERR
        for sector, count, _ in ranges:
            if count:
                self.disk.erase(sector * SECTOR, count * SECTOR)
            self.sectors_written += count
        return BlockStatus.OK

    def _identity(self) -> bytes:
        """Return the name that the guest sees: the end of the file's, in twenty bytes (VIRTIO §5.2.6)."""
        name = self.disk.name.rsplit("/", 1)[-1]
        return name.encode("utf-8", "replace")[-_ID_BYTES:].ljust(_ID_BYTES, b"\0")
