"""What engines of one machine share: numbers in the order in which they join, and nothing that keeps a machine."""

from __future__ import annotations

import gc
import weakref

import pytest
from ring0_guest import assemble

from quire.cpu.soft.shared_frames import SharedFrames
from quire.guest.boot.bare import BareGuest, bare_config
from quire.machine import CachingMode


class Member:
    """What one engine keeps, as far as it is asked."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def share(self, number: int, frames: SharedFrames) -> None:
        self.told.append(number)


def test_one_that_is_alone_is_told_nothing_and_the_first_with_the_second() -> None:
    frames, members = SharedFrames(4), [Member() for _ in range(3)]
    for one in members:
        frames.join(one)
    assert [one.told for one in members] == [[0], [1], [2]]


def test_the_first_may_have_gone() -> None:
    frames, second = SharedFrames(4), Member()
    frames.join(Member())
    gc.collect()
    frames.join(second)
    assert second.told == [1]


@pytest.mark.parametrize("caching", list(CachingMode))
@pytest.mark.parametrize(("mmu", "vcpus"), [("native", 1), ("native", 2), ("ept", 2), ("shadow", 1)])
def test_a_machine_that_nobody_has_goes(mmu: str, vcpus: int, caching: CachingMode) -> None:
    config = bare_config(mmu=mmu, vcpus=vcpus, caching=caching, check_flushes=True)
    guest = BareGuest(assemble("finish\n"), config)
    guest.run()
    machine = weakref.ref(guest.machine)
    guest.close()
    del guest
    gc.collect()
    assert machine() is None
