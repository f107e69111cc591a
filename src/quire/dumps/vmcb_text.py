"""AMD's VMCB as KVM's dump_vmcb prints it: labels with values, most of them hexadecimal without 0x, some decimal.

Its fields are named and its exit is put into words. AMD's rules are not checked, and nothing is taken for Intel's.
"""

import re

from quire.arch import EFER
from quire.arch.vmcb import SvmExit, exit_code_name, vmcb_field
from quire.dumps.dump import Answer, Dump, Surroundings
from quire.dumps.lines import Line
from quire.dumps.nested_fault import say_nested_fault

__all__ = ["VmcbText"]

_HEADING = re.compile(r"VMCB (Control|State Save) Area:?$")
_ADDRESS = re.compile(
    r"(?:SVM |SEV[\w-]{0,8} )?(?:vCPU\d{1,6} )?VMCB [0-9a-fx]{1,18}, last attempted VMRUN on CPU \d{1,6}$"
)
_DECIMAL = frozenset(
    {"pause_filter_count", "pause_filter_threshold", "guest_asid", "tlb_control", "nested_control", "vmpl", "cpl",
     "virtualization_extensions"}
)  # fmt: skip
#: KVM's labels of the control area, and the fields that they are.
_CONTROL = {
    "cr_read": "intercept_cr_reads",
    "cr_write": "intercept_cr_writes",
    "dr_read": "intercept_dr_reads",
    "dr_write": "intercept_dr_writes",
    "exceptions": "intercept_exceptions",
    "pause filter count": "pause_filter_count",
    "pause filter threshold": "pause_filter_threshold",
    "iopm_base_pa": "iopm_base_pa",
    "msrpm_base_pa": "msrpm_base_pa",
    "tsc_offset": "tsc_offset",
    "asid": "guest_asid",
    "tlb_ctl": "tlb_control",
    "int_ctl": "interrupt_control",
    "int_vector": "interrupt_vector",
    "int_state": "interrupt_shadow",
    "exit_code": "exitcode",
    "exit_info1": "exitinfo1",
    "exit_info2": "exitinfo2",
    "exit_int_info": "exitintinfo",
    "nested_ctl": "nested_control",
    "misc_ctl": "nested_control",
    "nested_cr3": "n_cr3",
    "avic_vapic_bar": "avic_apic_bar",
    "ghcb": "ghcb_gpa",
    "event_inj": "eventinj",
    "virt_ext": "virtualization_extensions",
    "misc_ctl2": "virtualization_extensions",
    "next_rip": "nrip",
    "avic_backing_page": "avic_backing_page",
    "avic_logical_id": "avic_logical_table",
    "avic_physical_id": "avic_physical_table",
    "vmsa_pa": "vmsa_pointer",
}
#: Labels of numbers that are the upper half of another field.
_UPPER_HALVES = {"exit_int_info_err": "exitintinfo", "event_inj_err": "eventinj"}
_STATE = {
    **{name: name for name in ("vmpl", "cpl", "efer", "cr0", "cr2", "cr3", "cr4", "dr6", "dr7", "rip", "rsp")},
    "rflags": "rflags",
    "rax": "rax",
    **{name: name for name in ("star", "lstar", "cstar", "sfmask", "kernel_gs_base", "dbgctl", "br_from", "br_to")},
    **{name: name for name in ("sysenter_cs", "sysenter_esp", "sysenter_eip", "s_cet", "ssp")},
    "gpat": "g_pat",
    "excp_from": "last_excp_from",
    "excp_to": "last_excp_to",
    "isst_addr": "isst_address",
}  # fmt: skip
_SEGMENT = re.compile(
    r"(es|cs|ss|ds|fs|gs|gdtr|ldtr|idtr|tr): {1,5}s: ([0-9a-f]{4}) a: ([0-9a-f]{4}) l: ([0-9a-f]{8}) b: ([0-9a-f]{16})$"
)
_SEGMENT_CUT = re.compile(r"(es|cs|ss|ds|fs|gs|gdtr|ldtr|idtr|tr): {1,5}s:")
_PARTS = ("selector", "attributes", "limit", "base")
_CONTROL_LINE = re.compile(
    r"([a-z_0-9]{3,20}|pause filter \w{5,9}): {0,20}([0-9a-f]{0,16})(?: ([0-9a-f]{8}))?$"
)
_STATE_PAIR = re.compile(r"\b([a-z_0-9]{3,16}): {0,20}([0-9a-f]{0,16})(?= |$)")
_WORD_BITS = 32


