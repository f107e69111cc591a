"""An image as commands use it: memory, what its registers say, and one line about where it comes from."""

import mmap
import os
from dataclasses import dataclass, field

from quire.errors import FormatError, MisuseError
from quire.paging import Context
from quire.state.images.lime import LIME_MAGIC, lime_ranges
from quire.state.images.memory import ImageMemory
from quire.state.images.processor import ProcessorState

__all__ = ["Image", "open_image"]

_UNREAD = {
    b"AVML": "an AVML image: make it a LiME one with avml-convert",
    b"KDUM": "a kdump-compressed core: make it an ELF one, dump-guest-memory without -z, -l and -s",
}
_ADDRESS_END = 1 << 52


@dataclass(frozen=True, slots=True)
class Image:
    """Memory of a machine. `settings` are what the source says of a walk's context; `profile` may name one.

    `title` is a few words for people. `whole` says that what is not in `memory` does not exist: an address beyond it
    is outside memory, while a description of tables leaves the pages out.
    """

    memory: ImageMemory
    title: str
    settings: dict[Context, int] = field(default_factory=dict)
    processors: tuple[ProcessorState, ...] = ()
    profile: str | None = None
    whole: bool = True
    given: frozenset[int] | None = (
        None  #: addresses of the entries that a description gives; None for an image
    )


def open_image(path: str, *, base: int | None = None, vcpu: int = 0) -> Image:
    """Map the image at `path`; a raw one begins at physical address `base`, by default 0.

    `vcpu` chooses whose registers count, from 0. Raises FormatError for a file that is no image, MisuseError for a
    `base` or a `vcpu` that the file does not go with, OSError when it cannot be read.
    """
    content = _map(path)
    magic = bytes(content[:4])
    if magic in _UNREAD:
        raise FormatError(f"{path} is {_UNREAD[magic]}")
    is_core = magic == b"\x7fELF"
    if base is not None and (is_core or magic == LIME_MAGIC):
        raise MisuseError(
            f"{path} says itself where its memory lies: leave --base {base:#x} out, it is for raw images"
        )
    try:
        if is_core:
            return _open_core(content, vcpu)
        if vcpu:
            raise MisuseError(f"{path} has no registers, so there is no vCPU {vcpu}: leave --vcpu out")
        if magic == LIME_MAGIC:
            memory = ImageMemory(lime_ranges(content))
            return Image(memory, f"LiME image, {_ranges(memory)}")
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    return _open_raw(content, base or 0)


def _open_raw(content: memoryview, base: int) -> Image:
    if base + len(content) > _ADDRESS_END:
        raise MisuseError(
            f"A raw image of {len(content):#x} bytes at {base:#x} ends beyond 52 address bits: give a lower --base"
        )
    return Image(ImageMemory([(base, content)]), f"raw image, {len(content):#x} bytes at {base:#x}")


def _open_core(content: memoryview, vcpu: int) -> Image:
    # Imported here: pyelftools would cost every other image 30 ms.
    from quire.state.images.elf_core import core_eptp, core_processors, core_ranges

    memory = ImageMemory(core_ranges(content))
    processors = tuple(core_processors(content))
    if vcpu and vcpu >= len(processors):
        raise MisuseError(
            f"There is no vCPU {vcpu}: the core has the registers of {len(processors)}, counted from 0"
        )
    settings = processors[vcpu].settings() if processors else {}
    eptp = core_eptp(content)
    if eptp is not None:
        settings[Context.EPTP] = eptp
    whose = f"registers of vCPU {vcpu}" if processors else "no registers"
    return Image(memory, f"ELF core, {_ranges(memory)}, {whose}", settings, processors)


def _ranges(memory: ImageMemory) -> str:
    ranges = memory.ranges
    total = sum(length for _, length in ranges)
    return f"{total:#x} bytes in {len(ranges)} range{'s' * (len(ranges) != 1)}"


def _map(path: str) -> memoryview:
    """Return the file as mapped memory: only what is read is loaded."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise FormatError(
                f"{path} is empty or no regular file: an image must be a file that can be mapped"
            )
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
