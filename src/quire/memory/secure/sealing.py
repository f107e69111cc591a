"""Sealed regions: a region in a file, encrypted with AES-256-XTS and authenticated with keyed BLAKE2b.

Models: IEEE 1619 XTS with 4 KiB data units. The tweak of page n is the file's random salt, a 128-bit little-endian
number, plus n: files of equal contents differ, and so do equal pages. XTS does not authenticate, so a code over
header and pages ends the file. Keys are 64 bytes and never stored. Does not model: where keys come from. Fails:
FormatError for a file that is foreign, truncated, altered or sealed with another key; MissingPackageError without the
package `cryptography`.

The file: magic "QUIRSEAL", version (4 bytes), rights (4: 1 read, 2 write, 4 execute), pages (8), salt (16), a code of
the header (32), the pages encrypted, a code of all before (32). Little-endian.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Any, BinaryIO, Final

from quire.errors import FormatError, MissingPackageError, MisuseError
from quire.memory.host import FRAME_SIZE
from quire.memory.secure.pool import MAX_PAGES, Lock, SecurePool
from quire.memory.secure.region import Initial, SecureRegion
from quire.memory.secure.rights import Rights

MAGIC: Final = b"QUIRSEAL"
VERSION: Final = 1
KEY_BYTES: Final = 64
CODE_BYTES: Final = 32
SALT_BYTES: Final = 16
_HEADER: Final = struct.Struct("<8sIIQ16s")
_READ, _WRITE, _EXECUTE = 1, 2, 4
_TWEAKS: Final = 1 << 128


def seal(region: SecureRegion, file: BinaryIO, key: bytes, salt: bytes) -> None:
    """Write a region to `file` with a 64-byte `key`; `salt` is 16 random bytes (``SecurePool.random(16)``).

    The region is opened for reading: MisuseError and Tampered as ``SecureRegion.open``. OSError of the file.
    """
    ciphers = _Ciphers(key, salt)
    rights = region.rights
    policy = _READ * rights.read | _WRITE * rights.write | _EXECUTE * rights.execute
    header = _HEADER.pack(MAGIC, VERSION, policy, region.pages, salt)
    code = ciphers.code()
    with region.open() as view:
        for part in (header, ciphers.header_code(header)):
            code.update(part)
            file.write(part)
        for page in range(region.pages):
            sealed = ciphers.encrypt(page, view[page * FRAME_SIZE : (page + 1) * FRAME_SIZE])
            code.update(sealed)
            file.write(sealed)
    file.write(code.digest())


def unseal(file: BinaryIO, key: bytes, pool: SecurePool, *, lock: Lock = "must") -> SecureRegion:
    """Read a region that ``seal`` wrote into a new one of `pool`, with the rights that it had.

    FormatError says what is wrong with the file; then nothing is allocated. `lock` as for ``secure_alloc``.
    """
    header = file.read(_HEADER.size)
    if header[: len(MAGIC)] != MAGIC:
        raise FormatError(f"this is no sealed region: it begins with {header[: len(MAGIC)]!r}, not {MAGIC!r}")
    if len(header) < _HEADER.size:
        raise _truncated()
    _, version, policy, pages, salt = _HEADER.unpack(header)
    if version != VERSION:
        raise FormatError(
            f"the sealed region has version {version}, this Quire reads {VERSION}: seal it again"
        )
    ciphers = _Ciphers(key, salt)
    header_code = file.read(CODE_BYTES)
    if len(header_code) < CODE_BYTES:
        raise _truncated()
    if not hmac.compare_digest(header_code, ciphers.header_code(header)):
        raise FormatError("the sealed region was sealed with another key, or its header was altered")
    if not 1 <= pages <= MAX_PAGES:
        raise FormatError(f"the sealed region claims {pages:#x} pages: a region has 0x1 to {MAX_PAGES:#x}")
    region = pool.secure_alloc(pages, fill=Initial.ZERO, lock=lock)
    try:
        _read_pages(file, ciphers, region, header + header_code)
        region.allow(Rights(bool(policy & _READ), bool(policy & _WRITE), bool(policy & _EXECUTE)))
    except BaseException:
        pool.free(region)
        raise
    return region


# Encrypted pages go into the region; only when all of them are authentic they are decrypted, in place.
def _read_pages(file: BinaryIO, ciphers: _Ciphers, region: SecureRegion, before: bytes) -> None:
    code = ciphers.code()
    code.update(before)
    with region.open(write=True) as view:
        for page in range(region.pages):
            sealed = file.read(FRAME_SIZE)
            if len(sealed) < FRAME_SIZE:
                raise _truncated()
            code.update(sealed)
            view[page * FRAME_SIZE : (page + 1) * FRAME_SIZE] = sealed
        stored = file.read(CODE_BYTES)
        if len(stored) < CODE_BYTES:
            raise _truncated()
        if not hmac.compare_digest(stored, code.digest()):
            raise FormatError("the sealed region was altered: its authentication code does not fit its pages")
        for page in range(region.pages):
            piece = view[page * FRAME_SIZE : (page + 1) * FRAME_SIZE]
            piece[:] = ciphers.decrypt(page, piece)
            piece.release()


class _Ciphers:
    """What one file is encrypted and authenticated with."""

    def __init__(self, key: bytes, salt: bytes) -> None:
        if len(key) != KEY_BYTES or len(salt) != SALT_BYTES:
            raise MisuseError(
                f"cannot seal with a key of {len(key)} bytes and a salt of {len(salt)}: "
                f"give {KEY_BYTES} and {SALT_BYTES} random bytes"
            )
        if key[: KEY_BYTES // 2] == key[KEY_BYTES // 2 :]:
            raise MisuseError(
                "cannot seal with a key of two equal halves: AES-XTS forbids it; give 64 random bytes"
            )
        self._key, self._salt = key, int.from_bytes(salt, "little")
        self._code_key = hashlib.blake2b(key=key, digest_size=CODE_BYTES, person=b"quire seal code").digest()
        self._modules = _cryptography()

    def code(self) -> hashlib.blake2b:
        """Return the code of a whole file, to be updated with it."""
        return hashlib.blake2b(key=self._code_key, digest_size=CODE_BYTES, person=b"quire seal file")

    def header_code(self, header: bytes) -> bytes:
        """Return the code of a header alone: a wrong key is found before anything is allocated."""
        return hashlib.blake2b(
            header, key=self._code_key, digest_size=CODE_BYTES, person=b"quire seal head"
        ).digest()

    def encrypt(self, page: int, plain: memoryview) -> bytes:
        """Return one page encrypted."""
        return bytes(self._cipher(page).encryptor().update(plain))

    def decrypt(self, page: int, sealed: memoryview) -> bytes:
        """Return one page decrypted."""
        return bytes(self._cipher(page).decryptor().update(sealed))

    def _cipher(self, page: int) -> Any:
        ciphers = self._modules
        tweak = ((self._salt + page) % _TWEAKS).to_bytes(16, "little")
        return ciphers.Cipher(ciphers.algorithms.AES(self._key), ciphers.modes.XTS(tweak))


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives import ciphers
    except ImportError as error:
        raise MissingPackageError("sealing", "cryptography") from error
    return ciphers


def _truncated() -> FormatError:
    return FormatError("the sealed region is truncated: its file ends before its pages do")
