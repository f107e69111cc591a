"""Sealed regions: there and back, files that differ, and every file that is not what it should be."""

from __future__ import annotations

import io
import sys

import pytest

from quire.errors import BackendError, FormatError, MisuseError
from quire.memory import FRAME_SIZE, HostMemory, OwnerKind, Pool
from quire.memory.secure import Rights, SecurePool, seal, unseal

KEY = bytes(range(64))
SALT = bytes(range(100, 116))
PAGES_AT = 40 + 32


def says(call, error=FormatError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


@pytest.fixture
def secure():
    with HostMemory(64 * FRAME_SIZE) as host:
        pool = Pool(0, 64, host)
        with SecurePool(host, pool) as made:
            yield made
        assert pool.frames_of(OwnerKind.FREE) == 64


def sealed(secure, salt=SALT, rights="rw-"):
    region = secure.secure_alloc(2)
    with region.open(write=True) as view:
        view[:] = b"secret!!" * (2 * FRAME_SIZE // 8)
    region.allow(Rights.parse(rights))
    file = io.BytesIO()
    seal(region, file, KEY, salt)
    secure.free(region)
    return file.getvalue()


def test_there_and_back(secure):
    content = sealed(secure, rights="r-x")
    assert len(content) == PAGES_AT + 2 * FRAME_SIZE + 32 and b"secret" not in content
    region = unseal(io.BytesIO(content), KEY, secure)
    assert region.rights == Rights(execute=True)
    with region.open() as view:
        assert bytes(view) == b"secret!!" * (2 * FRAME_SIZE // 8)


def test_equal_contents_are_not_seen_to_be_equal(secure):
    one, same, other = sealed(secure), sealed(secure), sealed(secure, bytes(16))
    assert one == same
    pages = [
        content[PAGES_AT + page * FRAME_SIZE :][:FRAME_SIZE] for content in (one, other) for page in range(2)
    ]
    assert len(set(pages)) == 4


def test_it_is_the_published_cipher(secure):
    """IEEE 1619-2007, annex B, vector 10: AES-256-XTS, data unit 0xff."""
    from quire.memory.secure.sealing import _Ciphers

    key = bytes.fromhex(
        "2718281828459045235360287471352662497757247093699959574966967627"
        "3141592653589793238462643383279502884197169399375105820974944592"
    )
    ciphers = _Ciphers(key, (0xFF).to_bytes(16, "little"))
    plain = bytes(range(256)) * 2
    found = ciphers.encrypt(0, memoryview(plain))
    assert found[:32].hex() == "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
    assert ciphers.decrypt(0, memoryview(found)) == plain


def test_every_length_of_a_truncated_file(secure):
    content = sealed(secure)
    for length in (*range(8, PAGES_AT + 2), PAGES_AT + FRAME_SIZE, len(content) - 1, len(content) - 32):
        assert says(lambda length=length: unseal(io.BytesIO(content[:length]), KEY, secure)) == (
            "the sealed region is truncated: its file ends before its pages do"
        )
        assert not secure.regions


def test_every_altered_part(secure):
    content = sealed(secure)
    header = "the sealed region was sealed with another key, or its header was altered"
    pages = "the sealed region was altered: its authentication code does not fit its pages"
    version = "the sealed region has version 0, this Quire reads 1: seal it again"
    foreign = "this is no sealed region: it begins with b'PUIRSEAL', not b'QUIRSEAL'"
    for at, message in (
        *((0, foreign), (8, version), (12, header), (16, header), (24, header), (39, header), (40, header)),
        *(
            (PAGES_AT - 1, header),
            (PAGES_AT, pages),
            (PAGES_AT + FRAME_SIZE, pages),
            (-33, pages),
            (-1, pages),
        ),
    ):
        altered = bytearray(content)
        altered[at] ^= 1
        assert says(lambda altered=altered: unseal(io.BytesIO(altered), KEY, secure)) == message
        assert not secure.regions
    assert says(lambda: unseal(io.BytesIO(content), KEY[::-1], secure)) == header
    assert says(lambda: unseal(io.BytesIO(b""), KEY, secure)) == (
        "this is no sealed region: it begins with b'', not b'QUIRSEAL'"
    )


def test_misuse(secure):
    region = secure.secure_alloc(1)
    assert says(lambda: seal(region, io.BytesIO(), KEY[:32], SALT), MisuseError) == (
        "cannot seal with a key of 32 bytes and a salt of 16: give 64 and 16 random bytes"
    )
    assert says(lambda: seal(region, io.BytesIO(), KEY[:32] * 2, SALT), MisuseError) == (
        "cannot seal with a key of two equal halves: AES-XTS forbids it; give 64 random bytes"
    )
    region.allow(Rights.parse("-w-"))
    assert says(lambda: seal(region, io.BytesIO(), KEY, SALT), MisuseError).endswith(
        "change them with allow()"
    )


def test_without_the_package(secure, monkeypatch):
    region = secure.secure_alloc(1)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    assert says(lambda: seal(region, io.BytesIO(), KEY, SALT), BackendError) == (
        "sealing needs the package 'cryptography', which is not installed: pip install 'quire-vm[secure]'"
    )
