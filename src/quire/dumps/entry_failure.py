"""A VM entry that failed, as QEMU and others report KVM's answer: an exit reason, or a VM-instruction error."""

import re

from quire.arch import VmInstructionError, describe_exit
from quire.arch.exits import ENTRY_FAILURE
from quire.arch.vmcb import exit_code_name
from quire.dumps.dump import Answer, Dump, Surroundings
from quire.dumps.lines import Line
from quire.paging.lint import Severity

__all__ = ["EntryFailureLine"]

_FAILED = re.compile(
    r"(?:error: )?entry failed, hardware error (?:0x)?([0-9a-f]{1,16})$"
    r"|.{0,80}?\bhardware_entry_failure_reason(?: is|:|=)? ?(?:0x)?([0-9a-f]{1,16})\b"
    r"|(?:d\d{1,5}v\d{1,5} )?vmentry failure \(reason (?:0x)?([0-9a-f]{1,8})\)",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"If you're running a guest on an Intel machine|support, the failure can be most likely"
    r"|state for Intel VT|less recent Intel processors|Invalid guest state"
)
_REFUSED = {
    7: "its control fields",
    8: "its host state",
}
_WORD = 32


class EntryFailureLine(Dump):
    """One failed entry."""

    title = "VM entry that failed, as KVM, QEMU or Xen report it"

    @classmethod
    def begins(cls, text: str) -> bool:
        return bool(_FAILED.match(text))

    def take(self, line: Line) -> bool:
        found = _FAILED.match(line.text)
        if found is None:
            return bool(_ADVICE.search(line.text[:200]))
        if self.given:
            return False
        self.note("reason", int(found[1] or found[2] or found[3], 16), line)
        return True

    @property
    def of_vmx(self) -> bool:
        """Whether a processor of Intel's said it."""
        return not self.given.get("reason", 0) >> _WORD

    def answer(self, around: Surroundings) -> Answer:
        answer = Answer()
        reason = self.given["reason"]
        known = {int(error): error for error in VmInstructionError}
        if not self.of_vmx:
            answer.words.append(
                f"{reason:#x} is AMD's: {exit_code_name(reason)}; AMD's rules are not checked"
            )
        elif reason & ENTRY_FAILURE:
            answer.find(
                Severity.ERROR,
                "VM entry",
                "SDM 3C §26.8",
                describe_exit(reason, 0),
                "the guest state breaks a rule: paste the VMCS (modprobe kvm_intel dump_invalid_vmcs=1)",
            )
        elif reason in known:
            answer.find(
                Severity.ERROR,
                "VM entry",
                "SDM 3C §30.4",
                f"VM-instruction error {reason}: {known[reason].text}",
                f"check {_REFUSED.get(reason, 'the state of the VMCS')}: paste the VMCS, and IA32_VMX_* of the machine",
            )
        else:
            answer.words.append(
                f"{reason:#x} is no exit reason of a failed entry and no VM-instruction error"
            )
        return answer
