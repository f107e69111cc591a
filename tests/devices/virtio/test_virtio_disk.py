"""The file behind a disk: who may have it, what becomes of changes, and what a power cut leaves."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtio_driver import driven

from quire.devices.virtio import BlockDevice, DiskMode, open_disk
from quire.devices.virtio import disk as room
from quire.devices.virtio.block import Request
from quire.errors import BackendError

SIZE = 5 * 4096 + 1024
TEMPORARY, READ_ONLY, WRITABLE = DiskMode.TEMPORARY, DiskMode.READ_ONLY, DiskMode.WRITABLE


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(number % 251 for number in range(SIZE)))
    return path


def said(name: object, mode: DiskMode) -> str:
    with pytest.raises(BackendError) as found:
        open_disk(str(name), mode)
    return str(found.value)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (TEMPORARY, READ_ONLY, True),
        (READ_ONLY, READ_ONLY, True),
        (TEMPORARY, WRITABLE, False),
        (WRITABLE, TEMPORARY, False),
        (WRITABLE, WRITABLE, False),
    ],
)
def test_who_writes_is_alone(image, first, second, shared):
    one = open_disk(str(image), first)
    if shared:
        open_disk(str(image), second).close()
    else:
        other = "has it" if second is WRITABLE else "may write it"
        assert said(image, second) == (
            f"the disk {image} is locked: another guest or program {other}; end it first"
        )
    one.close()
    open_disk(str(image), second).close()


def test_what_is_no_disk(tmp_path):
    assert (
        said(tmp_path / "none", READ_ONLY)
        == f"cannot open the disk {tmp_path}/none: No such file or directory"
    )
    assert said(tmp_path, TEMPORARY) == (
        f"the disk {tmp_path} is neither a file nor a block device: give one of these"
    )
    os.mkfifo(tmp_path / "pipe")
    assert said(tmp_path / "pipe", READ_ONLY) == (
        f"the disk {tmp_path}/pipe is neither a file nor a block device: give one of these"
    )
    (tmp_path / "small").write_bytes(bytes(511))
    assert said(tmp_path / "small", WRITABLE) == (
        f"the disk {tmp_path}/small has 511 bytes: give one of a sector, 512 bytes, or more"
    )


def test_a_disk_that_is_refused_leaves_no_descriptor(tmp_path):
    (tmp_path / "small").write_bytes(bytes(511))
    before = len(os.listdir("/proc/self/fd"))
    said(tmp_path / "small", WRITABLE)
    said(tmp_path, TEMPORARY)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_sector_that_is_not_whole_is_not_there(tmp_path):
    path = tmp_path / "odd"
    path.write_bytes(bytes(1300))
    disk = open_disk(str(path), WRITABLE)
    assert disk.sectors == 2
    disk.close()


def test_a_file_that_became_shorter_is_an_error(image):
    disk = open_disk(str(image), READ_ONLY)
    os.truncate(image, 4096)
    with pytest.raises(OSError, match="Input/output error"):
        disk.read(4000, 200)
    disk.close()


RANGES = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(
    lambda pair: (min(pair), abs(pair[1] - pair[0]))
)


@pytest.mark.parametrize("punches", [True, False])
@pytest.mark.parametrize("mode", [TEMPORARY, WRITABLE], ids=lambda mode: mode.name)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["write", "erase"]), RANGES, st.integers(1, 255)), max_size=12)
)
def test_bytes_are_those_of_an_array(tmp_path_factory, mode, punches, steps):
    path = tmp_path_factory.mktemp("disk") / "image"
    start = bytes(number % 251 for number in range(SIZE))
    path.write_bytes(start)
    disk, array = open_disk(str(path), mode), bytearray(start)
    with pytest.MonkeyPatch.context() as patch:
        if not punches:
            patch.setattr(room, "_fallocate", lambda *_: -1)
        for step, (at, length), value in steps:
            data = bytes(length) if step == "erase" else bytes((value,)) * length
            array[at : at + length] = data
            if step == "write":
                disk.write(at, data)
            elif length:
                disk.erase(at, length)
    assert disk.read(0, SIZE) == array
    assert [disk.read(at, 700) for at in range(0, SIZE - 700, 3500)] == [
        array[at : at + 700] for at in range(0, SIZE - 700, 3500)
    ]
    disk.close()
    assert path.read_bytes() == (array if mode is WRITABLE else start)


def test_changes_beside_a_large_file_take_little_room(tmp_path):
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    disk = open_disk(str(path), TEMPORARY)
    disk.write((1 << 40) - 512, b"x" * 512)
    disk.erase(1 << 30, 1 << 25)
    assert os.fstat(disk._changes._fd).st_blocks * 512 <= 1 << 16
    assert disk.read((1 << 40) - 1024, 1024) == bytes(512) + b"x" * 512
    disk.close()


class PowerCut(BaseException):
    """Everything ends here."""


class Host:
    """A host that keeps writes in a cache until a sync, and whose power fails after `left` of its calls."""

    def __init__(self, path: Path, left: int) -> None:
        self.durable = bytearray(path.read_bytes())
        self.cached: list[tuple[int, bytes]] = []
        self.left = left

    def step(self) -> None:
        if not self.left:
            raise PowerCut
        self.left -= 1

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self.step()
        done = max(len(data) // 2, 1)  # a host may write less than it was asked to
        self.cached.append((offset, bytes(data[:done])))
        return os.pwrite(fd, data[:done], offset)

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> int:
        self.step()
        self.cached.append((offset, bytes(length)))
        return 0 if os.pwrite(fd, bytes(length), offset) == length else -1

    def fdatasync(self, fd: int) -> None:
        del fd
        self.step()
        for at, data in self.cached:
            self.durable[at : at + len(data)] = data
        self.cached.clear()

    def left_behind(self, kept: int) -> bytes:
        """What the file has when power is back: of what was in the cache, any part."""
        found = bytearray(self.durable)
        for number, (at, data) in enumerate(self.cached):
            if kept >> number & 1:
                found[at : at + len(data)] = data
        return bytes(found)


class Calls:
    """The calls to the operating system that a disk makes, three of them to `host`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __getattr__(self, name: str) -> object:
        return getattr(self._host if name in ("pwrite", "fdatasync") else os, name)