class VmcbText(Dump):
    """The areas Control and State Save."""

    title = "VMCB as KVM's dump_vmcb prints it"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self.area = ""
        self._upper: dict[str, int] = {}

    @classmethod
    def begins(cls, text: str) -> bool:
        return bool(_HEADING.match(text) or _ADDRESS.match(text))

    def take(self, line: Line) -> bool:
        heading = _HEADING.match(line.text)
        if heading is not None:
            if heading[1] == self.area or (heading[1] == "Control" and self.area):
                return False
            self.area = heading[1]
            return True
        if _ADDRESS.match(line.text):
            return not self.lines
        if self.area == "Control":
            return self._take_control(line)
        return bool(self.area) and self._take_state(line)

    def _take_control(self, line: Line) -> bool:
        found = _CONTROL_LINE.match(line.text)
        if found is None:
            return False
        label, text, second = found.groups()
        if label == "intercepts":
            return self._take_intercepts(line, text, second)
        if label in _UPPER_HALVES and text:
            self._upper[_UPPER_HALVES[label]] = int(text, 16)
            return True
        if label not in _CONTROL:
            return False
        self._keep(line, _CONTROL[label], text)
        return True

    def _take_intercepts(self, line: Line, first: str, second: str | None) -> bool:
        """One number of 64 bits, or two of 32."""
        if second is None and len(first) == 16:
            first, second = first[8:], first[:8]
        if len(first) != 8 or second is None:
            self.damage(line, "intercept_word_3", f"{len(first)} of 8 digits are there")
            return True
        self.note("intercept_word_3", int(first, 16), line)
        self.note("intercept_word_4", int(second, 16), line)
        return True

    def _take_state(self, line: Line) -> bool:
        segment = _SEGMENT.match(line.text)
        if segment is not None:
            for part, text in zip(_PARTS, segment.groups()[1:], strict=True):
                self.note(f"{segment[1]}_{part}", int(text, 16), line)
            return True
        if (cut := _SEGMENT_CUT.match(line.text)) is not None:
            self.damage(line, cut[1], "the columns of the segment are not whole")
            return True
        taken = False
        for label, text in _STATE_PAIR.findall(line.text):
            if label in _STATE:
                taken = True
                self._keep(line, _STATE[label], text)
        return taken

    def _keep(self, line: Line, name: str, text: str) -> None:
        """Keep a value: KVM pads hexadecimal ones to 4, 8 or 16 digits."""
        if name in _DECIMAL and text.isdecimal():
            self.note(name, int(text) & ((1 << vmcb_field(name).bits) - 1), line)
        elif len(text) not in (4, 8, 16):
            self.damage(line, name, f"{len(text)} digits are there, and it is printed with more")
        else:
            self.note(name, int(text, 16), line)

    def facts(self) -> dict[str, str]:
        return {name: f"{self._whole(name):#x}" for name in self.given}

    def _whole(self, name: str) -> int:
        return self.given[name] | self._upper.get(name, 0) << _WORD_BITS

    def answer(self, around: Surroundings) -> Answer:
        answer = Answer()
        answer.words.append("a VMCB is AMD's: its fields are named, and AMD's rules of VMRUN are not checked")
        code = self.given.get("exitcode")
        if code is not None:
            answer.words.append(f"EXITCODE {code:#x}: {exit_code_name(code)}")
            if code == SvmExit.NPF and "exitinfo1" in self.given:
                say_nested_fault(answer, self.given["exitinfo1"], self.given.get("exitinfo2"))
        if "efer" in self.given:
            said = EFER.flags(self.given["efer"])
            answer.words.append(f"EFER {self.given['efer']:#x}: {said}")
        return answer
