"""Numbers into words: any value that a layout of this room describes, and VMCS fields, exits and errors by number.

What can be decoded follows from what is declared: each public layout is a subject by its name in lower case, with
hyphens. Beside them are the capability MSRs by name, ``vmcs-field``, ``vm-instruction-error``, and
``exit-qualification``, which needs the reason of the exit. A decoded value is a plain record for reports.

Fails with MisuseError for a subject that does not exist and for a value that does not fit.
"""

from enum import IntEnum
from typing import Any

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
import quire.arch.profile
import quire.arch.registers
import quire.arch.segments
import quire.arch.vmcs
from quire.arch.apic import DeliveryMode, Shorthand
from quire.arch.capabilities import VMX_BASIC, VMX_CONTROLS, VMX_MISC, VMX_VMCS_ENUM, VmxMsr
from quire.arch.controls import (
    ENTRY_CONTROLS,
    EXIT_CONTROLS,
    PIN_BASED,
    PRIMARY_CONTROLS,
    SECONDARY_CONTROLS,
    SECONDARY_EXIT_CONTROLS,
    TERTIARY_CONTROLS,
    VM_FUNCTION_CONTROLS,
)
from quire.arch.cpuid import CPUID_1_ECX, CPUID_1_EDX, CPUID_7_EBX
from quire.arch.entries import physical_reserved
from quire.arch.exit_words import describe_exit
from quire.arch.exits import (
    APIC_ACCESS_QUALIFICATION,
    CR_ACCESS_QUALIFICATION,
    DEBUG_QUALIFICATION,
    EPT_VIOLATION_QUALIFICATION,
    EXIT_REASON,
    INTERRUPTION_INFO,
    NMI_UNBLOCKING_QUALIFICATION,
    SPP_QUALIFICATION,
    TASK_SWITCH_QUALIFICATION,
    ExitReason,
    InterruptionType,
)
from quire.arch.faults import PF_ERROR, Vector, describe_page_fault
from quire.arch.instruction_exits import IO_QUALIFICATION, MOV_DR_QUALIFICATION
from quire.arch.layout import LOW32, Field, Kind, Layout
from quire.arch.memory_types import MemoryType
from quire.arch.profile import EPT_VPID_CAP
from quire.arch.registers import CR0, CR4
from quire.arch.vmcs import (
    VMCS_ENCODING,
    VmcsField,
    VmcsType,
    VmcsWidth,
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
)
_DECLARED = [getattr(module, name) for module in _MODULES for name in module.__all__]
_LAYOUTS: dict[str, Layout] = {
    layout.name.lower().replace("_", "-"): layout
    for layout in (*_DECLARED, CPUID_1_ECX, CPUID_1_EDX, CPUID_7_EBX)
    if isinstance(layout, Layout)
}
#: Entries that map a page instead of referencing a table when their PS bit is 1.
_PAGES = {
    "pde": "pde-2m",
    "pdpte": "pdpte-1g",
    "pae-pde": "pae-pde-2m",
    "ept-pde": "ept-pde-2m",
    "ept-pdpte": "ept-pdpte-1g",
}
_CONTROL_MSRS = {
    VmxMsr.PINBASED_CTLS: PIN_BASED,
    VmxMsr.PROCBASED_CTLS: PRIMARY_CONTROLS,
    VmxMsr.EXIT_CTLS: EXIT_CONTROLS,
    VmxMsr.ENTRY_CTLS: ENTRY_CONTROLS,
    VmxMsr.PROCBASED_CTLS2: SECONDARY_CONTROLS,
    VmxMsr.TRUE_PINBASED_CTLS: PIN_BASED,
    VmxMsr.TRUE_PROCBASED_CTLS: PRIMARY_CONTROLS,
    VmxMsr.TRUE_EXIT_CTLS: EXIT_CONTROLS,
    VmxMsr.TRUE_ENTRY_CTLS: ENTRY_CONTROLS,
}
_PLAIN_MSRS = {
    VmxMsr.BASIC: VMX_BASIC,
    VmxMsr.MISC: VMX_MISC,
    VmxMsr.CR0_FIXED0: CR0,
    VmxMsr.CR0_FIXED1: CR0,
    VmxMsr.CR4_FIXED0: CR4,
    VmxMsr.CR4_FIXED1: CR4,
    VmxMsr.VMCS_ENUM: VMX_VMCS_ENUM,
    VmxMsr.EPT_VPID_CAP: EPT_VPID_CAP,
    VmxMsr.VMFUNC: VM_FUNCTION_CONTROLS,
    VmxMsr.PROCBASED_CTLS3: TERTIARY_CONTROLS,
    VmxMsr.EXIT_CTLS2: SECONDARY_EXIT_CONTROLS,
}
_MSRS = {f"ia32-vmx-{msr.name.lower().replace('_', '-')}": msr for msr in VmxMsr}
_NUMBERED = {
    "vmcs-field": "a field of the VMCS, by encoding or by name",
    "vm-instruction-error": "why a VMX instruction failed, by number or by name",
    "exit-qualification": "what an exit says of its cause: give --reason too",
}
#: Fields whose values have names, by layout or by None for any.
_NAMES: dict[tuple[str | None, str], type[IntEnum]] = {
    (None, "MT"): MemoryType,
    ("VMX_BASIC", "memory_type"): MemoryType,
    ("X2APIC_ICR", "mode"): DeliveryMode,
    ("X2APIC_ICR", "shorthand"): Shorthand,
    ("EXIT_REASON", "basic"): ExitReason,
    ("INTERRUPTION_INFO", "type"): InterruptionType,
    ("VMCS_ENCODING", "type"): VmcsType,
    ("VMCS_ENCODING", "width"): VmcsWidth,
}

