"""Events: interrupts and exceptions as delivery, VM entry and VM exit name them.

One value is what a processor delivers through the IDT, what VM entry injects, and what a VM exit reports as its
interruption or IDT-vectoring information (SDM 3C §24.8.3, SDM 3C §24.9.2, SDM 3C §24.9.3). Does not model
asynchronous details such as NMI unblocking due to IRET.
"""

from dataclasses import dataclass
from typing import Self

from quire.arch import INTERRUPTION_INFO, InterruptionType, Vector
from quire.errors import MisuseError

__all__ = ["Event"]

_VALID, _ERROR_VALID, _VECTOR, _TYPE = (
    INTERRUPTION_INFO.mask(name) for name in ("valid", "error_valid", "vector", "type")
)
_TYPE_SHIFT = INTERRUPTION_INFO.shift("type")
_TYPES = {kind << _TYPE_SHIFT: kind for kind in InterruptionType}
_SOFTWARE = (
    InterruptionType.SOFTWARE_INTERRUPT,
    InterruptionType.PRIVILEGED_SOFTWARE_EXCEPTION,
    InterruptionType.SOFTWARE_EXCEPTION,
)
_NOT_FAULTS = (Vector.DB, Vector.NMI, Vector.BP, Vector.OF, Vector.DF, Vector.MC)


@dataclass(frozen=True, slots=True)
class Event:
    """An interrupt or exception: `vector` 0 to 255, `error_code` 32 bits or None, `instruction_length` bytes.

    The length is that of the instruction that caused a software event: RIP is at it and the handler returns
    behind it. `injected` marks an event that VM entry delivers; it pushes RFLAGS as the VMCS holds it
    (SDM 3C §26.6.1.1). Raises MisuseError for a number that does not fit.
    """

    vector: int
    type: InterruptionType
    error_code: int | None = None
    instruction_length: int = 0
    injected: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.vector <= 0xFF:
            raise MisuseError(f"An event cannot have vector {self.vector:#x}: give one from 0x0 to 0xff")
        if self.error_code is not None and not 0 <= self.error_code < 1 << 32:
            raise MisuseError(
                f"Event {self.vector:#x}: error code {self.error_code:#x} does not fit in 32 bits: mask it first"
            )

    @classmethod
    def exception(cls, vector: int, error_code: int | None = None) -> "Event":
        """Return the hardware exception `vector`; `error_code` is None for one that has none."""
        event = _EXCEPTIONS.get((vector, error_code))
        if event is None:
            event = cls(vector, InterruptionType.HARDWARE_EXCEPTION, error_code)
            if len(_EXCEPTIONS) < _MOST_EXCEPTIONS:
                _EXCEPTIONS[vector, error_code] = event
        return event

    @classmethod
    def of(cls, information: int, error_code: int, length: int, *, injected: bool = False) -> Self | None:
        """Return the event that an interruption-information field describes; None if the field is not valid.

        `error_code` and `length` are the fields beside it, looked at where the information says so.
        Raises MisuseError for the reserved interruption type 1.
        """
        if not information & _VALID:
            return None
        kind = _TYPES.get(information & _TYPE)
        if kind is None:
            raise MisuseError(f"Interruption information {information:#x} is of type 0x1, which is reserved")
        return cls(
            information & _VECTOR,
            kind,
            error_code if information & _ERROR_VALID else None,
            length if kind in _SOFTWARE else 0,
            injected,
        )

    @property
    def information(self) -> int:
        """The 32-bit interruption information that describes the event (SDM 3C §24.9.2)."""
        coded = 0 if self.error_code is None else _ERROR_VALID
        return _VALID | coded | self.type << _TYPE_SHIFT | self.vector

    @property
    def software(self) -> bool:
        """Whether an instruction asked for it: INT n, INT1, INT3 or INTO. The handler returns behind it."""
        return self.type in _SOFTWARE

    @property
    def external(self) -> bool:
        """Whether it is external to the program: EXT of the error codes of exceptions that its delivery meets.

        SDM 3A §6.13: of the software events only INT1 counts as external.
        """
        return self.type not in (InterruptionType.SOFTWARE_INTERRUPT, InterruptionType.SOFTWARE_EXCEPTION)

    @property
    def fault(self) -> bool:
        """Whether it is a fault-class exception, of which the saved RFLAGS has RF = 1 (SDM 3B §17.3.1.1).

        A #DB counts as a trap: a fault-class one is an instruction breakpoint, which leaves RF alone too.
        """
        return self.type is InterruptionType.HARDWARE_EXCEPTION and self.vector not in _NOT_FAULTS


#: Exceptions made before: each page fault needs one or two, and they are few.
_EXCEPTIONS: dict[tuple[int, int | None], Event] = {}
_MOST_EXCEPTIONS = 1024
