"""The rules of table checks: name, how bad a breach is, where the manual has it, what it says, what mends it."""

from dataclasses import dataclass

from quire.paging.lint.finding import Severity

__all__ = ["LINT_RULES", "LintRule"]

_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO


@dataclass(frozen=True, slots=True)
class LintRule:
    """A rule of the checks; `text` and `fix` may have places for what a finding says of itself."""

    name: str
    severity: Severity
    section: str
    text: str
    fix: str


_ALL = (
    LintRule(
        "reserved bit", _E, "SDM 3A §4.7", "{name} has reserved bits {bits:#x} set{why}", "clear bits {bits:#x}"
    ),
    LintRule(
        "EPT reserved bit",
        _E,
        "SDM 3C §28.3.3.1",
        "{name} has reserved bits {bits:#x} set{why}: EPT misconfiguration",
        "clear bits {bits:#x}",
    ),
    LintRule(
        "EPT write without read",
        _E,
        "SDM 3C §28.3.3.1",
        "{name} allows writes and forbids reads: EPT misconfiguration",
        "set bit 0, or clear bit 1",
    ),
    LintRule(
        "EPT execute-only",
        _E,
        "SDM 3C §28.3.3.1",
        "{name} allows fetches without reads, which the processor cannot: EPT misconfiguration",
        "set bit 0, or clear bit 2",
    ),
    LintRule(
        "EPT memory type",
        _E,
        "SDM 3C §28.3.3.1",
        "{name} has memory type {bits}, which is reserved: EPT misconfiguration",
        "set bits 5:3 to 0, 1, 4, 5 or 6",
    ),
    LintRule(
        "EPTP",
        _E,
        "SDM 3C §26.2.1.1",
        "EPTP {bits:#x} {name}: VM entry fails",
        "set memory type 0 or 6, walk length 3 or 4 and no reserved bit, as the processor offers",
    ),
    LintRule(
        "table outside memory",
        _E,
        "SDM 3A §4.1.4",
        "{name} references a table at {bits:#x}, where no memory is",
        "map a table that is there, or clear the present bits",
    ),
    LintRule(
        "page outside memory",
        _W,
        "SDM 3A §4.1.4",
        "cacheable pages, the first at {bits:#x}, are not in memory: devices, or left out of the image",
        "map what is there; give device memory type UC or WC",
    ),
    LintRule(
        "writable and executable",
        _W,
        "SDM 3A §4.6.1",
        "{name} pages can be written and executed",
        "set XD where there is data, clear R/W where there is code",
    ),
    LintRule(
        "EPT writable and executable",
        _I,
        "SDM 3C §28.3.3.2",
        "guest-physical pages can be written and executed",
        "clear bit 1 or bit 2, if the hypervisor is to protect the guest's code",
    ),
    LintRule(
        "no execute disable",
        _W,
        "SDM 3A §4.6.1",
        "{name}: no page can be made execute-disable",
        "set EFER.NXE, with PAE, 4-level or 5-level paging",
    ),
    LintRule(
        "conflicting memory types",
        _W,
        "SDM 3A §11.12.4",
        "the frames at {bits:#x} are mapped as {name}",
        "map a frame with one memory type only",
    ),
    LintRule(
        "hole", _I, "SDM 3A §4.7", "nothing is mapped between pages whose frames leave the same gap",
        "map the gap too, if it is not a guard",
    ),
    LintRule(
        "large page",
        _I,
        "SDM 3A §4.5",
        "{name} could be mapped by pages of {bits}: contiguous, aligned and alike",
        "replace each table by one entry with PS = 1",
    ),
    LintRule(
        "shared table",
        _I,
        "SDM 3A §4.5",
        "the table at {bits:#x} is used before, for {name}",
        "none, if the address ranges are meant to be alike",
    ),
    LintRule(
        "too many tables",
        _E,
        "SDM 3A §4.5",
        "{bits} references to tables were followed, and there are more: the rest is unchecked",
        "check the tables' root: real hierarchies have far fewer",
    ),
    LintRule(
        "recursive table",
        _I,
        "SDM 3A §4.5",
        "the table at {bits:#x} references itself or a table above it: a self-map",
        "none, if the system maps its own tables in this way",
    ),
)  # fmt: skip

#: Every rule by its name.
LINT_RULES: dict[str, LintRule] = {rule.name: rule for rule in _ALL}
