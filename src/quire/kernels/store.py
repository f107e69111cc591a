"""Finds stored code: in the package, where a wheel has it, and in the user's cache.

Contract: code is used only if it was made from the sources that are here, for a processor that this one is, and comes
from a file that nobody else can write.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

from quire.kernels.declared import called_from_without
from quire.kernels.image import Image, ImageError
from quire.kernels.layout import strange_layout
from quire.kernels.processor import LEAST, levels, missing_features
from quire.kernels.sources import fingerprint
from quire.kernels.trust import Untrusted, read_trusted

__all__ = ["PACKED", "Found", "cache_folder", "file_name", "find", "modules_with_code", "put", "unfit"]

_PACKAGE = Path(__file__).parent.parent
#: Where a wheel has its images.
PACKED = _PACKAGE / "kernels" / "stored"


class Found:
    """What was found of one module: its image and where, or why none is used."""

    def __init__(self, image: Image | None = None, path: str = "", doubts: tuple[str, ...] = ()) -> None:
        self.image, self.path, self.doubts = image, path, doubts


def find(module: str) -> Found:
    """Return the stored code of `module`, which has been imported, and which of its files are not used and why."""
    sources = fingerprint(module)
    doubts = []
    for level in levels():
        packed, made_here = f"{module}.{level}.image", f"{file_name(module)}.{level}.image"
        for path in (str(PACKED / packed), str(cache_folder() / made_here)):
            try:
                image = Image.decode(read_trusted(path))
            except FileNotFoundError:
                continue
            except (ImageError, Untrusted, OSError, ValueError, TypeError) as error:
                doubts.append(str(error) if path in str(error) else f"{path}: {error}")
                continue
            if (image.module, image.sources, image.processor) == (module, sources, level):
                return Found(image, path, tuple(doubts))
            doubts.append(f"{path} was made from other sources, or for another processor")
    return Found(doubts=tuple(doubts))


@cache
def unfit() -> str | None:
    """Return why no stored code can be used in this process; None if it can."""
    if (sys.platform, os.uname().machine) != ("linux", "x86_64"):
        return f"this is {sys.platform} on {os.uname().machine}: stored code is for x86-64 Linux"
    if sys.implementation.name != "cpython":
        return f"this Python is {sys.implementation.name}: stored code is for CPython"
    missing = missing_features()
    if missing:
        return f"the processor lacks {', '.join(sorted(missing))} of {LEAST}"
    strange = strange_layout()
    return (
        None if strange is None else f"arrays of this NumPy or Python are laid out in another way: {strange}"
    )


@cache
def cache_folder() -> Path:
    """Return the folder in which the user's own images are, wherever the process goes later."""
    named = os.environ.get("QUIRE_CACHE_DIR")
    if named:
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "quire").absolute()


def put(path: Path, data: bytes) -> None:
    """Write a file that only its owner may write, whole or not at all."""
    descriptor, made = tempfile.mkstemp(dir=path.parent)
    with open(descriptor, "wb") as file:
        file.write(data)
    os.replace(made, path)


def file_name(module: str) -> str:
    """Return how names in the cache of images of `module` begin, by its sources; a level follows."""
    return f"{module}-{fingerprint(module)[:16]}"


def modules_with_code() -> Iterator[str]:
    """Import all modules of kernels; yield those that are called from without, so that there is code to store."""
    for path in sorted(_PACKAGE.rglob("_kernels*.py")):
        name = ".".join(("quire", *path.relative_to(_PACKAGE).with_suffix("").parts))
        if called_from_without(import_module(name)):
            yield name
