"""What is spoiled of a good VMCS: every bit of every field, and values and pairs that single bits do not reach."""

import itertools
from collections.abc import Iterator

from bases import ALL_ONES, ENTRY_LIST, PDPT, VIRTUAL_APIC

from quire.arch import ENTRY_CONTROLS, EXIT_CONTROLS, VMCS_FIELDS, VmcsField, VmcsType

__all__ = ["fields_to_flip", "value_cases"]

Change = dict[str, int]
Words = list[tuple[int, int]]

_EVENTS = ("external interrupt", "NMI", "#GP", "INT n")
_EVENT_FIELDS = (
    *("vm_entry_interruption_information", "vm_entry_exception_error_code", "vm_entry_instruction_length"),
    *("guest_interruptibility_state", "guest_activity_state", "guest_pending_debug_exceptions"),
    *("guest_rflags", "guest_cr0", "pin_based_controls", "guest_ss_access_rights"),
)
# Anything may be in the timer, and Bochs has no clock here; a longer list of MSRs runs into what else is in memory.
_LEFT_OUT = ("vmx_preemption_timer_value", "vm_entry_msr_load_count")
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")


def fields_to_flip(base: str, fields: Change) -> list[VmcsField]:
    """Return the fields whose bits are flipped one by one: all that the base sets, of the host only once."""
    known = [field for field in VMCS_FIELDS if field.name in fields and field.name not in _LEFT_OUT]
    if base in _EVENTS:
        return [field for field in known if field.name in _EVENT_FIELDS]
    if base == "all pointers":  # another list of MSRs is whatever lies there
        known = [field for field in known if field.name != "vm_entry_msr_load_address"]
    return [field for field in known if base == "long mode" or field.type is not VmcsType.HOST]


def value_cases() -> Iterator[tuple[str, Change, Words]]:
    """Yield (base, fields, words of memory) of each case."""
    yield from _segments()
    yield from _events()
    yield from _states()
    yield from _registers()
    yield from _lists()
    yield from _pointers()


def _segments() -> Iterator[tuple[str, Change, Words]]:
    for base, (name, kind, level) in itertools.product(
        ("long mode", "real mode"), itertools.product((*SEGMENTS, "ldtr", "tr"), range(16), range(4))
    ):
        system = 0 if name in ("ldtr", "tr") else 0x10
        size = 0x2000 if name == "cs" and base == "long mode" else 0
        rights = kind | system | level << 5 | 0x80 | size
        yield base, {f"guest_{name}_access_rights": rights, f"guest_{name}_limit": 0xFFFF}, []
    for name, limit, units in itertools.product(
        (*SEGMENTS, "ldtr", "tr"), (0, 0xFFF, 0x1000, 0xF_FFFF, 0x10_0000), (0, 1)
    ):
        rights = {"cs": 0x209B, "ldtr": 0x82, "tr": 0x8B}.get(name, 0x4093) | units << 15
        yield "long mode", {f"guest_{name}_limit": limit, f"guest_{name}_access_rights": rights}, []
    for name, selector in itertools.product(
        ("cs", "ss", "ds", "ldtr", "tr"), (0, 3, 4, 0x10, 0x13, 0x14, 0xFFFF)
    ):
        for unusable in (0, 0x1_0000):
            rights = {"cs": 0xA09B, "ldtr": 0x82, "tr": 0x8B}.get(name, 0xC093) | unusable
            yield "long mode", {f"guest_{name}_selector": selector, f"guest_{name}_access_rights": rights}, []
            yield (
                "long mode, CPL 3",
                {f"guest_{name}_selector": selector, f"guest_{name}_access_rights": rights},
                [],
            )


