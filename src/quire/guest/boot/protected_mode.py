"""The state in which a multiboot kernel is entered: 32-bit protected mode, no paging, flat segments, interrupts off.

A GDT at 0x1000 has flat code and data (selectors 8 and 0x10), which the kernel replaces by its own. CR0 has PE and
little else, CR3, CR4 and EFER are 0; no IDT (Multiboot Specification §3.2).
"""

import struct

from quire.arch import ACCESS_RIGHTS, CR0, LOW32, RFLAGS
from quire.guest.boot.image import Write
from quire.machine import Vcpu

__all__ = ["start_protected_mode"]

_GDT = 0x1000
#: Flat 32-bit code and data (SDM 3A §3.4.5), as descriptors and as access rights.
_DESCRIPTORS = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
_CODE, _DATA = 0x08, 0x10
_CODE_RIGHTS = ACCESS_RIGHTS.encode(type=11, S=1, P=1, DB=1, G=1)
_DATA_RIGHTS = ACCESS_RIGHTS.encode(type=3, S=1, P=1, DB=1, G=1)
_TSS_RIGHTS = ACCESS_RIGHTS.encode(type=11, P=1)
_UNUSABLE = ACCESS_RIGHTS.mask("unusable")
_TASK_LIMIT = 0xFFFF


def start_protected_mode(vcpu: Vcpu, write: Write) -> None:
    """Put `vcpu` into 32-bit protected mode without paging. General registers and RIP stay as they are: 0."""
    write(_GDT, struct.pack(f"<{len(_DESCRIPTORS)}Q", *_DESCRIPTORS))
    vcpu.processor.reset(CR0.encode(PE=1, ET=1), 0, 0, 0)
    fields = {
        "guest_gdtr_base": _GDT,
        "guest_gdtr_limit": 8 * len(_DESCRIPTORS) - 1,
        "guest_idtr_base": 0,
        "guest_idtr_limit": 0,
    }
    for name in ("es", "cs", "ss", "ds", "fs", "gs"):
        code = name == "cs"
        fields[f"guest_{name}_selector"] = _CODE if code else _DATA
        fields[f"guest_{name}_base"] = 0
        fields[f"guest_{name}_limit"] = LOW32
        fields[f"guest_{name}_access_rights"] = _CODE_RIGHTS if code else _DATA_RIGHTS
    for name, rights in (("ldtr", _UNUSABLE), ("tr", _TSS_RIGHTS)):
        fields[f"guest_{name}_selector"] = fields[f"guest_{name}_base"] = 0
        fields[f"guest_{name}_limit"] = _TASK_LIMIT
        fields[f"guest_{name}_access_rights"] = rights
    vcpu.vmcs.write_many(**fields)
    vcpu.cpu.registers.write("rflags", RFLAGS.encode(always_1=1))