OUT, ZERO, FLUSH = Request.OUT, Request.WRITE_ZEROES, Request.FLUSH
SECTORS = 6
REQUESTS = st.lists(
    st.one_of(
        st.tuples(st.just(OUT), st.integers(1, SECTORS - 1), st.integers(1, 255)),
        st.tuples(st.just(ZERO), st.integers(1, SECTORS - 1), st.just(0)),
        st.tuples(st.just(FLUSH), st.just(0), st.just(0)),
    ),
    min_size=1,
    max_size=15,
)


@given(requests=REQUESTS, cut=st.integers(0, 40), kept=st.integers(0, (1 << 40) - 1))
def test_a_power_cut_loses_nothing_that_was_flushed(tmp_path_factory, requests, cut, kept):
    path = tmp_path_factory.mktemp("disk") / "image"
    path.write_bytes(bytes(512 * SECTORS))
    host = Host(path, cut)
    disk = open_disk(str(path), WRITABLE)
    driver = driven(BlockDevice(disk))
    latest: dict[int, int] = {}
    flushed: dict[int, int] = {}
    since: dict[int, set[int]] = {}  # what else a sector may hold: what was sent after the flush
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "os", Calls(host))
        patch.setattr(room, "_fallocate", host.fallocate)
        try:
            for kind, sector, value in requests:
                if kind != FLUSH:
                    since.setdefault(sector, set()).add(value)
                body = {OUT: bytes((value,)) * 512, ZERO: struct.pack("<QII", sector, 1, 0), FLUSH: b""}[kind]
                assert driver.request([struct.pack("<IIQ", kind, 0, sector), body], [1]) == b"\0"
                latest[sector] = value
                if kind == FLUSH:
                    flushed, since = dict(latest), {}
        except PowerCut:
            pass
    disk.close()
    left = host.left_behind(kept)
    for sector in range(SECTORS):
        held = set(left[512 * sector : 512 * sector + 512])
        if sector in since:
            assert held <= since[sector] | {flushed.get(sector, 0)}
        else:
            assert held == {flushed.get(sector, 0)}
