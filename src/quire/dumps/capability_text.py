"""VMX capability MSRs as people have them: number or name and value, VirtualBox's log, the words of vmxcap.

They say what the machine allows: the VMCSs in the same text are checked for it.
"""

import re

from quire.arch.capabilities import VmxMsr
from quire.arch.decode_controls import decode_capability_msr
from quire.arch.known_processor import ANY_PROCESSOR
from quire.dumps.dump import Answer, Dump, Surroundings
from quire.dumps.lines import Line
from quire.dumps.vmxcap_words import VMXCAP_SECTIONS, VmxcapWords
from quire.errors import MisuseError
from quire.paging.lint import Severity

__all__ = ["CapabilityText", "capabilities_in"]

_VALUE = r"(?:0x)?([0-9a-f][0-9a-f_'`]{0,24})(?!\w)"
_NUMBERED = re.compile(
    r"(?:MSR )?(0x)?(4[89][0-9a-f])h?\b(?: \w{1,32})?[\s:=()|\]]{1,20}" + _VALUE, re.IGNORECASE
)
_NAMED = re.compile(
    r"(?:.{0,40}?\b)?(?:MSR_)?(?:IA32_)?VMX_([A-Z0-9_]{3,24}?)(?:_MSR)?(?: MSR)?(?: \((?:0x)?4[89][0-9a-f]h?\))?"
    r"[\s:=|]{1,40}" + _VALUE,
    re.IGNORECASE,
)
_PRINTED_DIGITS = 8  # of a value that is told to be hexadecimal by nothing else
_HEX_OF_SECTION = re.compile(r"Hex: 0x([0-9a-f]{1,16})$")
_NUMBERS = {int(msr) for msr in VmxMsr}
_NAMES = {msr.name: msr for msr in VmxMsr}
_OTHER_NAMES = {
    "PINBASED_CTLS": VmxMsr.PINBASED_CTLS,
    "PROCBASED_CTLS_2": VmxMsr.PROCBASED_CTLS2,
    "PROCBASED_CTLS_3": VmxMsr.PROCBASED_CTLS3,
    "TRUE_PINBASED": VmxMsr.TRUE_PINBASED_CTLS,
    "TRUE_PROCBASED": VmxMsr.TRUE_PROCBASED_CTLS,
    "TRUE_PROC_CTLS": VmxMsr.TRUE_PROCBASED_CTLS,
    "PROC_CTLS": VmxMsr.PROCBASED_CTLS,
    "PIN_CTLS": VmxMsr.PINBASED_CTLS,
    "EPT_VPID_CAPS": VmxMsr.EPT_VPID_CAP,
    "EPT_VPID_ENUM": VmxMsr.EPT_VPID_CAP,
    "BASIC_INFO": VmxMsr.BASIC,
    "VMFUNC_CTRL": VmxMsr.VMFUNC,
    "EXIT_CTLS_2": VmxMsr.EXIT_CTLS2,
}


def _msr(text: str) -> tuple[VmxMsr, int] | None:
    """Return MSR and value of a line, None if it has none."""
    found = _NUMBERED.match(text)
    if found is not None:
        number, value = int(found[2], 16), re.sub("[_'`]", "", found[3])
        bare = found[1] is None and not found[0].lower().endswith(f"0x{found[3].lower()}")
        if number not in _NUMBERS or (bare and len(value) < _PRINTED_DIGITS):
            return None  # two numbers of some other kind
        return VmxMsr(number), int(value, 16)
    found = _NAMED.match(text)
    if found is None:
        return None
    name = found[1].upper()
    known = _NAMES.get(name) or _OTHER_NAMES.get(name)
    return None if known is None else (known, int(re.sub("[_'`]", "", found[2]), 16))


class CapabilityText(Dump):
    """The capability MSRs of one machine."""

    title = "VMX capability MSRs, VirtualBox's log of them, vmxcap's output"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self.msrs: dict[VmxMsr, int] = {}
        self._words = VmxcapWords()

    @classmethod
    def begins(cls, text: str) -> bool:
        return _msr(text) is not None or text in VMXCAP_SECTIONS

    @property
    def holds(self) -> bool:
        return bool(self.msrs or self._words.msrs() or self.damaged)

    def take(self, line: Line) -> bool:
        found = _msr(line.text)
        if found is not None:
            msr, value = found
            return self.msrs.setdefault(msr, value) == value  # another value is that of another machine
        if self._words.begin(line.text):
            return True
        whole = _HEX_OF_SECTION.match(line.text)
        if whole is not None and self._words.msr is not None:
            self.msrs.setdefault(self._words.msr, int(whole[1], 16))
            return True
        return self._words.take(line.text)

    def values(self) -> dict[int, int]:
        """Return the MSRs by number: as they were given, and as vmxcap's words tell them."""
        return {int(msr): value for msr, value in (self._words.msrs() | self.msrs).items()}

    def facts(self) -> dict[str, str]:
        return {
            f"IA32_VMX_{VmxMsr(number).name} ({number:#x})": f"{value:#x}"
            for number, value in self.values().items()
        }

    def answer(self, around: Surroundings) -> Answer:
        answer = Answer()
        for number, value in self.values().items():
            answer.decoded.append(decode_capability_msr(VmxMsr(number), value))
        try:
            ANY_PROCESSOR.with_msrs(self.values())
        except MisuseError as error:
            answer.find(
                Severity.ERROR,
                "capability MSR",
                "SDM 3D §A",
                str(error),
                "read the MSR again: rdmsr prints it whole",
            )
        return answer


def capabilities_in(dumps: list[Dump]) -> dict[int, int]:
    """Return the MSRs that the records of a text tell, the last of each; none of a record that contradicts itself."""
    found: dict[int, int] = {}
    for dump in dumps:
        if isinstance(dump, CapabilityText):
            try:
                ANY_PROCESSOR.with_msrs(dump.values())
            except MisuseError:
                continue
            found |= dump.values()
    return found
