"""A VMCS given in whole or in part, checked as VM entry would: every broken rule, not only the first (SDM 3C §26).

What is not given is not checked. Where the verdict turns on a bit, a capability or memory that nobody gave, it says so
instead of guessing. Fails with MisuseError for a field that does not exist, a value wider than its field, and a
processor without VMX.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from quire.arch import NO_VMCS, SECONDARY_CONTROLS, VMCS_FIELDS, VMCS_LAYOUTS, WORD, field_by_name
from quire.arch.known_processor import KnownProcessor
from quire.errors import MisuseError
from quire.paging.lint import Finding, Findings, Severity
from quire.vcpu.checks import RULES, EntryRule
from quire.vcpu.checks.mending import deciding, mend, name_bits
from quire.vcpu.checks.partial import ACTIVATES, MEMORY, BytesSource, Judgement, Verdict, judge
from quire.vcpu.checks.rule import CONTROLS, GUEST_STATE, HOST_STATE
from quire.vcpu.field_support import field_exists

__all__ = ["BytesSource", "CannotKnow", "VmcsChecks", "lint_vmcs"]

_RESULTS = {
    CONTROLS: "VM entry fails with VM-instruction error 7",
    HOST_STATE: "VM entry fails with VM-instruction error 8",
    GUEST_STATE: "VM entry fails with exit reason 33",
}
_MSR_LOADING = "VM entry fails with exit reason 34"
_WITHOUT_VMX = "AMD"
_LINK = "vmcs_link_pointer"


@dataclass(frozen=True, slots=True)
class CannotKnow:
    """A rule about a given field whose verdict turns on what was not given."""

    rule: str
    section: str
    text: str
    without: str


@dataclass(slots=True)
class VmcsChecks:
    """What a check could not say: rules that want memory, rules that nobody can know, fields that were not given."""

    want_memory: list[str] = field(default_factory=list)
    cannot_know: list[CannotKnow] = field(default_factory=list)
    not_given: list[str] = field(default_factory=list)


def lint_vmcs(
    fields: Mapping[str, int],
    processor: KnownProcessor,
    findings: Findings,
    memory: BytesSource | None = None,
) -> VmcsChecks:
    """Add every rule that a VMCS with these `fields` breaks on `processor`; return what could not be checked."""
    if processor.profile.vendor == _WITHOUT_VMX:
        raise MisuseError(
            f"{processor.profile.name} is a processor of AMD's, which has no VMCS: choose a profile of Intel's, "
            "or none to be told what holds on any"
        )
    given = _in_order(fields)
    checks, wanted = VmcsChecks(), set[str]()
    for rule in RULES:
        judgement = judge(rule, given, processor, memory)
        if judgement.verdict is Verdict.BROKEN:
            findings.add(_finding(rule, given, processor, memory))
        elif judgement.verdict is Verdict.UNKNOWN:
            _note(checks, wanted, rule, given, judgement, processor)
    checks.not_given = [one.name for one in VMCS_FIELDS if one.name in wanted]
    _check_link(given, memory, findings)
    for name, value in given.items():
        if value and not field_exists(field_by_name(name), processor.most):
            findings.add(_missing(name, processor.profile.name))
    return checks


def _in_order(fields: Mapping[str, int]) -> dict[str, int]:
    """Return the fields in the manual's order, each known and no wider than it may be."""
    for name, value in fields.items():
        bits = field_by_name(name).bits
        if not 0 <= value < 1 << bits:
            raise MisuseError(f"VMCS field {name} has {bits} bits: {value:#x} does not fit, mask it first")
    return {one.name: fields[one.name] for one in VMCS_FIELDS if one.name in fields}


def _note(
    checks: VmcsChecks,
    wanted: set[str],
    rule: EntryRule,
    given: Mapping[str, int],
    judgement: Judgement,
    processor: KnownProcessor,
) -> None:
    """Put a rule that nobody can know where it belongs."""
    wanted.update(name for name in judgement.missing if name != MEMORY)
    wanted.update(name for name, _ in judgement.bits)
    if judgement.missing == (MEMORY,):
        checks.want_memory.append(rule.name)
    elif rule.field in given and not judgement.missing:
        value = mend(rule, given, processor.least, None)
        offending = "" if value is None else name_bits(rule.field, value ^ given[rule.field])
        text = f"{rule.field} is {given[rule.field]:#x}" + (f", {offending}" if offending else "")
        checks.cannot_know.append(CannotKnow(rule.name, rule.section, text, _without(judgement)))


def _without(judgement: Judgement) -> str:
    """Name what would tell: controls that were not given, and capabilities of the processor."""
    telling = [(where, name) for where, name in judgement.bits if name not in ACTIVATES] or judgement.bits
    bits = [f"{name} (bit {VMCS_LAYOUTS[where].shift(name)} of {where})" for where, name in telling]
    return ", ".join([*bits, *(one.title for one in judgement.capabilities)])


def _finding(
    rule: EntryRule, given: Mapping[str, int], processor: KnownProcessor, memory: BytesSource | None
) -> Finding:
    """Say which bits offend, what decides that, what happens, and with which value it would not."""
    value, profile = given[rule.field], processor.most
    better = mend(rule, given, profile, memory)
    text = f"{rule.field} is {value:#x}: "
    clear = put = 0
    if better is not None:
        clear, put = value & ~better, better & ~value
        parts = [(name_bits(rule.field, bits), must) for bits, must in ((clear, 0), (put, 1)) if bits]
        text += "".join(f"{names} must be {must}: " for names, must in parts if names)
    text += "".join(
        f"{one.said(profile, clear, put)}: "
        for one in deciding(rule, given, profile, memory)
        if one.name not in processor.unknown
    )
    fix = f"make it {rule.wants}" if better is None else f"make it {better:#x}: {rule.wants}"
    result = _RESULTS.get(rule.result, _MSR_LOADING)
    return Finding(Severity.ERROR, rule.name, rule.section, text + result, fix, "VMCS")


def _check_link(given: Mapping[str, int], memory: BytesSource | None, findings: Findings) -> None:
    """Point at a link pointer to a VMCS that nobody gave: one that was never written is the usual mistake."""
    value = given.get(_LINK, NO_VMCS)
    if value == NO_VMCS or memory is not None:
        return
    shadowing = SECONDARY_CONTROLS.mask("vmcs_shadowing") & given.get("secondary_processor_based_controls", 0)
    if value and shadowing:
        return
    findings.add(
        Finding(
            Severity.WARNING if value else Severity.ERROR,
            "link pointer to a VMCS",
            "SDM 3C §26.3.1.5",
            f"{_LINK} is {value:#x}: VM entry reads the revision of a VMCS there, and "
            + ("fails unless it finds one" if value else "page 0 holds none"),
            f"make it {WORD:#x}: no VMCS is linked, unless VMCS shadowing is on",
            "VMCS",
        )
    )


def _missing(name: str, profile: str) -> Finding:
    return Finding(
        Severity.WARNING,
        "unsupported field",
        "SDM 3C §30.4",
        f"{name} does not exist on {profile}: VMWRITE fails with VM-instruction error 12",
        "leave the field out, or choose a profile that offers the control that it goes with",
        "VMCS",
    )
