"""VM entries of Bochs, recorded, against every VM-entry check: entered, failed with which error, or which exit.

For each of a dozen VMCSs that enter, every bit of every field that the recording sets is flipped alone, and values
and pairs are tried that single bits do not reach: event types and vectors, activity and blocking, segment rights,
lists of MSRs, PDPTEs. What Bochs does otherwise than the manual is named in ``DEVIATIONS``.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from quire.arch import (
    CR4,
    LOW32,
    MSR_ENTRY,
    PENDING_DEBUG_EXCEPTIONS,
    VMCS_REVISION,
    VmInstructionError,
    field_by_name,
)
from quire.memory import HostMemory
from quire.testing.oracles.bochs_vectors import bochs_profile, vectors
from quire.testing.suite import Setting, Suite
from quire.testing.tally import Tally
from quire.vcpu.checks import BrokenRule, check_entry
from quire.vcpu.vmcs import Vmcs

__all__ = ["DEVIATIONS", "SUITES", "Attempt", "Recording", "said"]

#: The recorded VMCSs; each is a case.
_BASES = (
    "long mode",
    "long mode, CPL 3",
    "PAE",
    "PAE without EPT",
    "real mode",
    "virtual-8086",
    "all pointers",
    "TPR shadow",
    "external interrupt",
    "NMI",
    "#GP",
    "INT n",
)
_STEP = 5  # of the attempts that a run that is not whole makes
_UNKNOWN = ("lost", "refused")  # Bochs died of an address without memory; it has no such field
_MEMORY = 0x40_0000
_VMCS = 0x23_1000  # where the recording has its VMCS
_RULE_FAILS = tuple(
    int(error)
    for error in (VmInstructionError.ENTRY_CONTROL_FIELDS, VmInstructionError.ENTRY_HOST_STATE_FIELDS)
)


@dataclass(frozen=True, slots=True)
class Deviation:
    """A check that Bochs does not make, or not of every value; `when` tells of which, by the value that breaks it.

    `then` is the outcome if it is not that of the other rules.
    """

    name: str
    rule: str
    when: Callable[[int], bool] = lambda value: True
    then: str = ""

    def explains(self, broken: list[BrokenRule], outcome: str) -> bool:
        """Return whether Bochs' outcome is that of the rules without this one."""
        if not broken or broken[0].rule.name != self.rule or not self.when(broken[0].value):
            return False
        return outcome == (self.then or said([one for one in broken if one.rule.name != self.rule]))


