"""A VMCS that was read from text, whatever printed it: checked as VM entry checks, its event and exit in words."""

from quire.arch import describe_exit
from quire.arch.decode import decode_qualification, decode_subject
from quire.dumps.dump import Answer, Dump, Surroundings
from quire.errors import MisuseError
from quire.vcpu.lint import lint_vmcs

__all__ = ["VmcsDump"]

_VALID = 1 << 31
_BASIC = 0xFFFF
_EVENTS = (
    "vm_entry_interruption_information",
    "vm_exit_interruption_information",
    "idt_vectoring_information",
)


class VmcsDump(Dump):
    """Fields by the names that ``quire decode vmcs-field`` shows."""

    #: Whether the fields are those of a VMCS, and not a guest's registers alone.
    is_vmcs = True

    def answer(self, around: Surroundings) -> Answer:
        answer = self.checked(self.given, around)
        self._say_exit(answer)
        for name in _EVENTS:
            value = self.given.get(name, 0)
            if value & _VALID:
                answer.decoded.append(decode_subject("interruption-info", value))
        return answer

    @staticmethod
    def checked(fields: dict[str, int], around: Surroundings) -> Answer:
        """Return what VM entry says of `fields`."""
        answer = Answer()
        try:
            answer.checks = lint_vmcs(fields, around.processor, answer.findings)
        except MisuseError as error:  # the profile is of a processor without VMX
            answer.words.append(f"not checked: {error}")
        return answer

    def _say_exit(self, answer: Answer) -> None:
        reason = self.given.get("exit_reason")
        if reason is None:
            return
        qualification = self.given.get("exit_qualification")
        answer.words.append(f"exit reason {reason:#x}: {describe_exit(reason, qualification or 0)}")
        if qualification:
            answer.decoded.append(decode_qualification(reason & _BASIC, qualification))
