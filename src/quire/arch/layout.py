"""Bit layouts: each bit of a register, entry or error code is declared once, and all else derives from it.

A :class:`Layout` is a tuple of :class:`Field`; it must account for every bit of its width, reserved and
ignored bits included, or it cannot be built. Masks for kernels, decoders, the text of ``--explain``,
documentation tables and Hypothesis strategies are all read from the declaration, so none of them can disagree
with it.

Not modelled: reserved bits that depend on the processor (address bits 51:MAXPHYADDR, XD without EFER.NXE). A
layout says what holds on every processor; see :func:`quire.arch.entries.physical_reserved` for the rest.

Fails with :class:`~quire.errors.MisuseError` for a name that is not declared, for a value that does not fit
its field, and, at construction, for a declaration that overlaps, leaves a hole or cites no manual section.
"""

import dataclasses
import re
from dataclasses import dataclass
from enum import Enum

from quire.errors import MisuseError, did_you_mean

__all__ = [
    "LOW32",
    "WORD",
    "Field",
    "Kind",
    "Layout",
    "address",
    "bit",
    "bits",
    "default1",
    "ignored",
    "reserved",
]

#: All ones in 64 bits: what a register holds at most, and the mask of arithmetic modulo 2**64.
WORD = (1 << 64) - 1
#: All ones in 32 bits: the low half of a register.
LOW32 = (1 << 32) - 1

# The one form in which Quire cites manuals; the test of the arch room greps for it. Besides Intel's manual (SDM) there
# are AMD's (APM), Intel's specification of FRED, and its Instruction Set Extensions reference (ISE), whose chapters
# change their numbers from edition to edition and are cited by name; and, for devices, the data sheets of their chips
# and the specifications of ACPI and virtio.
_OTHER = "PC16550D|82093AA|MC146818|ACPI|VIRTIO"
_SECTION = re.compile(rf"(SDM [1-4][A-D]?|APM [1-5]|FRED|ISE|{_OTHER}) §[0-9A-Z]+(\.[0-9]+)*")


class Kind(Enum):
    """What the manual says of a range of bits."""

    FIELD = "field"  #: it means something
    RESERVED = "reserved"  #: it must hold what the manual says, nearly always 0, or the access faults
    IGNORED = "ignored"  #: the processor does not look at it; software may use it


@dataclass(frozen=True, slots=True)
class Field:
    """A range of bits, ``high:low`` inclusive as the manual writes it.

    ``in_place`` marks an address: its value is the masked bits where they are (a byte address), not shifted
    down. ``default1`` marks VMX controls that are 1 unless a capability MSR lets them be 0 (SDM 3D §A.2). Raises
    MisuseError for an empty name or for bounds that are negative or reversed.
    """

    name: str
    low: int
    high: int
    meaning: str
    kind: Kind = Kind.FIELD
    in_place: bool = False
    default1: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise MisuseError(f"Field at bits {self.high}:{self.low} has no name: give it the manual's name")
        if not 0 <= self.low <= self.high:
            raise MisuseError(
                f"Field {self.name!r} spans bits {self.high}:{self.low}: "
                "give 0 <= low <= high, high inclusive"
            )

    @property
    def mask(self) -> int:
        """The bits of this field, in place."""
        return (1 << (self.high + 1)) - (1 << self.low)

    @property
    def largest(self) -> int:
        """The largest value that the field holds: in place for an address, else shifted down."""
        return self.mask if self.in_place else self.mask >> self.low

    @property
    def where(self) -> str:
        """The position as the manual writes it: ``bit 63`` or ``bits 51:12``."""
        return f"bit {self.low}" if self.low == self.high else f"bits {self.high}:{self.low}"


def bit(n: int, name: str, meaning: str, *, default1: bool = False) -> Field:
    """Declare the one-bit field `name` at bit `n`; `default1` as :class:`Field` says."""
    return Field(name, n, n, meaning, default1=default1)


def bits(low: int, high: int, name: str, meaning: str) -> Field:
    """Declare the field `name` at bits `high`:`low`, both inclusive."""
    return Field(name, low, high, meaning)


