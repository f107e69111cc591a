"""The file of one module's compiled kernels: machine code, where each begins, and what it calls by name.

A first line, a hash of all that follows, a header (JSON) and the code. Code is laid out when it is made, so that a
loader only adds: to the words at `inner` the address of the code, to those at the places of `symbols` the symbol's.
"""

import hashlib
import json
import struct
from typing import NamedTuple

__all__ = ["Image", "ImageError"]

_MAGIC = b"quire kernels 1\n"
_LENGTH = struct.Struct("<I")
_HASH_SIZE = 32


class ImageError(Exception):
    """A file is no image, or not as it was written."""


class Image(NamedTuple):
    """What is stored of `module`: made from `sources` (their hash) for `processor`."""

    module: str
    sources: str
    processor: str
    entries: dict[str, int]  #: where the function of a name begins
    inner: list[int]
    symbols: dict[str, list[int]]
    code: bytes

    def encode(self) -> bytes:
        """Return the file's content."""
        header = json.dumps(
            self._replace(code=b"")._asdict() | {"code": len(self.code)}, sort_keys=True
        ).encode()
        content = _LENGTH.pack(len(header)) + header + self.code
        return _MAGIC + hashlib.sha256(content).digest() + content

    @classmethod
    def decode(cls, file: bytes) -> "Image":
        """Return what `file` holds; ImageError if that is not what was written."""
        start = len(_MAGIC) + _HASH_SIZE
        content = memoryview(file)[start:]
        if not file.startswith(_MAGIC) or len(content) < _LENGTH.size:
            raise ImageError("it is no file of compiled kernels of this version")
        if hashlib.sha256(content).digest() != file[len(_MAGIC) : start]:
            raise ImageError("its bytes are not those that were written")
        (length,) = _LENGTH.unpack_from(content)
        fields = json.loads(bytes(content[_LENGTH.size : _LENGTH.size + length]))
        return cls(**fields | {"code": bytes(content[_LENGTH.size + length :])})
