"""The VMCS region: every field of the manual in one 4 KiB frame, read and written by name.

The region begins with the revision identifier and the VMX-abort indicator (SDM 3C §24.2); how the data lies
behind them is the implementation's, and ours is a slot of 8 bytes a field in the order of VMCS_FIELDS. Launch
state is kept by the processor, not in the region. Fails with MisuseError for an unknown field and for a value
wider than its field.
"""

from enum import Enum

from quire.arch import PAGE_SIZE, VMCS_FIELDS, VMCS_REVISION, field_by_name
from quire.errors import MisuseError
from quire.memory import HostMemory

__all__ = ["LaunchState", "Vmcs", "word_of"]

_DATA = 16
_SHADOW = 1 << 31  # the shadow-VMCS indicator, next to the revision identifier
_WORDS = {field.name: _DATA // 8 + n for n, field in enumerate(VMCS_FIELDS)}
_BITS = {field.name: field.bits for field in VMCS_FIELDS}
#: What may differ from entry to entry; the rest changes seldom, and only then are all entry checks made anew.
_MOVING = {
    "guest_rip",
    "guest_rsp",
    "guest_rflags",
    "guest_activity_state",
    "guest_interruptibility_state",
    "guest_pending_debug_exceptions",
    "vm_entry_interruption_information",
    "vm_entry_exception_error_code",
    "vm_entry_instruction_length",
}
_RIP, _RSP, _RFLAGS = (_WORDS[name] for name in ("guest_rip", "guest_rsp", "guest_rflags"))
assert _DATA + 8 * len(VMCS_FIELDS) <= PAGE_SIZE, "the VMCS region holds a slot a field"


class LaunchState(Enum):
    """SDM 3C §24.1: VMLAUNCH wants CLEAR, VMRESUME wants LAUNCHED."""

    CLEAR = "clear"
    LAUNCHED = "launched"


class Vmcs:
    """The region at `hpa`, one whole frame of `memory`: made anew, or with `fresh` false as it is there."""

    def __init__(self, memory: HostMemory, hpa: int, *, fresh: bool = True) -> None:
        self.memory = memory
        self.hpa = hpa
        self.launch_state = LaunchState.CLEAR
        self.generation = 0  #: grows when a field changes that does not move from entry to entry
        self.checked: tuple[int, ...] | None = (
            None  #: generation, RFLAGS.VM, CR3 63:32 that passed every entry check
        )
        #: What the entry checks read of what moves when they passed, the last times.
        self.passed: set[tuple[int, ...]] = set()
        #: The region as words; :func:`word_of` says which is which.
        self.words = memory.cells(hpa, PAGE_SIZE)
        if fresh:
            memory.fill(hpa // PAGE_SIZE, 1, 0)
            memory.store(hpa, VMCS_REVISION)

    @property
    def shadow(self) -> bool:
        """Whether it is a shadow VMCS, which no VM entry takes (SDM 3C §24.10)."""
        return bool(self.memory.load(self.hpa) & _SHADOW)

    def read(self, name: str) -> int:
        """Return the field called `name`, unsigned."""
        word = _WORDS.get(name)
        return int(self.words[word_of(name) if word is None else word])

    def write(self, name: str, value: int) -> None:
        """Set the field called `name`, read-only ones too: exit information is ours to fill."""
        word, bits = word_of(name), _BITS[name]
        if value < 0 or value >> bits:
            raise MisuseError(f"VMCS field {name} has {bits} bits: {value:#x} does not fit, mask it first")
        if name not in _MOVING:
            self.generation += 1
        self.words[word] = value

    def save_pointers(self, rip: int, rsp: int, rflags: int) -> None:
        """Set the three registers of guest state that every exit saves."""
        if (rip | rsp | rflags) >> 64:
            self.write_many(guest_rip=rip, guest_rsp=rsp, guest_rflags=rflags)  # raises
        words = self.words
        words[_RIP], words[_RSP], words[_RFLAGS] = rip, rsp, rflags

    def record_exit(self, **values: int) -> None:
        """Set exit-information fields: what no entry check reads."""
        for name, value in values.items():
            self.words[word_of(name)] = value

    def write_many(self, **values: int) -> None:
        """Set several fields."""
        for name, value in values.items():
            self.write(name, value)

    def nonzero(self) -> dict[str, int]:
        """Return the fields that are not zero, in the manual's order."""
        values = ((field, self.read(field.name)) for field in VMCS_FIELDS)
        return {field.name: value for field, value in values if value}


def word_of(name: str) -> int:
    """Return the index of the field called `name` in :attr:`Vmcs.words`."""
    found = _WORDS.get(name)
    return found if found is not None else _WORDS[field_by_name(name).name]  # raises with the closest name
