"""The block device against a model of its disk; what it refuses, and by which status."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtio_driver import NEEDS_RESET, driven

from quire.devices.virtio import BlockDevice, DiskMode, open_disk
from quire.devices.virtio.block import BLOCK_FEATURES, BlockStatus, Request
from quire.devices.virtio.registers import Register

SECTORS = 40
OK, IOERR, UNSUPP = (bytes((one,)) for one in BlockStatus)
LIMITS, RANGES = 1 << 13, 4


def contents() -> bytes:
    return b"".join(bytes((number,)) * 512 for number in range(1, SECTORS + 1))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(contents())
    return path


@pytest.fixture(params=list(DiskMode), ids=lambda mode: mode.name)
def disk(request, image):
    made = open_disk(str(image), request.param)
    yield made
    made.close()


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def ranges(*lines: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("<QII", *line) for line in lines)


class Model:
    """What a disk answers, by the rules of VIRTIO §5.2.6 on a plain array."""

    def __init__(self, writable: bool) -> None:
        self.data, self.writable = bytearray(contents()), writable

    def read(self, sector: int, length: int) -> bytes:
        if length % 512 or sector * 512 + length > len(self.data):
            return bytes(length) + IOERR
        return bytes(self.data[sector * 512 : sector * 512 + length]) + OK

    def write(self, sector: int, data: bytes) -> bytes:
        at = sector * 512
        if not self.writable or len(data) % 512 or at + len(data) > len(self.data):
            return IOERR
        self.data[at : at + len(data)] = data
        return OK


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, SECTORS + 2), st.sampled_from([0, 512, 1024, 5120, 100])),
        st.tuples(
            st.just("write"),
            st.integers(0, SECTORS + 2),
            st.tuples(st.integers(1, 255), st.sampled_from([0, 512, 1536, 4096, 8192, 511])),
        ),
        st.tuples(st.just("zero"), st.integers(0, SECTORS + 2), st.integers(0, 20)),
        st.tuples(st.just("discard"), st.integers(0, SECTORS + 2), st.integers(0, 20)),
        st.tuples(st.just("flush"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@pytest.mark.parametrize("mode", list(DiskMode), ids=lambda mode: mode.name)
@given(steps=STEPS, pieces=st.lists(st.integers(1, 600), min_size=1, max_size=4), table=st.booleans())
def test_any_requests_answer_as_the_model(tmp_path_factory, mode, steps, pieces, table):
    path = tmp_path_factory.mktemp("disk") / "image"
    path.write_bytes(contents())
    disk = open_disk(str(path), mode)
    driver, model = driven(BlockDevice(disk)), Model(mode is not DiskMode.READ_ONLY)
    for step, sector, what in steps:
        if step == "read":
            cut = _cut(what + 1, pieces)
            assert driver.request([header(0, sector)], cut, table=table) == model.read(sector, what)
        elif step == "write":
            data = bytes((what[0],)) * what[1]
            assert driver.request([header(1, sector), data], [1], table=table) == model.write(sector, data)
        elif step == "flush":
            assert driver.request([header(4)], [1]) == OK
        else:
            kind = Request.WRITE_ZEROES if step == "zero" else Request.DISCARD
            expected = model.write(sector, bytes(512 * what))
            assert driver.request([header(kind), ranges((sector, what, 0))], [1], table=table) == expected
    whole = b"".join(disk.read(at * 512, 512) for at in range(SECTORS))
    disk.close()
    assert whole == model.data
    assert path.read_bytes() == (model.data if mode is DiskMode.WRITABLE else contents())


def _cut(length: int, pieces: list[int]) -> list[int]:
    """Cut so many bytes into a few buffers."""
    found: list[int] = []
    for piece in pieces:
        if length > piece:
            found.append(piece)
            length -= piece
    return [*found, length]


def test_what_the_driver_reads_of_it(disk):
    driver = driven(BlockDevice(disk))
    config = b"".join(driver.get(0x100 + at).to_bytes(4, "little") for at in range(0, 60, 4))
    fields = struct.unpack("<QII4sI8sBBHIIIIIB3s", config)
    assert fields[:3] == (SECTORS, 1 << 17, 126) and fields[4] == 512
    assert fields[9:15] == (LIMITS, RANGES, 1, LIMITS, RANGES, 1)
    assert fields[1] * fields[2] + 17 <= 16 << 20  # the largest request fits into a chain
    assert LIMITS * RANGES * 512 <= 16 << 20
    driver.set(Register.DEVICE_FEATURES_SELECT, 0)
    offered = BLOCK_FEATURES.decode(driver.get(Register.DEVICE_FEATURES) & 0xFFFFFF)
    writable = disk.mode is not DiskMode.READ_ONLY
    assert {name for name, value in offered.items() if value} == {
        "SIZE_MAX",
        "SEG_MAX",
        "BLK_SIZE",
        "FLUSH",
        *(("DISCARD", "WRITE_ZEROES") if writable else ("RO",)),
    }


@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        ([header(1, SECTORS), bytes(512)], IOERR),
        ([header(1, SECTORS - 1), bytes(1024)], IOERR),
        ([header(1, (1 << 64) - 1), bytes(512)], IOERR),
        ([header(1, 0), bytes(511)], IOERR),
        ([header(2)], UNSUPP),
        ([header(10)], UNSUPP),
        ([header(14), ranges((0, 1, 0))], UNSUPP),
        ([header(0xFFFFFFFF)], UNSUPP),
        ([header(13), ranges((0, 1, 2))], UNSUPP),
        ([header(13), ranges((0, 1, 1))], OK),
        ([header(11), ranges((0, 1, 1))], UNSUPP),
        ([header(11), ranges((0, LIMITS + 1, 0))], IOERR),
        ([header(13), ranges((0, 1, 0), (SECTORS, 1, 0))], IOERR),
        ([header(13), ranges(*[(0, 1, 0)] * (RANGES + 1))], IOERR),
        ([header(13), bytes(15)], IOERR),
        ([header(13), b""], OK),
    ],
)
def test_requests_and_their_statuses(image, request_of, status):
    disk = open_disk(str(image), DiskMode.TEMPORARY)
    device = BlockDevice(disk)
    driver = driven(device)
    assert driver.request(request_of, [600, 1])[-1:] == status
    assert driver.used()[1][0] == (0, 601 if status == OK else 1)
    if status != OK:
        assert device.sectors_written == 0
        assert disk.read(0, SECTORS * 512) == contents()
    disk.close()


def test_who_it_is(disk):
    assert driven(BlockDevice(disk)).request([header(8)], [20, 1]) == b"disk.img".ljust(20, b"\0") + OK
    assert driven(BlockDevice(disk)).request([header(8)], [4, 1]) == b"disk" + OK


def test_it_counts_what_was_carried_out(image):
    disk = open_disk(str(image), DiskMode.WRITABLE)
    device = BlockDevice(disk)
    driver = driven(device)
    driver.request([header(0, 1)], [1024, 1])
    driver.request([header(0, SECTORS)], [1024, 1])
    driver.request([header(1, 1), bytes(1536)], [1])
    driver.request([header(13), ranges((0, 5, 0))], [1])
    driver.request([header(4)], [1])
    assert (device.sectors_read, device.sectors_written, device.flushes) == (2, 8, 1)
    disk.close()


@pytest.mark.parametrize(("readable", "writable"), [([header(0)[:15]], [1]), ([header(0)], []), ([], [1])])
def test_a_request_without_header_or_status(disk, readable, writable):
    driver = driven(BlockDevice(disk))
    driver.offer(readable, writable)
    driver.kick()
    assert driver.transport.trouble == "a request to a disk lacks its header or its status"
    assert driver.status & NEEDS_RESET


@pytest.mark.parametrize("kind", [Request.IN, Request.OUT, Request.FLUSH, Request.WRITE_ZEROES])
def test_an_error_of_the_host_is_the_requests(image, kind, monkeypatch):
    disk = open_disk(str(image), DiskMode.WRITABLE)

    def fails(*_):
        raise OSError(5, "Input/output error")

    for name in ("read", "write", "flush", "erase"):
        monkeypatch.setattr(disk, name, fails)
    device = BlockDevice(disk)
    data = {Request.OUT: bytes(512), Request.WRITE_ZEROES: ranges((0, 1, 0))}.get(kind, b"")
    writable = [512, 1] if kind is Request.IN else [1]
    assert driven(device).request([header(kind), data], writable)[-1:] == IOERR
    assert (device.sectors_read, device.sectors_written, device.flushes) == (0, 0, 0)
    disk.close()
