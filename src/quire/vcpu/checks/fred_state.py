"""Checks of the FRED state that VM entries load for the guest and VM exits for the host (FRED §9).

A control each says that the state is loaded: of VM entry, and of the secondary VM-exit controls. The guest's state is
looked at in IA-32e mode, which alone delivers events so; the host is always in it. IA32_FRED_STKLVLS may hold anything.
"""

from collections.abc import Callable

from quire.vcpu.checks.msr_values import VALID
from quire.vcpu.checks.rule import GUEST_STATE, HOST_STATE, EntryRule, EntryView

__all__ = ["GUEST_RULES", "HOST_RULES"]

_SECTION = "FRED §9"
_WANTS = {
    "config": "0 in bits 11, 5:4 and 2, with canonical bits 63:12",
    **{f"rsp{level}": "canonical and aligned to 64" for level in (1, 2, 3)},
    **{f"ssp{level}": "canonical and aligned to 8" for level in (1, 2, 3)},
}


def _loads_guest(view: EntryView) -> bool:
    return bool(view.entry("load_fred") and view.entry("ia32e_guest"))


def _loads_host(view: EntryView) -> bool:
    return bool(view.secondary_exit("load_fred"))


def _rule(side: str, part: str, wants: str, loads: Callable[[EntryView], bool], result: int) -> EntryRule:
    msr = f"fred_{part}"
    field = f"{side}_ia32_{msr}"

    def holds(view: EntryView) -> bool:
        return not loads(view) or VALID[msr](view.read(field), view.profile.linear_bits)

    name = msr.upper() if side == "guest" else f"{side} {msr.upper()}"
    return EntryRule(name, _SECTION, field, wants, result, holds)


def _mode(view: EntryView) -> bool:
    return not view.cr4("FRED") or bool(view.entry("ia32e_guest"))


HOST_RULES = tuple(_rule("host", part, wants, _loads_host, HOST_STATE) for part, wants in _WANTS.items())
GUEST_RULES = (
    EntryRule("FRED", _SECTION, "guest_cr4", "with FRED clear outside IA-32e mode", GUEST_STATE, _mode),
    *(_rule("guest", part, wants, _loads_guest, GUEST_STATE) for part, wants in _WANTS.items()),
)
