"""The initial stack: parsed back as the C library parses it."""

from __future__ import annotations

import struct

import pytest

from quire.guest.load.launch import LaunchError
from quire.guest.load.stack import AuxValues, build_stack

TOP = 0x7FFFFFFFF000
AUX = AuxValues(0x400040, 56, 9, 0x7F0000000000, 0x401000, 1, 2, 3, 4, 0x178BFBFF, 1104)


def parse(image):
    def text(address):
        at = address - image.rsp
        return image.data[at : image.data.index(b"\0", at)]

    words = [word for (word,) in struct.iter_unpack("<Q", image.data[: len(image.data) // 8 * 8])]
    argc = words[0]
    argv = [text(a) for a in words[1 : 1 + argc]]
    assert words[1 + argc] == 0
    at = 2 + argc
    envp = []
    while words[at]:
        envp.append(text(words[at]))
        at += 1
    pairs = list(zip(words[at + 1 :: 2], words[at + 2 :: 2], strict=False))
    aux = dict(pairs[: pairs.index((0, 0)) + 1])
    return argv, envp, aux, text


@pytest.mark.parametrize("count", range(5))
def test_round_trip(count):
    argv, envp = [b"prog", *[b"a" * n for n in range(count)]], [b"A=1", b"EMPTY="]
    image = build_stack(TOP, argv, envp, b"/bin/prog", AUX, b"0123456789abcdef", 8 << 20)
    assert image.rsp % 16 == 0 and image.rsp + len(image.data) == TOP
    got_argv, got_envp, aux, text = parse(image)
    assert (got_argv, got_envp) == (argv, envp)
    assert text(aux[31]) == b"/bin/prog" and text(aux[15]) == b"x86_64"
    assert aux[25] % 16 == 0 and image.data[aux[25] - image.rsp :][:16] == b"0123456789abcdef"
    plain = {
        3: 0x400040,
        4: 56,
        5: 9,
        6: 4096,
        7: 0x7F0000000000,
        8: 0,
        9: 0x401000,
        11: 1,
        12: 2,
        13: 3,
        14: 4,
        16: 0x178BFBFF,
        17: 100,
        23: 0,
        26: 0,
        51: 1104,
    }
    assert {key: aux[key] for key in plain} == plain and 33 not in aux
    assert image.data[-8:] == bytes(8) and image.data.endswith(b"/bin/prog\0" + bytes(8))


def test_limits():
    with pytest.raises(LaunchError) as caught:
        build_stack(TOP, [b"x" * 131072], [], b"x", AUX, bytes(16), 8 << 20)
    assert caught.value.status == 126
    assert str(caught.value) == (
        "argument list too long: a string has 131073 bytes, the limit is 131072: shorten it"
    )
    with pytest.raises(LaunchError) as caught:
        build_stack(TOP, [b"x" * 1000] * 3000, [], b"x", AUX, bytes(16), 8 << 20)
    assert str(caught.value) == (
        "argument list too long: arguments and environment have 3027000 bytes, "
        "the limit is 2097152: pass less"
    )