#: Everything that can be decoded: its name, and what it is.
SUBJECTS: dict[str, str] = {
    **{name: f"{layout.width} bits, {layout.section}" for name, layout in _LAYOUTS.items()},
    **{name: f"capability MSR {int(msr):#x}, SDM 3D §A" for name, msr in _MSRS.items()},
    **_NUMBERED,
}


def decode_subject(subject: str, value: int, *, maxphyaddr: int | None = None) -> dict[str, Any]:
    """Return what `value` of `subject` says: title, section, fields and, where there are any, words.

    With `maxphyaddr` (bits) address bits from there on count as reserved. See docs/reference/decode.md.
    """
    if subject == "vmcs-field":
        return _vmcs_field(value)
    if subject == "vm-instruction-error":
        return _instruction_error(value)
    if subject in _MSRS:
        return _msr(_MSRS[subject], value)
    layout = _LAYOUTS.get(subject)
    if layout is None:
        raise MisuseError(
            f"Nothing that is called {subject!r} can be decoded{did_you_mean(subject, SUBJECTS)}: "
            "quire decode --list shows what can"
        )
    if subject in _PAGES and layout.mask("PS") & value:
        layout = _LAYOUTS[_PAGES[subject]]
    record = _by_layout(layout, value, maxphyaddr)
    if layout is PF_ERROR and not value & PF_ERROR.reserved_mask:
        record["words"] = describe_page_fault(value)
    if layout is EXIT_REASON:
        record["words"] = describe_exit(value, 0).partition(":")[0]
    if layout is INTERRUPTION_INFO:
        record["words"] = _event_words(value)
    if layout is VMCS_ENCODING:
        record["words"] = _field_words(value)
    return record


def decode_qualification(reason: int, value: int, vector: int | None = None) -> dict[str, Any]:
    """Return what exit qualification `value` says of an exit for `reason`; of an exception give its `vector`."""
    layout = _QUALIFICATIONS.get(reason)
    if reason == ExitReason.EXCEPTION_OR_NMI and vector == Vector.DB:
        layout = DEBUG_QUALIFICATION
    words = describe_exit(reason, value, vector)
    if layout is None:
        return _record("exit qualification", "SDM 3C §27.2.1", value, 64, [], words)
    record = _by_layout(layout, value, None)
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


def _record(
    title: str, section: str, value: int, width: int, fields: list[dict[str, Any]], words: str | None
) -> dict[str, Any]:
    stray = [one["name"] for one in fields if one["kind"] == "reserved" and one["set"]]
    return {
        "title": title,
        "section": section,
        "value": f"{value:#0{2 + width // 4}x}",
        "words": words,
        "reserved_set": stray,
        "fields": fields,
    }


def _by_layout(layout: Layout, value: int, maxphyaddr: int | None) -> dict[str, Any]:
    layout.decode(value)  # raises when the value is too wide
    fields = [_field(layout, one, value) for one in layout.fields]
    beyond = value & physical_reserved(maxphyaddr) if maxphyaddr and _is_entry(layout) else 0
    if beyond:
        fields.append(
            {
                "bits": f"51:{maxphyaddr}",
                "name": f"reserved_51_{maxphyaddr}",
                "value": f"{beyond:#x}",
                "set": True,
                "kind": "reserved",
                "meaning": f"address bits beyond MAXPHYADDR, {maxphyaddr}",
            }
        )
    return _record(layout.name, layout.section, value, layout.width, fields, None)


