"""Non-register guest state: bit numbers of SDM 3C §24.4.2 and of the MSRs that VM entry loads, typed by hand."""

import pytest

from quire.arch.guest_state import (
    BNDCFGS,
    DEBUGCTL,
    INTERRUPTIBILITY,
    LBR_CTL,
    MSR_ENTRY,
    PENDING_DEBUG_EXCEPTIONS,
    PERF_GLOBAL_CTRL,
    RTIT_CTL,
    S_CET,
    ActivityState,
)
from quire.arch.layout import Layout


@pytest.mark.parametrize(
    ("layout", "name", "number"),
    [
        (INTERRUPTIBILITY, "blocking_by_sti", 0),
        (INTERRUPTIBILITY, "blocking_by_mov_ss", 1),
        (INTERRUPTIBILITY, "blocking_by_nmi", 3),
        (INTERRUPTIBILITY, "enclave_interruption", 4),
        (PENDING_DEBUG_EXCEPTIONS, "enabled_breakpoint", 12),
        (PENDING_DEBUG_EXCEPTIONS, "BS", 14),
        (PENDING_DEBUG_EXCEPTIONS, "RTM", 16),
        (DEBUGCTL, "BTF", 1),
        (DEBUGCTL, "RTM_DEBUG", 15),
        (S_CET, "ENDBR_EN", 2),
        (S_CET, "TRACKER", 11),
        (BNDCFGS, "BNDPRESERVE", 1),
        (RTIT_CTL, "BranchEn", 13),
        (RTIT_CTL, "EventEn", 31),
        (LBR_CTL, "OTHER_BRANCH", 22),
        (PERF_GLOBAL_CTRL, "PERF_METRICS", 48),
    ],
)
def test_bit_numbers(layout: Layout, name: str, number: int) -> None:
    assert layout.mask(name) == 1 << number


def test_activity_states() -> None:
    assert [state.name for state in ActivityState] == ["ACTIVE", "HLT", "SHUTDOWN", "WAIT_FOR_SIPI"]
    assert [int(state) for state in ActivityState] == [0, 1, 2, 3]


def test_an_entry_of_an_msr_list() -> None:
    data = bytes.fromhex("800000c0 00000000 010d000000000000")
    assert MSR_ENTRY.decode(int.from_bytes(data, "little")) == {"index": 0xC000_0080, "data": 0xD01}