def _events() -> Iterator[tuple[str, Change, Words]]:
    vectors = (0, 1, 2, 3, 6, 8, 10, 11, 12, 13, 14, 17, 18, 21, 31, 32, 255)
    for kind, vector, coded in itertools.product(range(8), vectors, (0, 1)):
        information = 1 << 31 | coded << 11 | kind << 8 | vector
        for base in ("long mode", "real mode"):
            change = {"vm_entry_interruption_information": information, "vm_entry_instruction_length": 1}
            yield base, {**change, "guest_rflags": 0x202}, []
    for kind, length in itertools.product((4, 5, 6), (0, 1, 15, 16)):
        information = 1 << 31 | kind << 8 | 3
        yield (
            "long mode",
            {"vm_entry_interruption_information": information, "vm_entry_instruction_length": length},
            [],
        )
    for kind, vector, state in itertools.product(range(8), (1, 2, 13, 18), range(4)):
        coded = (1 << 11) if kind == 3 and vector == 13 else 0
        information = 1 << 31 | coded | kind << 8 | vector
        change = {"vm_entry_interruption_information": information, "guest_activity_state": state}
        yield "long mode", {**change, "guest_rflags": 0x202, "vm_entry_instruction_length": 1}, []


def _states() -> Iterator[tuple[str, Change, Words]]:
    for blocking, flags, state in itertools.product(range(32), (2, 0x202), range(5)):
        change = {
            "guest_interruptibility_state": blocking,
            "guest_rflags": flags,
            "guest_activity_state": state,
        }
        yield "long mode", change, []
    for pending, flags, control, blocking in itertools.product(
        (0, 0x1000, 0x4000, 0x5000, 0x1_0000, 0x1_1000), (2, 0x102), (0, 2), (0, 1, 2)
    ):
        change = {"guest_pending_debug_exceptions": pending, "guest_ia32_debugctl": control}
        flags |= 0x200
        yield "long mode", {**change, "guest_rflags": flags, "guest_interruptibility_state": blocking}, []
    yield "long mode, CPL 3", {"guest_activity_state": 1}, []


def _registers() -> Iterator[tuple[str, Change, Words]]:
    for value in (0x7FFF_FFFF_FFFF, 0x8000_0000_0000, 0xFFFF_8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 1 << 63):
        for name in (
            "guest_rip",
            "guest_ia32_sysenter_esp",
            "guest_ia32_sysenter_eip",
            "host_ia32_sysenter_esp",
        ):
            yield "long mode", {name: value}, []
        for name in ("fs", "gs", "tr", "ldtr", "gdtr", "idtr"):
            yield "long mode", {f"guest_{name}_base": value}, []
        for name in (
            "host_rip",
            "host_fs_base",
            "host_gs_base",
            "host_tr_base",
            "host_gdtr_base",
            "host_idtr_base",
        ):
            yield "long mode", {name: value}, []
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "tr"):
        yield "long mode", {f"host_{name}_selector": 0}, []
    for kind, byte in itertools.product(range(9), (0, 3, 7)):
        value = 0x0606_0606_0606_0606 & ~(0xFF << 8 * byte) | kind << 8 * byte
        yield "long mode", {"guest_ia32_pat": value}, []
        yield "long mode", {"host_ia32_pat": value}, []
    for base, efer, paged in itertools.product(
        ("long mode", "PAE", "real mode"), (0, 0x100, 0x400, 0x500, 0xD00), (0, 1)
    ):
        change = {"guest_ia32_efer": efer}
        yield base, change if paged else {**change, "guest_cr0": 0x21}, []
    for efer in (0, 0x100, 0x400, 0x500):
        yield "long mode", {"host_ia32_efer": efer}, []
    for cr0, cr4, control in itertools.product(
        (0x20, 0x21, 0x8000_0020, 0x8000_0021), (0x2000, 0x2020, 0x2_2020), (0, 1)
    ):
        entry = 0x11FB | ENTRY_CONTROLS.encode(ia32e_guest=control)
        yield "long mode", {"guest_cr0": cr0, "guest_cr4": cr4, "vm_entry_controls": entry}, []
        yield "real mode", {"guest_cr0": cr0, "guest_cr4": cr4, "vm_entry_controls": entry}, []
    for n in range(4):
        for value in (
            0,
            1,
            0x2001,
            0x2003,
            0x2005,
            0x2021,
            0x2041,
            0x2081,
            0x2101,
            0x2201,
            0x2E01,
            1 << 40 | 1,
            1 << 63 | 1,
            0x1E6,
        ):
            yield "PAE", {f"guest_pdpte{n}": value}, []
            yield "PAE without EPT", {}, [(PDPT + 8 * n, value)]