def address(low: int, high: int, name: str = "addr", meaning: str = "physical address") -> Field:
    """Declare an address at bits `high`:`low`: a byte address aligned to ``1 << low``, never shifted."""
    return Field(name, low, high, meaning, Kind.FIELD, in_place=True)


def reserved(low: int, high: int | None = None) -> Field:
    """Declare bits `high`:`low`, or bit `low` alone, reserved: ``reserved_51_12`` or ``reserved_7``."""
    return _nameless(Kind.RESERVED, low, high)


def default1(low: int, high: int | None = None) -> Field:
    """Declare VMX controls `high`:`low`, or `low` alone, that have no name and are 1: ``default1_8_3``."""
    return _nameless(Kind.RESERVED, low, high, default1=True)


def ignored(low: int, high: int | None = None) -> Field:
    """Declare bits `high`:`low`, or bit `low` alone, ignored: ``ignored_58_52`` or ``ignored_6``."""
    return _nameless(Kind.IGNORED, low, high)


def _nameless(kind: Kind, low: int, high: int | None, *, default1: bool = False) -> Field:
    """Name bits that the manual leaves nameless after their place, so that masks can still say them."""
    top = low if high is None else high
    place = f"{low}" if top == low else f"{top}_{low}"
    word = "default1" if default1 else kind.value
    return Field(f"{word}_{place}", low, top, word, kind, default1=default1)


