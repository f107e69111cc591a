"""A VMCS written by hand checked as VM entry would: every broken rule, not only the first (SDM 3C §26).

Rules that look at memory behind a pointer are checked if that memory is given, and named as unchecked if not.
Fails with MisuseError for a field that does not exist or a value wider than its field.
"""

from typing import Protocol

from quire.arch import PAGE_SIZE, CpuProfile, field_by_name
from quire.memory import HostMemory
from quire.paging.lint import Finding, Findings, Severity
from quire.vcpu.checks import RULES, EntryRule, EntryView
from quire.vcpu.checks.rule import CONTROLS, GUEST_STATE, HOST_STATE
from quire.vcpu.field_support import field_exists
from quire.vcpu.vmcs import Vmcs

__all__ = ["BytesSource", "lint_vmcs"]

_RESULTS = {
    CONTROLS: "VM entry fails with VM-instruction error 7",
    HOST_STATE: "VM entry fails with VM-instruction error 8",
    GUEST_STATE: "VM entry fails with exit reason 33",
}
_MSR_LOADING = "VM entry fails with exit reason 34"


class BytesSource(Protocol):
    """Physical memory that a VMCS points into; None where there is none."""

    def read(self, address: int, length: int) -> memoryview | None: ...


class _NotGiven(Exception):
    """A rule wants memory that the caller did not give; never leaves the module."""


class _View(EntryView):
    """The fields alone, with memory as far as it is given."""

    def __init__(self, vmcs: Vmcs, profile: CpuProfile, memory: BytesSource | None) -> None:
        super().__init__(vmcs, profile)
        self._memory = memory

    def physical(self, hpa: int, size: int) -> int:
        if self._memory is None:
            raise _NotGiven
        found = self._memory.read(hpa, size)
        return (1 << 8 * size) - 1 if found is None else int.from_bytes(found, "little")


def lint_vmcs(
    fields: dict[str, int], profile: CpuProfile, findings: Findings, memory: BytesSource | None = None
) -> list[str]:
    """Add every rule that a VMCS with these `fields`, all others 0, breaks; return the rules that were not checked."""
    unchecked = []
    with HostMemory(PAGE_SIZE) as frame:
        vmcs = Vmcs(frame, 0)
        vmcs.write_many(**fields)
        view = _View(vmcs, profile, memory)
        for rule in RULES:
            try:
                if not rule.holds(view):
                    findings.add(_finding(rule, view))
            except _NotGiven:
                unchecked.append(rule.name)
    for name, value in fields.items():
        if value and not field_exists(field_by_name(name), profile):
            findings.add(_missing(name, profile))
    return unchecked


def _finding(rule: EntryRule, view: EntryView) -> Finding:
    return Finding(
        Severity.ERROR,
        rule.name,
        rule.section,
        f"{rule.field} is {view.read(rule.field):#x}: {_RESULTS.get(rule.result, _MSR_LOADING)}",
        f"make it {rule.wants}",
        "VMCS",
    )


def _missing(name: str, profile: CpuProfile) -> Finding:
    return Finding(
        Severity.WARNING,
        "unsupported field",
        "SDM 3C §30.4",
        f"{name} does not exist on {profile.name}: VMWRITE fails with VM-instruction error 12",
        "leave the field out, or choose a profile that offers the control that it goes with",
        "VMCS",
    )
