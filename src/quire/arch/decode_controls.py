"""VMX control fields in words, and the capability MSRs that say what each control may be (SDM 3D §A).

A control without a name is not wrong by being set: the MSR that governs the field decides. Those of the default1 class
are 1 in any sound VMCS, so it is the ones that are 0 that are pointed at.
"""

from typing import Any

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
from quire.arch.decode_record import decode_by_layout, decoded_record
from quire.arch.layout import LOW32, Field, Kind, Layout
from quire.arch.profile import EPT_VPID_CAP
from quire.arch.registers import CR0, CR4

__all__ = ["GOVERNING_MSR", "decode_capability_msr", "decode_controls", "msr_name"]

#: The MSR that says which controls of a field may be 0 and 1.
GOVERNING_MSR: dict[Layout, VmxMsr] = {
    PIN_BASED: VmxMsr.TRUE_PINBASED_CTLS,
    PRIMARY_CONTROLS: VmxMsr.TRUE_PROCBASED_CTLS,
    SECONDARY_CONTROLS: VmxMsr.PROCBASED_CTLS2,
    TERTIARY_CONTROLS: VmxMsr.PROCBASED_CTLS3,
    EXIT_CONTROLS: VmxMsr.TRUE_EXIT_CTLS,
    SECONDARY_EXIT_CONTROLS: VmxMsr.EXIT_CTLS2,
    ENTRY_CONTROLS: VmxMsr.TRUE_ENTRY_CTLS,
    VM_FUNCTION_CONTROLS: VmxMsr.VMFUNC,
}
_BEFORE_TRUE = {
    VmxMsr.PINBASED_CTLS: PIN_BASED,
    VmxMsr.PROCBASED_CTLS: PRIMARY_CONTROLS,
    VmxMsr.EXIT_CTLS: EXIT_CONTROLS,
    VmxMsr.ENTRY_CTLS: ENTRY_CONTROLS,
}
#: What an MSR with allowed 0-settings in bits 31:0 and allowed 1-settings in bits 63:32 governs.
_PAIRS = {**_BEFORE_TRUE, **{msr: layout for layout, msr in GOVERNING_MSR.items() if layout.width == 32}}
_PLAIN: dict[VmxMsr, Layout] = {
    VmxMsr.BASIC: VMX_BASIC,
    VmxMsr.MISC: VMX_MISC,
    VmxMsr.CR0_FIXED0: CR0,
    VmxMsr.CR0_FIXED1: CR0,
    VmxMsr.CR4_FIXED0: CR4,
    VmxMsr.CR4_FIXED1: CR4,
    VmxMsr.VMCS_ENUM: VMX_VMCS_ENUM,
    VmxMsr.EPT_VPID_CAP: EPT_VPID_CAP,
    **{msr: layout for layout, msr in GOVERNING_MSR.items() if layout.width == 64},
}
_FIXED = {VmxMsr.CR0_FIXED0: 1, VmxMsr.CR4_FIXED0: 1, VmxMsr.CR0_FIXED1: 0, VmxMsr.CR4_FIXED1: 0}
_ALLOWED: dict[tuple[bool, bool], str] = {
    (False, False): "must be 0",
    (False, True): "may be 0 or 1",
    (True, True): "must be 1",
    (True, False): "must be 1 and 0: no processor reports that",
}


def msr_name(msr: VmxMsr) -> str:
    """Return a capability MSR as messages name it: ``IA32_VMX_MISC (0x485)``."""
    return f"IA32_VMX_{msr.name} ({int(msr):#x})"


def decode_controls(layout: Layout, value: int) -> dict[str, Any]:
    """Return what the control field `value` says: what is suspicious of it, and which MSR would tell."""
    record = decode_by_layout(layout, value)
    clear = [n for n in range(layout.width) if layout.default1_mask & layout.reserved_mask & ~value & 1 << n]
    stray = [n for n in range(layout.width) if layout.reserved_mask & ~layout.default1_mask & value & 1 << n]
    asks = f"unless {msr_name(GOVERNING_MSR[layout])} allows that"
    words = []
    if clear:
        words.append(f"{_bits(clear)} without a name, default 1, {_are(clear)} 0: VM entry fails {asks}")
    if stray:
        words.append(f"{_bits(stray)} without a name {_are(stray)} 1: VM entry fails {asks}")
    record["words"] = "; ".join(words) or None
    return record


def _bits(numbers: list[int]) -> str:
    return f"bit{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _are(numbers: list[int]) -> str:
    return "are" if len(numbers) > 1 else "is"


def decode_capability_msr(msr: VmxMsr, value: int) -> dict[str, Any]:
    """Return what a capability MSR says; of one for a control field, what each control may be."""
    controls = _PAIRS.get(msr)
    if controls is None:
        record = decode_by_layout(_PLAIN[msr], value)
        if msr in _FIXED:
            record["words"] = f"a bit that is {_FIXED[msr]} here must be {_FIXED[msr]} in VMX operation"
            record["reserved_set"] = []
    else:
        VMX_CONTROLS.decode(value)
        least, most = value & LOW32, value >> 32
        fields = [_allowed(one, least, most) for one in controls.fields if one.kind is Kind.FIELD]
        words = "what each control may be; VM entry fails otherwise"
        record = decoded_record("", "", value, 64, fields, words)
    record["title"] = msr_name(msr)
    record["section"] = "SDM 3D §A"
    return record


def _allowed(one: Field, least: int, most: int) -> dict[str, Any]:
    return {
        "bits": str(one.low),
        "name": one.name,
        "value": _ALLOWED[bool(least & one.mask), bool(most & one.mask)],
        "set": bool(most & one.mask),
        "kind": "field",
        "meaning": one.meaning,
    }
