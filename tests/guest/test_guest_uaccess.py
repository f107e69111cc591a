"""User memory: bytes in and out across pages, and every address that a guest may not name."""

from __future__ import annotations

import random
import struct

import pytest
from guest_fakes import K4, FakeMachine

from quire.arch import Access
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.linux import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from quire.guest.mm.uaccess import BadAddress, UserMemory

AT = 0x10_0000_0000


@pytest.fixture
def memory():
    machine = FakeMachine(64)
    space = AddressSpace(machine, random.Random(0))
    space.mmap(AT, 3 * K4, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    space.mmap(AT + 3 * K4, K4, 1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    return UserMemory(machine, space)


def test_across_pages(memory):
    data = random.Random(1).randbytes(2 * K4)
    memory.write(AT + 100, data)
    assert memory.read(AT + 100, len(data)) == data
    assert [len(view) for view in memory.views(AT + 100, 2 * K4, Access.READ)] == [K4 - 100, K4, 100]
    assert memory.read(AT, 0) == b"" and list(memory.views(5, 0, Access.READ)) == []


def test_numbers(memory):
    memory.write_u64(AT + K4 - 3, -2)
    assert memory.read_u64(AT + K4 - 3) == (1 << 64) - 2
    assert memory.read_u32(AT + K4 - 3) == 0xFFFFFFFE and memory.read_i32(AT + K4 - 3) == -2
    memory.write_u32(AT, 1 << 32 | 7)
    assert memory.read_u64(AT) == 7


def test_strings(memory):
    memory.write(AT + K4 - 2, b"hello\0")
    assert memory.read_cstring(AT + K4 - 2) == b"hello"
    memory.write(AT + 3 * K4 - 3, b"end")
    assert memory.read_cstring(AT + 3 * K4 - 3) == b"end"
    with pytest.raises(OSError) as caught:
        memory.read_cstring(AT + K4 - 2, 5)
    assert caught.value.errno == 36
    assert memory.read_cstring(AT + K4 - 2, 6) == b"hello"


def test_string_that_ends_before_a_hole(memory):
    memory.write(AT + 2 * K4, b"x" * K4)
    assert memory.read_cstring(AT + 3 * K4 - 1) == b"x"
    for address in (AT + 4 * K4 - 1, AT + 4 * K4, 0, 1 << 47, (1 << 64) - 1):
        if address == AT + 4 * K4 - 1:
            assert memory.read_cstring(address) == b""
        else:
            with pytest.raises(BadAddress):
                memory.read_cstring(address)


@pytest.mark.parametrize(
    ("address", "length"),
    [
        (0, 1),
        (AT - 1, 2),
        (AT + 4 * K4 - 1, 2),
        ((1 << 47) - 1, 2),
        (1 << 63, 8),
        ((1 << 64) - 4, 8),
        (AT, 1 << 60),
        (AT, -1),
        (-1, 1),
    ],
)
def test_bad_addresses(memory, address, length):
    with pytest.raises(BadAddress):
        memory.read(address, length)
    with pytest.raises(BadAddress):
        list(memory.views(address, length, Access.WRITE))


def test_read_only(memory):
    with pytest.raises(BadAddress) as caught:
        memory.write(AT + 3 * K4 - 1, b"ab")
    assert caught.value.gva == AT + 3 * K4 and caught.value.signal.code == 2
    assert str(caught.value) == "user address 0x1000003000 cannot be accessed: the system call returns EFAULT"
    assert memory.read(AT + 3 * K4 - 1, 2) == b"a\0"


def test_iovec(memory):
    memory.write(AT, struct.pack("<4Q", 1, 2, 3, (1 << 63) - 3))
    assert memory.read_iovec(AT, 2) == [(1, 2), (3, (1 << 63) - 3)]
    for count in (1025, -1):
        with pytest.raises(OSError) as caught:
            memory.read_iovec(AT, count)
        assert caught.value.errno == 22
    assert memory.read_iovec(0, 0) == []
    with pytest.raises(BadAddress):
        memory.read_iovec(AT + 4 * K4 - 16, 2)