def _lists() -> Iterator[tuple[str, Change, Words]]:
    values = {
        0x10: (0, ALL_ONES),
        0x174: (0, ALL_ONES),
        0x175: (0, 1 << 47, 0xFFFF_8000_0000_0000),
        0x176: (0, 1 << 47, 0xFFFF_8000_0000_0000),
        0x277: (0x0606_0606_0606_0606, 0x0606_0606_0606_0602, 0x0806_0606_0606_0606),
        0xC000_0080: (0xD00, 0x500, 0x100, 0, 0xD02, 0x1D00),
        0xC000_0081: (0, ALL_ONES),
        0xC000_0082: (0, 1 << 47, 0xFFFF_8000_0000_0000),
        0xC000_0083: (0, 1 << 47),
        0xC000_0084: (0, ALL_ONES),
        0xC000_0100: (0,),
        0xC000_0101: (0,),
        0xC000_0102: (0, 1 << 47),
        0xC000_0103: (0, 1 << 32),
        0x9B: (0,),
        0x9E: (0,),
        0x800: (0,),
        0x8FF: (0,),
        0x1234: (0,),
    }
    for msr, data in values.items():
        for value, n in itertools.product(data, range(2)):
            yield "all pointers", {}, [(ENTRY_LIST + 16 * n, msr), (ENTRY_LIST + 16 * n + 8, value)]
    for n in range(2):
        yield "all pointers", {}, [(ENTRY_LIST + 16 * n, 0xC000_0081 | 1 << 32)]
        yield "all pointers", {}, [(ENTRY_LIST + 16 * n, 0xC000_0081 | 1 << 63)]


def _pointers() -> Iterator[tuple[str, Change, Words]]:
    for threshold, task in itertools.product(range(18), (0x00, 0x30, 0x70, 0xF0)):
        yield "TPR shadow", {"tpr_threshold": threshold}, [(VIRTUAL_APIC + 0x80, task)]
    for address in (0x3000, 0x3001, 0x3800, 1 << 40, 0x23_1000, 0xFFFF_FFFF):
        for revision in (0x2B, 0, 0x8000_002B, 0x2C):
            for base in ("long mode", "all pointers"):
                yield base, {"vmcs_link_pointer": address}, [(0x3000, revision)]
    for kind, length, flags in itertools.product(range(8), range(8), (0, 0x40, 0x80, 0x800)):
        yield "long mode", {"ept_pointer": 0x1_0000 | flags | length << 3 | kind}, []
    for low, controls in itertools.product(range(16), (0x3E, 0x16, 0x1E, 0x36)):
        yield "long mode", {"pin_based_controls": controls | low & 1 | (low & 8)}, []
    for count in (0, 1, 2, 3, 4, 5, 8, 0x100, ALL_ONES >> 32):
        yield "long mode", {"cr3_target_count": count}, []
    for name in ("vm_exit_msr_store", "vm_exit_msr_load", "vm_entry_msr_load"):
        for address, count in itertools.product((0, 8, 0x1000, (1 << 40) - 16, (1 << 40) - 32), (0, 1, 2)):
            if name != "vm_entry_msr_load" or address >> 39 or address & 15 or not count:
                yield "long mode", {f"{name}_address": address, f"{name}_count": count}, []
    loads = EXIT_CONTROLS.encode(host_address_space_size=1) | 0x3_6DFB
    yield "long mode", {"vm_exit_controls": loads & ~EXIT_CONTROLS.mask("host_address_space_size")}, []
    yield (
        "long mode",
        {"vm_exit_controls": loads | EXIT_CONTROLS.mask("save_preemption_timer"), "pin_based_controls": 0x1F},
        [],
    )
