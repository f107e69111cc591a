"""Registers as QEMU prints them: ``info registers`` and what follows a VM entry that failed.

They are the guest's: where a VM entry failed, they are checked as the guest state of a VMCS of which nothing else is
known.
"""

import re

from quire.arch import CR0, CR4, EFER
from quire.arch.decode import decode_subject
from quire.dumps.dump import Answer, Surroundings
from quire.dumps.lines import Line
from quire.dumps.vmcs_dump import VmcsDump

__all__ = ["QemuRegisters"]

_GENERAL = re.compile(
    r"\b([ER][A-D]X|[ER][SD]I|[ER][SB]P|R\d\d?|[ER]IP|[ER]FL|CR[0-4]|DR[0-7]|EFER) ?= ?([0-9a-f]*)(?![0-9a-zA-Z])"
)
_FIRST = re.compile(r"[ER]AX ?= ?[0-9a-f]{8,16} [ER]BX ?=")
_CPU = re.compile(r"CPU#\d{1,6}$|\(qemu\) info registers(?: -a)?$")
_SEGMENT = re.compile(
    r"(ES|CS|SS|DS|FS|GS|LDT|TR) ?= ?([0-9a-f]{4}) ([0-9a-f]{8,16}) ([0-9a-f]{8}) ([0-9a-f]{8})(?: .{0,60})?$"
)
_TABLE = re.compile(r"(GDT|IDT) ?= {1,12}([0-9a-f]{8,16}) ([0-9a-f]{8})$")
_BELONGS = re.compile(r"(?:CC[SOD]|FCW|FPR\d|XMM\d{1,2}|YMM\d{2}|Code|Opmask\d\d|[C-GS]S|LDT|TR|GDT|IDT) ?=")
_NAMES = {
    "RSP": "guest_rsp",
    "ESP": "guest_rsp",
    "RIP": "guest_rip",
    "EIP": "guest_rip",
    "RFL": "guest_rflags",
    "EFL": "guest_rflags",
    "CR0": "guest_cr0",
    "CR3": "guest_cr3",
    "CR4": "guest_cr4",
    "DR7": "guest_dr7",
    "EFER": "guest_ia32_efer",
}
_SEGMENTS = {"LDT": "ldtr", "GDT": "gdtr", "IDT": "idtr"}
#: QEMU keeps attributes where a descriptor has them; a VMCS has them from bit 0 on, and bit 16 for unusable.
_ATTRIBUTES = 0xF0FF
_ATTRIBUTES_SHIFT = 8
_PRESENT = 1 << 7
_UNUSABLE = 1 << 16
_NARROW = 8


class QemuRegisters(VmcsDump):
    """The registers of one vCPU."""

    is_vmcs = False
    title = "registers as QEMU's info registers prints them"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self.others: dict[str, int] = {}

    @classmethod
    def begins(cls, text: str) -> bool:
        return bool(_FIRST.match(text) or _CPU.match(text))

    @property
    def holds(self) -> bool:
        return bool(self.given or self.others or self.damaged)

    def take(self, line: Line) -> bool:
        text = line.text
        if _CPU.match(text) or _FIRST.match(text):
            if self.others or self.given or (_CPU.match(text) and self.lines):
                return False
            if _CPU.match(text):
                return True
        if (found := _SEGMENT.match(text)) is not None:
            return self._take_segment(line, found)
        if (found := _TABLE.match(text)) is not None:
            name = _SEGMENTS[found[1]]
            self.note(f"guest_{name}_base", int(found[2], 16), line)
            self.note(f"guest_{name}_limit", int(found[3], 16), line)
            return True
        taken = False
        for name, value in _GENERAL.findall(text):
            taken = True
            if len(value) < _NARROW:
                self.damage(line, name, f"{len(value)} digits are there, and it is printed with 8 or 16")
            elif name in _NAMES:
                self.note(_NAMES[name], int(value, 16), line)
            else:
                self.others[name] = int(value, 16)
        return taken or bool(_BELONGS.match(text))

    def _take_segment(self, line: Line, found: re.Match[str]) -> bool:
        low = found[1].lower()
        name = f"guest_{_SEGMENTS.get(found[1], low)}"
        attributes = int(found[5], 16) >> _ATTRIBUTES_SHIFT & _ATTRIBUTES
        rights = attributes if attributes & _PRESENT else attributes | _UNUSABLE
        for part, value in (
            ("selector", int(found[2], 16)),
            ("base", int(found[3], 16)),
            ("limit", int(found[4], 16)),
            ("access_rights", rights),
        ):
            self.note(f"{name}_{part}", value, line)
        return True

    def facts(self) -> dict[str, str]:
        return super().facts() | {name.lower(): f"{value:#x}" for name, value in self.others.items()}

    def answer(self, around: Surroundings) -> Answer:
        answer = self._as_vmcs(around) if around.failed_entry else Answer()
        for name, subject in (("guest_cr0", "cr0"), ("guest_cr4", "cr4"), ("guest_ia32_efer", "efer")):
            if name in self.given:
                answer.decoded.append(decode_subject(subject, self.given[name]))
        answer.words.append(_mode(self.given))
        return answer

    def _as_vmcs(self, around: Surroundings) -> Answer:
        """Check what VM entry would have been given: KVM adds CR0.NE and CR4.VMXE, which the guest does not see."""
        fields = dict(self.given)
        for name, bits in (("guest_cr0", CR0.mask("NE")), ("guest_cr4", CR4.mask("VMXE"))):
            if name in fields:
                fields[name] |= bits
        answer = self.checked(fields, around)
        answer.words.append(
            "checked as the guest state of the VM entry that failed, with CR0.NE and CR4.VMXE set"
        )
        return answer


def _mode(given: dict[str, int]) -> str:
    """Say in which mode the processor was, as far as the registers tell it."""
    if not {"guest_cr0", "guest_cr4", "guest_ia32_efer"} <= given.keys():
        return "the mode is not known: CR0, CR4 and EFER are not all there"
    cr0, cr4, efer = given["guest_cr0"], given["guest_cr4"], given["guest_ia32_efer"]
    if not CR0.get(cr0, "PE"):
        return "real mode"
    if not CR0.get(cr0, "PG"):
        return "protected mode without paging"
    if EFER.get(efer, "LMA"):
        return f"long mode with {5 if CR4.get(cr4, 'LA57') else 4}-level paging"
    return "protected mode with " + ("PAE paging" if CR4.get(cr4, "PAE") else "32-bit paging")
