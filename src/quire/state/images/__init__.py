"""Images of physical memory: files that hold what a machine had, and descriptions of tables written by hand.

Contract: an image is mapped, never loaded; what its file says is checked against the file before it is used, and a
file that is not what its format promises is a FormatError with the offset. Addresses are guest-physical, or
host-physical in an image of a host. :func:`open_image` tells raw images, LiME and ELF cores apart by their first bytes;
:func:`read_tables` reads a TOML description; :func:`write_core` writes an ELF core that other tools read as well.
"""

from quire.state.images.core_writer import MemoryRange, write_core
from quire.state.images.image import Image, open_image
from quire.state.images.memory import ImageMemory
from quire.state.images.processor import ProcessorState
from quire.state.images.tables import read_tables

__all__ = ["Image", "ImageMemory", "MemoryRange", "ProcessorState", "open_image", "read_tables", "write_core"]
