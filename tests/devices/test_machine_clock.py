"""The time of a machine guest: instructions by share, reads of the counter, jumps; however short turns are."""

import pytest

from quire.devices.clock import MachineClock


class Vcpu:
    """A vCPU that has executed and read so much."""

    def __init__(self) -> None:
        self.executed, self.read = 0, 0

    def instructions(self) -> int:
        return self.executed

    def tsc_time(self) -> int:
        return self.read


@pytest.mark.parametrize("count", range(1, 17))
@pytest.mark.parametrize("length", [1, 5, 1000])
def test_turns_of_any_length_take_the_same_time(count: int, length: int) -> None:
    vcpus = [Vcpu() for _ in range(count)]
    clock = MachineClock(vcpus)
    for _ in range(100):
        for number, one in enumerate(vcpus):
            clock.begin_turn(number, count)
            one.executed += length
    assert clock.now() == 100 * length


def test_shares_may_change() -> None:
    vcpus = [Vcpu() for _ in range(3)]
    clock = MachineClock(vcpus)
    for at_work, number in ((3, 0), (2, 1), (3, 2), (2, 0)):
        clock.begin_turn(number, at_work)
        vcpus[number].executed += 1
    assert clock.now() == 1  # 1/3 + 1/2 + 1/3 + 1/2, and less than half of the next
    clock.begin_turn(1, 3)
    vcpus[1].executed += 1
    assert clock.now() == 2


def test_what_no_instruction_accounts_for() -> None:
    one = Vcpu()
    clock = MachineClock([one])
    clock.begin_turn(0, 0)  # nobody at work is as one
    assert (clock.share, clock.now()) == (1, 0)
    one.executed, one.read = 10, 1000
    assert clock.now() == 1010
    clock.spend(5)
    clock.skip_to(2000)
    assert clock.now() == 2000
    clock.skip_to(1000)  # never back
    assert clock.now() == 2000
