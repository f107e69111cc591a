"""VMCS changes in words, so that a table of cases can be read: ``secondary+enable_pml pml_address=0x5000``.

A word is ``field=value`` with a hexadecimal value, ``group.part=value``, ``group+bit``, ``group-bit``, or the name
of a mode. A group is a control field, a register or the access rights of a segment.
"""

import re

from quire.arch import (
    ACCESS_RIGHTS,
    CR0,
    CR4,
    EFER,
    ENTRY_CONTROLS,
    EPTP,
    EXIT_CONTROLS,
    INTERRUPTIBILITY,
    PIN_BASED,
    PRIMARY_CONTROLS,
    RFLAGS,
    SECONDARY_CONTROLS,
    SECONDARY_EXIT_CONTROLS,
    TERTIARY_CONTROLS,
    VMCS_REVISION,
    CpuProfile,
)
from quire.memory import HostMemory
from quire.vcpu import Vmcs, VmxState, check_entry

GROUPS = {
    "pin": ("pin_based_controls", PIN_BASED),
    "primary": ("primary_processor_based_controls", PRIMARY_CONTROLS),
    "secondary": ("secondary_processor_based_controls", SECONDARY_CONTROLS),
    "tertiary": ("tertiary_processor_based_controls", TERTIARY_CONTROLS),
    "exit": ("vm_exit_controls", EXIT_CONTROLS),
    "secondary_exit": ("secondary_vm_exit_controls", SECONDARY_EXIT_CONTROLS),
    "entry": ("vm_entry_controls", ENTRY_CONTROLS),
    "cr0": ("guest_cr0", CR0),
    "cr4": ("guest_cr4", CR4),
    "efer": ("guest_ia32_efer", EFER),
    "host_cr0": ("host_cr0", CR0),
    "host_cr4": ("host_cr4", CR4),
    "host_efer": ("host_ia32_efer", EFER),
    "rflags": ("guest_rflags", RFLAGS),
    "blocking": ("guest_interruptibility_state", INTERRUPTIBILITY),
    **{
        name: (f"guest_{name}_access_rights", ACCESS_RIGHTS)
        for name in ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr")
    },
}
SHORT = {
    "event": "vm_entry_interruption_information",
    "blocking": "guest_interruptibility_state",
    "pending": "guest_pending_debug_exceptions",
    "activity": "guest_activity_state",
}
_V86_SEGMENTS = " ".join(
    f"guest_{name}_selector=0x1000 guest_{name}_base=0x10000 guest_{name}_limit=0xffff {name}=0xf3"
    for name in ("cs", "ss", "ds", "es", "fs", "gs")
)
MODES = {
    "32-bit": "entry-ia32e_guest efer-LMA efer-LME cs-L",
    "ring-0": "cs.DPL=0 ss.DPL=0 guest_cs_selector=0x10 guest_ss_selector=0x18",
    "v8086": f"32-bit {_V86_SEGMENTS} rflags+VM",
    "real": "32-bit ring-0 secondary+unrestricted_guest cr0-PE cr0-PG",
    "tertiary": "primary+activate_tertiary_controls",
    "data": " ".join(
        f"{name}=0xc0f3 guest_{name}_limit=0xffffffff guest_{name}_selector=0x2b"
        for name in ("ds", "es", "fs", "gs")
    ),
    "ldt": "ldtr=0x82 guest_ldtr_selector=0x50",
    "apic": "primary+use_tpr_shadow virtual_apic_address=0x7000",
    "posted": "apic secondary+virtual_interrupt_delivery pin+process_posted_interrupts "
    "exit+acknowledge_interrupt_on_exit",
    "vmfunc": "secondary+enable_vm_functions vm_function_controls=0x1",
}
_WORD = re.compile(r"(\w+)(?:\.(\w+))?([=+-])(\w+)")


def apply(vmcs: Vmcs, words: str) -> None:
    """Change `vmcs` as `words` say."""
    for word in words.split():
        if word in MODES:
            apply(vmcs, MODES[word])
            continue
        found = _WORD.fullmatch(word)
        assert found, word
        name, part, sign, what = found.groups()
        if sign == "=" and part is None:
            field = SHORT.get(name) or (GROUPS[name][0] if name in GROUPS else name)
            vmcs.write(field, int(what, 16))
            continue
        field, layout = GROUPS[name]
        changes = {part: int(what, 16)} if part else {what: int(sign == "+")}
        vmcs.write(field, layout.set(vmcs.read(field), **changes))


def good_vmcs(profile: CpuProfile) -> Vmcs:
    """Return the VMCS of a process guest with EPT.

    Page 0x4000 holds a VMCS of our revision, 0x5000 a shadow VMCS; at 0x4020 there is a bad PDPTE.
    """
    memory = HostMemory(0x10000)
    vcpu = VmxState(Vmcs(memory, 0x1000), profile, vpid=1)
    vcpu.enable_ept(EPTP.encode(MT=6, walk_length=3, AD=1, addr=0x5000))
    memory.store(0x4000, VMCS_REVISION)
    memory.store(0x4020, 3)
    memory.store(0x5000, VMCS_REVISION | 1 << 31)
    return vcpu.vmcs


def broken(profile: CpuProfile, words: str) -> list[str]:
    """Return the names of the rules that the good VMCS breaks once changed."""
    vmcs = good_vmcs(profile)
    apply(vmcs, words)
    return [one.rule.name for one in check_entry(vmcs, profile)]
