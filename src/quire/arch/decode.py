"""Numbers into words: any value that a layout of this room describes, and VMCS fields, exits and errors by number.

What can be decoded follows from what is declared: each public layout is a subject by its name in lower case, with
hyphens. Beside them are the capability MSRs by name, ``vmcs-field``, ``vm-instruction-error``, and
``exit-qualification``, which needs the reason of the exit. A decoded value is a plain record for reports.

Fails with MisuseError for a subject that does not exist and for a value that does not fit.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import quire.arch.amd
import quire.arch.apic
import quire.arch.capabilities
import quire.arch.controls
import quire.arch.entries
import quire.arch.ept
import quire.arch.exits
import quire.arch.faults
import quire.arch.guest_state
import quire.arch.instruction_exits
import quire.arch.legacy
import quire.arch.newer_msrs
import quire.arch.profile
import quire.arch.registers
import quire.arch.routing_tables
import quire.arch.segments
import quire.arch.vmcs
from quire.arch.amd import AMD_EFER, AMD_PF_ERROR
from quire.arch.capabilities import VmxMsr
from quire.arch.cpuid import CPUID_1_ECX, CPUID_1_EDX, CPUID_7_EBX, CPUID_80000008_EAX
from quire.arch.decode_controls import GOVERNING_MSR, decode_capability_msr, decode_controls
from quire.arch.decode_entries import ENTRY_LAYOUTS, decode_entry, is_present
from quire.arch.decode_record import decode_by_layout, decoded_record
from quire.arch.decode_words import words_of
from quire.arch.exit_words import describe_exit
from quire.arch.exits import (
    APIC_ACCESS_QUALIFICATION,
    CR_ACCESS_QUALIFICATION,
    DEBUG_QUALIFICATION,
    EPT_VIOLATION_QUALIFICATION,
    NMI_UNBLOCKING_QUALIFICATION,
    SPP_QUALIFICATION,
    TASK_SWITCH_QUALIFICATION,
    ExitReason,
)
from quire.arch.faults import PF_ERROR, Vector
from quire.arch.instruction_exits import IO_QUALIFICATION, MOV_DR_QUALIFICATION
from quire.arch.layout import Field, Layout
from quire.arch.registers import EFER
from quire.arch.vmcs import (
    VMCS_ENCODING,
    VmcsField,
    VmInstructionError,
    field_by_encoding,
    field_by_name,
)
from quire.errors import MisuseError, did_you_mean

__all__ = ["SUBJECTS", "decode_qualification", "decode_subject", "parse_member"]

_MODULES = (
    quire.arch.entries,
    quire.arch.legacy,
    quire.arch.ept,
    quire.arch.registers,
    quire.arch.faults,
    quire.arch.exits,
    quire.arch.instruction_exits,
    quire.arch.vmcs,
    quire.arch.controls,
    quire.arch.capabilities,
    quire.arch.profile,
    quire.arch.guest_state,
    quire.arch.segments,
    quire.arch.apic,
    quire.arch.amd,
    quire.arch.newer_msrs,
    quire.arch.routing_tables,
)
_DECLARED = [getattr(module, name) for module in _MODULES for name in module.__all__]
_LAYOUTS: dict[str, Layout] = {
    layout.name.lower().replace("_", "-"): layout
    for layout in (*_DECLARED, CPUID_1_ECX, CPUID_1_EDX, CPUID_7_EBX, CPUID_80000008_EAX)
    if isinstance(layout, Layout)
}
#: Where AMD gives a meaning to bits that Intel reserves: a value with such bits is AMD's.
_OF_AMD = {EFER: AMD_EFER, PF_ERROR: AMD_PF_ERROR}
#: Entries that map a page instead of referencing a table when their PS bit is 1.
_PAGES = {
    "pde": "pde-2m",
    "pdpte": "pdpte-1g",
    "pae-pde": "pae-pde-2m",
    "ept-pde": "ept-pde-2m",
    "ept-pdpte": "ept-pdpte-1g",
}
_MSRS = {f"ia32-vmx-{msr.name.lower().replace('_', '-')}": msr for msr in VmxMsr}
_NUMBERED = {
    "vmcs-field": "a field of the VMCS, by encoding or by name",
    "vm-instruction-error": "why a VMX instruction failed, by number or by name",
    "exit-qualification": "what an exit says of its cause: give --reason too",
}
#: Everything that can be decoded: its name, and what it is.
SUBJECTS: dict[str, str] = {
    **{name: f"{layout.width} bits, {layout.section}" for name, layout in _LAYOUTS.items()},
    **{name: f"capability MSR {int(msr):#x}, SDM 3D §A" for name, msr in _MSRS.items()},
    **_NUMBERED,
}


def decode_subject(
    subject: str, value: int, *, maxphyaddr: int | None = None, taken: Sequence[Field] = ()
) -> dict[str, Any]:
    """Return what `value` of `subject` says: title, section, fields and, where there are any, words.

    With `maxphyaddr` (bits) address bits from there on count as reserved. The fields of `taken` stand in an address and
    are no part of it; MisuseError for a subject that has none. See docs/reference/decode.md.
    """
    if taken and subject in {*_NUMBERED, *_MSRS}:
        raise MisuseError(
            f"{subject} holds no physical address, so it has neither KeyID nor C-bit: leave them out"
        )
    if subject == "vmcs-field":
        return _vmcs_field(value)
    if subject == "vm-instruction-error":
        return _instruction_error(value)
    if subject in _MSRS:
        return decode_capability_msr(_MSRS[subject], value)
    layout = _LAYOUTS.get(subject)
    if layout is None:
        raise MisuseError(
            f"Nothing that is called {subject!r} can be decoded{did_you_mean(subject, SUBJECTS)}: "
            "quire decode --list shows what can"
        )
    if layout in ENTRY_LAYOUTS:
        if subject in _PAGES and is_present(layout, value) and layout.mask("PS") & value:
            layout = _LAYOUTS[_PAGES[subject]]
        return decode_entry(layout, value, maxphyaddr, taken)
    of_amd = _OF_AMD.get(layout)
    if of_amd is not None and value & layout.reserved_mask and not value & of_amd.reserved_mask:
        layout = of_amd
    if layout in GOVERNING_MSR and not taken:
        return decode_controls(layout, value)
    record = decode_by_layout(layout, value, maxphyaddr, taken)
    record["words"] = words_of(layout, value)
    return record


def decode_qualification(reason: int, value: int, vector: int | None = None) -> dict[str, Any]:
    """Return what exit qualification `value` says of an exit for `reason`; of an exception give its `vector`."""
    layout = _QUALIFICATIONS.get(reason)
    if reason == ExitReason.EXCEPTION_OR_NMI and vector == Vector.DB:
        layout = DEBUG_QUALIFICATION
    words = describe_exit(reason, value, vector)
    if layout is None:
        return decoded_record("exit qualification", "SDM 3C §27.2.1", value, 64, [], words)
    record = decode_by_layout(layout, value)
    record["words"] = words
    return record


_QUALIFICATIONS: dict[int, Layout] = {
    ExitReason.TASK_SWITCH: TASK_SWITCH_QUALIFICATION,
    ExitReason.CR_ACCESS: CR_ACCESS_QUALIFICATION,
    ExitReason.MOV_DR: MOV_DR_QUALIFICATION,
    ExitReason.IO_INSTRUCTION: IO_QUALIFICATION,
    ExitReason.APIC_ACCESS: APIC_ACCESS_QUALIFICATION,
    ExitReason.EPT_VIOLATION: EPT_VIOLATION_QUALIFICATION,
    ExitReason.PAGE_MODIFICATION_LOG_FULL: NMI_UNBLOCKING_QUALIFICATION,
    ExitReason.SPP_RELATED_EVENT: SPP_QUALIFICATION,
}


_MEMBERS: dict[str, type[IntEnum]] = {
    "exit-reason": ExitReason,
    "exit-qualification": ExitReason,
    "vm-instruction-error": VmInstructionError,
    "vector": Vector,
}


def parse_member(kind: str, text: str) -> int | None:
    """Return the number that name `text` has: of a VMCS field, exit reason, VM-instruction error; None if it has none.

    `kind` is the subject. Raises MisuseError, with the closest name, for a word that looks like a name.
    """
    if not text[:1].isalpha():
        return None
    if kind == "vmcs-field":
        return field_by_name(text.lower()).encoding
    members = _MEMBERS.get(kind)
    if members is None:
        return None
    name = text.upper().replace("-", "_")
    if name not in members.__members__:
        raise MisuseError(
            f"No {kind} is called {text!r}{did_you_mean(name, members.__members__)}: give its number, "
            f"or a name such as {next(iter(members.__members__))}"
        )
    return int(members[name])


def _vmcs_field(encoding: int) -> dict[str, Any]:
    found = field_by_encoding(encoding)
    record = decode_by_layout(VMCS_ENCODING, encoding)
    record["title"] = found.name
    record["section"] = "SDM 3D §B"
    record["words"] = _access_words(found, encoding)
    return record


def _access_words(found: VmcsField, encoding: int) -> str:
    part = "bits 63:32 of the field" if VMCS_ENCODING.get(encoding, "high") else f"{found.bits} bits"
    access = "read-only" if found.read_only else "read and write"
    return f"{found.encoding:#06x} {found.name}: {part}, {found.area}, {access}"


def _instruction_error(number: int) -> dict[str, Any]:
    known = {int(error): error for error in VmInstructionError}
    if number not in known:
        raise MisuseError(
            f"VM-instruction error {number} is not assigned: they are {min(known)} to {max(known)}, "
            f"without {', '.join(str(n) for n in range(1, max(known)) if n not in known)}"
        )
    error = known[number]
    return decoded_record(error.name, "SDM 3C §30.4", number, 32, [], f"{number}: {error.text}")
