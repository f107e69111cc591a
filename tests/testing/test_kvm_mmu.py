"""KVM as an oracle: it agrees but for its known deviations, and those are still there."""

from functools import cache
from pathlib import Path

import pytest

from quire.arch import Access
from quire.errors import BackendError
from quire.paging import Context, WalkRecord, reference_walk
from quire.paging.context import Words
from quire.paging.walk_record import WordMemory
from quire.testing import Setting, Tally
from quire.testing.oracles import kvm_machine
from quire.testing.oracles.kvm_mmu import KvmMmu
from quire.testing.suites.kvm_mmu import DEVIATIONS, FORBIDDEN_ENTRY, LATE_ACCESSED, SUITES

# Recorded attempts are replayed once for all tests here: in one worker.
pytestmark = pytest.mark.xdist_group("kvm")
CASES = {case.name: case for case in SUITES[0].cases}
ABSENT = SUITES[0].unavailable()
needs_kvm = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)
needs_shadow_paging = pytest.mark.skipif(
    not Path("/sys/module/kvm_pvm").exists(),
    reason="these deviations are those of kvm_pvm, which is not loaded",
)


@needs_kvm
@pytest.mark.parametrize("name", CASES)
def test_kvm_agrees(name: str) -> None:
    tally = Tally()
    CASES[name].function(Setting(seed=1), tally)
    assert tally.differences == []
    assert tally.compared > 2_000
    assert set(tally.deviations) <= set(DEVIATIONS)


@cache
def enumerated() -> Tally:
    """Return what the matrix of user accesses comes to."""
    tally = Tally()
    CASES["cpl-3-matrix"].function(Setting(), tally)
    return tally


@needs_kvm
@needs_shadow_paging
@pytest.mark.parametrize("deviation", [LATE_ACCESSED, FORBIDDEN_ENTRY])
def test_the_deviation_is_still_there(deviation: str) -> None:
    """Fails when KVM is mended: take the deviation out of the suite then."""
    assert enumerated().deviations[deviation] >= 4


@needs_kvm
def test_a_wrong_walk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk that takes CR0.WP for set fails the case."""

    def wrong(memory: WordMemory, context: Words, gva: int, access: Access) -> WalkRecord:
        protected = context.copy()
        protected[Context.WP] = 1
        return reference_walk(memory, protected, gva, access)

    monkeypatch.setattr("quire.testing.suites.kvm_mmu.reference_walk", wrong)
    tally = Tally()
    CASES["cpl-0-matrix"].function(Setting(), tally)
    assert tally.different > 0
    assert all(
        "write" in difference.what and " WP" not in difference.what for difference in tally.differences
    )


@needs_kvm
def test_a_guest_that_cannot_go_on_is_an_error() -> None:
    """Without a stack that is mapped the first fault is a triple fault."""
    oracle = KvmMmu(user=False)
    oracle.memory[19 * 512 + 8] = 0
    try:
        with pytest.raises(BackendError, match="exit reason 8 after 0 of its accesses"):
            oracle.run([(0x7F00_0000_0000, Access.READ)], wp=1, nxe=1, cr4=0, ac=0)
    finally:
        oracle.close()


def test_without_the_device_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_machine, "_DEVICE", "/dev/no-such-device")
    assert SUITES[0].unavailable() == "/dev/no-such-device cannot be opened: No such file or directory"
