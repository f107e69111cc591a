"""VM-entry checks of a VMCS that is known in part, on a processor that is known in part (SDM 3C §26).

A rule is tried with every value of each single bit that it reads and nobody gave, on the least and on the most capable
processor that may be meant. If it fails each time it is broken, if it holds each time it is kept; else nobody can know,
and what would tell is named. A wider part that is not given leaves the rule unchecked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from quire.arch import CpuProfile, Layout
from quire.arch.known_processor import CAPABILITIES, Capability, KnownProcessor
from quire.vcpu.checks.rule import EntryRule, EntryView

__all__ = ["ACTIVATES", "MEMORY", "BytesSource", "Judgement", "Trial", "Verdict", "judge", "try_rule"]

#: What stands for memory that nobody gave, among the names of fields.
MEMORY = "memory"
_MOST_TRIALS = 64  # more bits than six never decide one rule; then nobody can know

#: Controls that only say whether others count: who gives these others means them to.
ACTIVATES = {
    "activate_secondary_controls": "secondary_processor_based_controls",
    "activate_tertiary_controls": "tertiary_processor_based_controls",
}


class BytesSource(Protocol):
    """Physical memory that a VMCS points into; None where there is none."""

    def read(self, address: int, length: int) -> memoryview | None: ...


class _NotGiven(Exception):
    """A rule wants what nobody gave; never leaves the module."""


class _Undecided(Exception):
    """A rule wants a bit that nobody gave: (field, bit); never leaves the module."""


class _PartialView(EntryView):
    """The given fields, with `chosen` values of single bits of others."""

    def __init__(
        self,
        given: Mapping[str, int],
        profile: CpuProfile,
        memory: BytesSource | None,
        chosen: Mapping[tuple[str, str], int],
    ) -> None:
        super().__init__(profile)
        self._given = given
        self._memory = memory
        self._chosen = chosen

    def read(self, name: str) -> int:
        if name not in self._given:
            raise _NotGiven(name)
        return self._given[name]

    def part(self, field: str, layout: Layout, name: str) -> int:
        if field in self._given:
            return layout.get(self._given[field], name)
        if ACTIVATES.get(name) in self._given:
            return 1
        one = layout.field(name)
        if one.low != one.high:
            raise _NotGiven(field)
        key = field, name
        if key not in self._chosen:
            raise _Undecided(key)
        return self._chosen[key]

    def physical(self, hpa: int, size: int) -> int:
        if self._memory is None:
            raise _NotGiven(MEMORY)
        found = self._memory.read(hpa, size)
        return (1 << 8 * size) - 1 if found is None else int.from_bytes(found, "little")

    @property
    def own_address(self) -> None:
        return None


@dataclass(slots=True)
class Trial:
    """What became of a rule: its results, the single bits that were tried, and what else it wanted."""

    results: set[bool] = field(default_factory=set)
    bits: set[tuple[str, str]] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)

    @property
    def certain(self) -> bool | None:
        """Whether the rule holds; None if that is not certain."""
        return next(iter(self.results)) if len(self.results) == 1 and not self.missing else None


class Verdict(Enum):
    """What can be said of a rule."""

    HOLDS = "holds"
    BROKEN = "broken"
    UNKNOWN = "cannot know"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and what would make an unknown one certain: bits, capabilities, fields or memory."""

    verdict: Verdict
    bits: tuple[tuple[str, str], ...] = ()
    capabilities: tuple[Capability, ...] = ()
    missing: tuple[str, ...] = ()


def try_rule(
    rule: EntryRule, given: Mapping[str, int], profile: CpuProfile, memory: BytesSource | None
) -> Trial:
    """Return what becomes of `rule` on one processor, with every value of the single bits that nobody gave."""
    trial = Trial()
    pending: list[dict[tuple[str, str], int]] = [{}]
    for _ in range(_MOST_TRIALS):
        if not pending:
            return trial
        chosen = pending.pop()
        try:
            trial.results.add(rule.holds(_PartialView(given, profile, memory, chosen)))
        except _Undecided as wanted:
            key = wanted.args[0]
            trial.bits.add(key)
            pending += [{**chosen, key: 0}, {**chosen, key: 1}]
        except _NotGiven as wanted:
            trial.missing.add(wanted.args[0])
    trial.missing.add(rule.field)
    return trial


def judge(
    rule: EntryRule,
    given: Mapping[str, int],
    processor: KnownProcessor,
    memory: BytesSource | None = None,
) -> Judgement:
    """Return whether `rule` holds of a VMCS with these fields, as far as that can be known."""
    trials = [try_rule(rule, given, side, memory) for side in {processor.least, processor.most}]
    certain = {trial.certain for trial in trials}
    if certain == {True}:
        return Judgement(Verdict.HOLDS)
    if certain == {False}:
        return Judgement(Verdict.BROKEN)
    missing = {name for trial in trials for name in trial.missing}
    bits = {key for trial in trials if len(trial.results) > 1 for key in trial.bits}
    return Judgement(
        Verdict.UNKNOWN,
        tuple(sorted(bits)),
        () if missing else _turning(rule, given, processor, memory),
        tuple(sorted(missing)),
    )


def _turning(
    rule: EntryRule, given: Mapping[str, int], processor: KnownProcessor, memory: BytesSource | None
) -> tuple[Capability, ...]:
    """Return the unknown capabilities of which one alone changes what the least capable processor says."""
    least = processor.least
    before = try_rule(rule, given, least, memory).results
    return tuple(
        capability
        for capability in CAPABILITIES
        if capability.name in processor.unknown
        and try_rule(rule, given, capability.most(least), memory).results != before
    )