@dataclass(frozen=True, slots=True, repr=False)
class Layout:
    """The meaning of every bit of one register, entry or code: immutable, hashable, equal by structure.

    `width` is in bits; `section` cites the manual in the fixed form ``SDM 3A §4.5``; `fields` may be given in
    any order and are kept lowest first. Raises MisuseError unless the fields have unique names and cover each
    bit exactly once.
    """

    name: str
    width: int
    section: str
    fields: tuple[Field, ...]
    _by_name: dict[str, Field] = dataclasses.field(init=False, compare=False)
    _masks: dict[Kind, int] = dataclasses.field(init=False, compare=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.fields, key=lambda one: one.low))
        object.__setattr__(self, "fields", ordered)
        object.__setattr__(self, "_by_name", {one.name: one for one in ordered})
        masks = {kind: sum(one.mask for one in ordered if one.kind is kind) for kind in Kind}
        object.__setattr__(self, "_masks", masks)
        if self.width < 1:
            raise MisuseError(f"Layout {self.name} is {self.width} bits wide: give at least 1")
        if not _SECTION.fullmatch(self.section):
            raise MisuseError(
                f"Layout {self.name} cites {self.section!r}: cite the manual in the form 'SDM 3A §4.5'"
            )
        self._check_names()
        self._check_cover()

    def _check_names(self) -> None:
        seen: set[str] = set()
        for one in self.fields:
            if one.name in seen:
                raise MisuseError(f"Layout {self.name} declares {one.name!r} twice: rename one of them")
            seen.add(one.name)

    def _check_cover(self) -> None:
        """Prove that the fields, lowest first, tile the width: no overlap, no hole, nothing beyond."""
        free = 0
        previous = ""
        for one in self.fields:
            if one.low < free:
                raise MisuseError(
                    f"Layout {self.name}: {one.name!r} ({one.where}) overlaps {previous!r}: "
                    f"bit {one.low} is taken"
                )
            self._check_hole(free, one.low)
            if one.high >= self.width:
                raise MisuseError(
                    f"Layout {self.name}: {one.name!r} ({one.where}) ends beyond its {self.width} bits"
                )
            free, previous = one.high + 1, one.name
        self._check_hole(free, self.width)

    def _check_hole(self, low: int, end: int) -> None:
        if low < end:
            raise MisuseError(
                f"Layout {self.name} does not declare bits {end - 1}:{low}: "
                f"add reserved({low}, {end - 1}) or ignored({low}, {end - 1})"
            )

    def __repr__(self) -> str:
        return f"<Layout {self.name}: {self.width} bits, {self.section}>"

    @property
    def title(self) -> str:
        """The name as reports show it: ``EPT PDE 2M``."""
        return self.name.replace("_", " ")

    def field(self, name: str) -> Field:
        """Return the declaration of `name`, reserved and ignored ranges included; MisuseError if none."""
        found = self._by_name.get(name)
        if found is None:
            known = [one.name for one in self.fields if one.kind is Kind.FIELD]
            raise MisuseError(
                f"{self.name} has no field {name!r}{did_you_mean(name, known)}: "
                f"its fields are {', '.join(known)}"
            )
        return found

    def mask(self, *names: str) -> int:
        """Return the bits of all `names` together, in place. MisuseError for a name that is not declared."""
        total = 0
        for name in names:
            total |= self.field(name).mask
        return total

    def shift(self, name: str) -> int:
        """Return the lowest bit number of `name`. MisuseError if it is not declared."""
        return self.field(name).low

    @property
    def reserved_mask(self) -> int:
        """The bits declared reserved, in place: of VMX controls also those that are 1 by default."""
        return self._masks[Kind.RESERVED]

    @property
    def default1_mask(self) -> int:
        """The bits that are 1 unless a capability MSR lets them be 0, named ones too, in place."""
        return sum(one.mask for one in self.fields if one.default1)

    @property
    def ignored_mask(self) -> int:
        """The bits declared ignored, in place."""
        return self._masks[Kind.IGNORED]

    def get(self, value: int, name: str) -> int:
        """Return field `name` of `value`, shifted down (an address: in place).

        Bits of `value` beyond the width are not looked at. MisuseError if `name` is not declared.
        """
        one = self.field(name)
        found = int(value) & one.mask  # int: an entry read from a NumPy array must not leak its type
        return found if one.in_place else found >> one.low

    def set(self, value: int, /, **fields: int) -> int:
        """Return `value` with each named field replaced and every other bit kept.

        MisuseError if `value` is wider than the layout, a name is not a field, or its value does not fit.
        """
        value = int(value)
        self._check_width(value)
        for name, content in fields.items():
            one = self.field(name)
            content = int(content)
            self._check_content(one, content)
            placed = content if one.in_place else content << one.low
            value = (value & ~one.mask) | placed
        return value

    def encode(self, /, **fields: int) -> int:
        """Return the value with the named fields set and all other bits 0. Errors as in :meth:`set`."""
        return self.set(0, **fields)

    def decode(self, value: int) -> dict[str, int]:
        """Return every field of `value` by name, lowest first; reserved and ignored ranges are left out.

        MisuseError if `value` is negative or wider than the layout.
        """
        self._check_width(value)
        return {one.name: self.get(value, one.name) for one in self.fields if one.kind is Kind.FIELD}

    def flags(self, value: int) -> str:
        """Return what is set in `value`, lowest first: ``P RW US A addr=0x1000``.

        Of 0 that is the empty string. One-bit fields appear by name, wider ones as ``name=0x..``. Errors as
        in :meth:`decode`.
        """
        words = []
        for name, content in self.decode(value).items():
            one = self.field(name)
            if content:
                words.append(name if one.low == one.high else f"{name}={content:#x}")
        return " ".join(words)

    def _check_width(self, value: int) -> None:
        if not 0 <= value < 1 << self.width:
            raise MisuseError(
                f"{self.name} = {value:#x} does not fit in {self.width} bits: "
                f"give a value from 0x0 to {(1 << self.width) - 1:#x}"
            )

    def _check_content(self, one: Field, content: int) -> None:
        """Check that `content` may be stored in field `one`; the message names value, bound and next step."""
        what = f"{self.name}.{one.name}"
        if one.kind is not Kind.FIELD:
            raise MisuseError(
                f"{what} is {one.kind.value}: to set it on purpose, or in {self.name}.mask({one.name!r})"
            )
        if not 0 <= content <= one.largest:
            raise MisuseError(
                f"{what} = {content:#x} does not fit in {one.where}: "
                f"give a value from 0x0 to {one.largest:#x}"
            )
        if one.in_place and content & ~one.mask:
            raise MisuseError(
                f"{what} = {content:#x} is not aligned to {1 << one.low:#x}: clear bits {one.low - 1}:0"
            )