def _is_entry(layout: Layout) -> bool:
    return layout.width == 64 and any(one.in_place and one.high == 51 for one in layout.fields)


def _field(layout: Layout, one: Field, value: int) -> dict[str, Any]:
    content = layout.get(value, one.name)
    meaning = one.meaning
    names = _NAMES.get((layout.name, one.name), _NAMES.get((None, one.name)))
    if names is not None:
        known = content in {int(member) for member in names}
        meaning += f": {names(content).name if known else 'not assigned'}"
    return {
        "bits": str(one.low) if one.low == one.high else f"{one.high}:{one.low}",
        "name": one.name,
        "value": f"{content:#x}",
        "set": bool(content),
        "kind": one.kind.value,
        "meaning": "must be 0" if one.kind is Kind.RESERVED else meaning,
    }


def _event_words(value: int) -> str:
    said = INTERRUPTION_INFO.decode(value)
    if not said["valid"]:
        return "no event"
    kinds = {int(kind) for kind in InterruptionType}
    kind = (
        InterruptionType(said["type"]).name.lower().replace("_", " ") if said["type"] in kinds else "type 1"
    )
    exceptions = (InterruptionType.HARDWARE_EXCEPTION, InterruptionType.SOFTWARE_EXCEPTION)
    name = f"vector {said['vector']:#x}"
    if said["type"] in exceptions and said["vector"] in {int(vector) for vector in Vector}:
        name = f"#{Vector(said['vector']).name}"
    return f"{kind} {name}" + (", with an error code" if said["error_valid"] else "")


def _field_words(value: int) -> str:
    try:
        return field_by_encoding(value).name
    except MisuseError:
        return "no field"


def _vmcs_field(encoding: int) -> dict[str, Any]:
    found = field_by_encoding(encoding)
    record = _by_layout(VMCS_ENCODING, encoding, None)
    record["title"] = found.name
    record["section"] = "SDM 3D §B"
    record["words"] = _access_words(found, encoding)
    return record


def _access_words(found: VmcsField, encoding: int) -> str:
    part = "bits 63:32 of the field" if VMCS_ENCODING.get(encoding, "high") else f"{found.bits} bits"
    area = {
        VmcsType.CONTROL: "control field",
        VmcsType.EXIT_INFO: "exit information",
        VmcsType.GUEST: "guest state",
        VmcsType.HOST: "host state",
    }[found.type]
    return f"{found.encoding:#06x} {found.name}: {part}, {area}, {'read-only' if found.read_only else 'read and write'}"


def _instruction_error(number: int) -> dict[str, Any]:
    known = {int(error): error for error in VmInstructionError}
    if number not in known:
        raise MisuseError(
            f"VM-instruction error {number} is not assigned: they are {min(known)} to {max(known)}, "
            f"without {', '.join(str(n) for n in range(1, max(known)) if n not in known)}"
        )
    error = known[number]
    return _record(error.name, "SDM 3C §30.4", number, 32, [], f"{number}: {error.text}")


def _msr(msr: VmxMsr, value: int) -> dict[str, Any]:
    """Decode a capability MSR; of one for a control field, say of each control what it may be."""
    controls = _CONTROL_MSRS.get(msr)
    if controls is None:
        record = _by_layout(_PLAIN_MSRS[msr], value, None)
        fixed = {VmxMsr.CR0_FIXED0: 1, VmxMsr.CR4_FIXED0: 1, VmxMsr.CR0_FIXED1: 0, VmxMsr.CR4_FIXED1: 0}
        if msr in fixed:
            record["words"] = f"a bit that is {fixed[msr]} here must be {fixed[msr]} in VMX operation"
            record["reserved_set"] = []
    else:
        VMX_CONTROLS.decode(value)
        least, most = value & LOW32, value >> 32
        fields = [_allowed(one, least, most) for one in controls.fields if one.kind is Kind.FIELD]
        record = _record("", "", value, 64, fields, "what each control may be; VM entry fails otherwise")
    record["title"] = f"IA32_VMX_{msr.name} ({int(msr):#x})"
    record["section"] = "SDM 3D §A"
    return record


_ALLOWED: dict[tuple[bool, bool], str] = {
    (False, False): "must be 0",
    (False, True): "may be 0 or 1",
    (True, True): "must be 1",
    (True, False): "must be 1 and 0: no processor reports that",
}


def _allowed(one: Field, least: int, most: int) -> dict[str, Any]:
    allowed = _ALLOWED[bool(least & one.mask), bool(most & one.mask)]
    return {
        "bits": str(one.low),
        "name": one.name,
        "value": allowed,
        "set": bool(most & one.mask),
        "kind": "field",
        "meaning": one.meaning,
    }