#: What Bochs does otherwise than the manual. A test fails when one disappears from the vectors.
DEVIATIONS = (
    Deviation("E1: injects events that do not end the guest's activity state", "event in activity state"),
    Deviation(
        "E2: enters IA-32e mode with CR0.PG clear", "IA-32e mode", lambda cr4: bool(CR4.get(cr4, "PAE"))
    ),
    Deviation(
        "E3: wants an error code with CR0.PE clear unless guests are unrestricted", "deliver error code"
    ),
    Deviation("E4: takes reserved bits of IA32_DEBUGCTL", "DEBUGCTL"),
    Deviation("E5: takes a single step that is due and not pending", "pending single step"),
    Deviation(
        "E6: looks at bits 31:0 of the pending debug exceptions only",
        "pending debug reserved bits",
        lambda value: not value & LOW32 & PENDING_DEBUG_EXCEPTIONS.reserved_mask,
    ),
    Deviation("E7: takes any RIP for 64-bit code", "RIP"),
    Deviation(
        "E8: takes entry to SMM outside SMM for a guest in SMM", "system-management mode", then="exit 33 0"
    ),
    Deviation("E10: loads MSRs that only SMM may write", "MSR entry"),
    Deviation("E11: loads MSRs that it does not have, and reserved bits of those that it has", "MSR value"),
)
WRAPPED_COUNT = "E9: computes the end of a list of MSRs with 32 bits"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One recorded entry: what was changed in the VMCS called `base` and in memory, and what came of it."""

    base: str
    fields: dict[str, int]
    words: dict[int, int]
    outcome: str


class Recording:
    """The recorded VMCSs and attempts, and the checks of Quire on any of them."""

    def __init__(self) -> None:
        made = vectors("entry")
        self.profile = bochs_profile(made)
        self.bases: dict[str, Any] = made["bases"]
        self._bits, self._cases = made["bits"], made["cases"]
        self._revision = made["about"]["capabilities"]["0x480"] & 0x7FFF_FFFF
        self._memory = HostMemory(_MEMORY, "recorded entries")

    def attempts(self, base: str) -> Iterator[Attempt]:
        """Yield what was tried of the VMCS called `base`, in the recording's order."""
        fields = self.bases[base]["fields"]
        for name, field, outcome, mask in self._bits:
            bits = int(mask, 0) if name == base else 0
            for bit in range(field_by_name(field).bits):
                if bits >> bit & 1:
                    yield Attempt(base, {field: fields[field] ^ 1 << bit}, {}, outcome)
        for name, change, words, outcome in self._cases:
            if name == base:
                yield Attempt(base, change, {where: word for where, word in words}, outcome)

    def check(self, attempt: Attempt) -> list[BrokenRule]:
        """Return the rules that Quire finds broken."""
        base = self.bases[attempt.base]
        vmcs = Vmcs(self._memory, _VMCS)
        vmcs.write_many(**{**base["fields"], **attempt.fields})
        words = {**dict(base["words"]), **attempt.words}
        for where, word in words.items():
            self._memory.store(where, self._translated(word))
        try:
            return check_entry(vmcs, self.profile)
        finally:
            for where in words:
                self._memory.store(where, 0)

    def _translated(self, word: int) -> int:
        """A VMCS region begins with the processor's revision identifier: Bochs' is not Quire's."""
        return word & 1 << 31 | VMCS_REVISION if word & ~(1 << 31) == self._revision else word

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()


def said(broken: list[BrokenRule]) -> str:
    """Return what the first broken rule makes of an entry, in the recording's words."""
    if not broken:
        return "entered"
    result = broken[0].rule.result
    if result in _RULE_FAILS:
        return f"fail {result}"
    return f"exit {result} {broken[0].qualification}"


def _deviation(attempt: Attempt, broken: list[BrokenRule]) -> str:
    """Return the name of the known fault that explains Bochs' outcome, if one does."""
    for one in DEVIATIONS:
        if one.explains(broken, attempt.outcome):
            return one.name
    counts = [
        value for field, value in attempt.fields.items() if field.endswith(("store_count", "load_count"))
    ]
    wraps = any(value * MSR_ENTRY.width // 8 >> 32 for value in counts)
    return WRAPPED_COUNT if wraps and not broken and attempt.outcome == "fail 7" else ""


def _case(base: str) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        recording = Recording()
        try:
            attempts = (one for one in recording.attempts(base) if one.outcome not in _UNKNOWN)
            for attempt in (
                attempts if setting.whole else itertools.islice(attempts, setting.seed % _STEP, None, _STEP)
            ):
                _compare(recording, attempt, tally)
        finally:
            recording.close()

    return run


def _compare(recording: Recording, attempt: Attempt, tally: Tally) -> None:
    broken = recording.check(attempt)
    mine = said(broken)
    excuse = _deviation(attempt, broken) if mine != attempt.outcome else ""
    changes = [f"{field} = {value:#x}" for field, value in attempt.fields.items()]
    changes += [f"[{where:#x}] = {word:#x}" for where, word in attempt.words.items()]
    why = f" ({broken[0].rule.name})" if broken else ""
    tally.compare(f"{attempt.base}, {', '.join(changes)}{why}", mine, attempt.outcome, deviation=excuse)


def _suite() -> Suite:
    suite = Suite(
        "bochs-entry",
        oracle="Bochs 0.4.0 vectors",
        title="VM-entry checks: each bit of each field spoiled, and values and pairs, as Bochs judged them",
    )
    for base in _BASES:
        suite.case(base.lower().replace(", ", "-").replace(" ", "-").replace("#", ""))(_case(base))
    return suite


SUITES = [_suite()]
