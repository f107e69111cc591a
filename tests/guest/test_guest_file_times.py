"""The host's stamps on the guest's clock, with both clocks in the hands of the test; order and bounds at random."""

import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.guest.kernel import file_times
from quire.guest.kernel.clock import HostClock, VirtualClock
from quire.guest.kernel.file_times import TICK, GuestFileTimes, HostFileTimes

DATE, HOST_TICK = 1_700_000_000_123_456_789, 4_000_000


class Clocks:
    """A host whose coarse clock ticks, and a guest whose time passes by instructions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.instructions, self.waited = DATE, 0, 0
        fake = SimpleNamespace(
            CLOCK_REALTIME=0, clock_gettime_ns=self.read, sleep=self.sleep, CLOCK_MONOTONIC=1
        )
        monkeypatch.setattr(file_times, "time", fake)
        self.clock = VirtualClock(lambda: self.instructions, DATE)
        self.times = GuestFileTimes(self.clock)

    def read(self, clock: int) -> int:
        return self.host // HOST_TICK * HOST_TICK if clock == 5 else self.host

    def sleep(self, seconds: float) -> None:
        self.host += int(seconds * 1e9)
        self.waited += 1

    def passes(self, guest: int, host: int) -> None:
        self.instructions += guest
        self.host += host
        self.clock.ran()

    def change(self, late: int = 0, *, fine: bool = False) -> int:
        """Change a file in a call that the host takes `late` ns for; return its stamp."""
        if not self.times.begin():
            self.times.delay()
        self.host += late
        stamp = self.read(0 if fine else 5)
        self.times.end()
        return stamp

    @property
    def tick(self) -> int:
        return DATE + (self.clock.now(0) - DATE) // TICK * TICK


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_the_host_s_clock_is_shown_as_it_is() -> None:
    assert isinstance(file_times.file_times(HostClock()), HostFileTimes)
    assert HostFileTimes().begin()
    assert HostFileTimes().shown(5) == 5


def test_a_change_after_a_sleep_waits_for_the_host_s_tick(clocks: Clocks) -> None:
    clocks.passes(0, HOST_TICK)
    first = clocks.change()
    assert not clocks.waited
    clocks.passes(10 * TICK, 1000)
    second = clocks.change()
    assert clocks.waited
    assert clocks.times.shown(first) == DATE
    assert clocks.times.shown(second) == DATE + 10 * TICK


def test_a_host_whose_clock_stands_is_not_waited_for_for_ever(clocks: Clocks) -> None:
    clocks.change()
    clocks.passes(TICK, 0)
    clocks.host -= 1 << 40
    stamp = clocks.change()
    assert clocks.times.shown(stamp) == stamp  # before the run, as far as anybody can say


def test_what_others_change_is_seen_at_the_time_of_the_first_look(clocks: Clocks) -> None:
    clocks.passes(3 * TICK, 5 * HOST_TICK)
    theirs = clocks.host - 10
    seen = clocks.times.shown(theirs)
    assert seen == DATE + 3 * TICK
    clocks.passes(7 * TICK, 9 * HOST_TICK)
    own = clocks.change()
    assert clocks.times.shown(theirs) == seen < clocks.times.shown(own)
    assert seen < clocks.times.shown(theirs + 5) <= clocks.times.shown(own)
    assert clocks.times.shown(clocks.host + 1) == clocks.host + 1


def test_times_that_the_guest_gave_are_kept_and_not_without_end(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_times, "_KEPT", 10)
    clocks.passes(TICK, 1 << 40)
    for moment in range(DATE - 5, DATE + 30):
        clocks.times.keep(moment)
    assert [clocks.times.shown(DATE + number) for number in range(20, 30)] == [*range(DATE + 20, DATE + 30)]
    assert len(clocks.times._kept) == 10


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5 * TICK), st.integers(0, 3 * HOST_TICK), st.integers(0, HOST_TICK), st.booleans()
        ),
        min_size=1,
        max_size=60,
    )
)
def test_each_change_is_shown_at_the_guest_s_tick_in_which_it_was_made(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clocks = Clocks(patch)
        clocks.passes(0, HOST_TICK)
        made = []
        for guest, host, late, fine in steps:
            clocks.passes(guest, host)
            made.append((clocks.change(late, fine=fine), clocks.tick))
            assert clocks.times.shown(made[-1][0]) <= clocks.clock.now(time.CLOCK_REALTIME)
        assert [clocks.times.shown(stamp) for stamp, _ in made] == [tick for _, tick in made]


def test_of_very_many_moments_the_old_ones_are_known_less_finely(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_times, "_MOMENTS", 16)
    stamps = []
    for _ in range(200):
        clocks.passes(TICK, 2 * HOST_TICK)
        stamps.append(clocks.change())
    shown = [clocks.times.shown(stamp) for stamp in stamps]
    assert shown == sorted(shown)
    assert shown[-5:] == [DATE + TICK * number for number in range(196, 201)]
    assert len(clocks.times._starts) <= 16
