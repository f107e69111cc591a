"""What an engine that records hands over of its guest: an element for each access, and one for each block."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError
from quire.vcpu import Cpu

__all__ = ["RECORDED", "EntryKind", "Recording", "record"]


class EntryKind(IntEnum):
    """What an element is of."""

    READ = 0
    WRITE = 1
    BLOCK = 2  #: begins; its accesses follow, as far as they were made


#: `linear` is an access's address, `place` that of its instruction, `size` its bytes, and `instructions` 0. Of a block
#: both are where it begins, `size` is that of its code, and `instructions` how many it has.
RECORDED: "np.dtype[Any]" = np.dtype(
    [
        ("linear", np.uint64),
        ("place", np.uint64),
        ("size", np.uint16),
        ("instructions", np.uint16),
        ("kind", np.uint8),
    ]
)


@runtime_checkable
class Recording(Protocol):
    """An engine that records all accesses of its guest."""

    def record(self, into: Callable[[npt.NDArray[np.void]], None]) -> bool:
        """Call `into` with what happened since, as RECORDED, whenever the engine stops. Return whether that can be."""
        ...


def record(cpu: Cpu, into: Callable[[npt.NDArray[np.void]], None]) -> None:
    """Have `cpu`, which has not run, call `into` with all accesses since, as RECORDED, whenever it stops.

    Raises MisuseError if it cannot.
    """
    if not isinstance(cpu, Recording) or not cpu.record(into):
        raise MisuseError(
            f"The {cpu.name} engine cannot record accesses here: 'quire doctor' says whether full detail is fast, "
            "which needs the same of Unicorn's library"
        )
