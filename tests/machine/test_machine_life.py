"""Creation in steps: a failure at any step undoes the others, and the pool is as it was."""

import pytest

from quire.arch import ExitReason
from quire.errors import MisuseError
from quire.exits import RESUME, ExitContext, GuestStopped, Next
from quire.machine import STEPS, GuestConfig, Machine
from quire.memory import OwnerKind
from quire.mmu import Host
from quire.mmu.backed import BackedMmu
from quire.paging import Rights
from quire.vcpu import Exit


class FakeRegisters:
    """Registers that are all zero."""

    def read(self, name: str) -> int:
        return 0

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        return [2 if name == "rflags" else 0 for name in names]


class FakeCpu:
    """A Cpu that never runs."""

    def __init__(self, machine: Machine) -> None:
        self.registers = FakeRegisters()
        self.closed = False

    def forget(self, gva: int | None) -> None: ...

    def close(self) -> None:
        self.closed = True


class Injected(Exception):
    """The failure that a test injects."""


CONFIGS = [
    GuestConfig(mmu="native", memory=8 << 20),
    GuestConfig(mmu="ept", memory=8 << 20),
    GuestConfig(mmu="ept", memory=8 << 20, host_page=2 << 20),
    GuestConfig(mmu="shadow", memory=8 << 20),
    GuestConfig(mmu="shadow", memory=8 << 20, host_page=2 << 20),
]
#: One of each two-dimensional kind, with 4 KiB pages.
BACKED = [CONFIGS[1], CONFIGS[3]]
SEVERAL = [GuestConfig(mmu=mmu, memory=8 << 20, vcpus=3) for mmu in ("ept", "shadow")]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.mmu}-{c.host_page:#x}")
@pytest.mark.parametrize("step", [*STEPS, None])
def test_failure_at_each_step_leaves_the_pool_as_it_was(config: GuestConfig, step: str | None) -> None:
    host = Host.for_guest(config.memory, config.host_page)
    before = host.pool.statistics().frames_by_kind
    seen = []

    def on_step(name: str) -> None:
        seen.append(name)
        if name == step:
            raise Injected(name)

    if step is None:
        Machine(config, FakeCpu, host=host, on_step=on_step).close()  # type: ignore[arg-type]
        assert tuple(seen) == STEPS
    else:
        with pytest.raises(Injected):
            Machine(config, FakeCpu, host=host, on_step=on_step)  # type: ignore[arg-type]
        assert tuple(seen) == STEPS[: STEPS.index(step) + 1]
    assert host.pool.statistics().frames_by_kind == before
    host.pool.audit()
    host.close()


@pytest.mark.parametrize("config", BACKED + SEVERAL, ids=lambda c: f"{c.mmu}-{c.vcpus}")
@pytest.mark.parametrize("allocation", range(14))
def test_failure_of_each_allocation_leaves_the_pool_as_it_was(
    allocation: int, config: GuestConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host.for_guest(config.memory, config.host_page)
    before = host.pool.statistics().frames_by_kind
    original, left = host.pool.allocate, [allocation]

    def allocate(*args: object, **kwargs: object) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise Injected
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(host.pool, "allocate", allocate)
    try:
        Machine(config, FakeCpu, host=host).close()  # type: ignore[arg-type]
    except Injected:
        pass
    assert host.pool.statistics().frames_by_kind == before
    host.pool.audit()
    host.close()


@pytest.fixture
def machine() -> Machine:
    return Machine(CONFIGS[1], FakeCpu)  # type: ignore[arg-type]


@pytest.mark.parametrize(("one", "other"), [BACKED[:1] * 2, BACKED[1:] * 2, BACKED])
def test_two_guests_share_a_host_and_leave_nothing(one: GuestConfig, other: GuestConfig) -> None:
    host = Host.for_guest(64 << 20, 4096)
    first = Machine(one, FakeCpu, host=host)  # type: ignore[arg-type]
    second = Machine(other, FakeCpu, host=host)  # type: ignore[arg-type]
    for guest in (first, second):
        gpa = guest.mmu.allocate(4096)
        assert gpa is not None
        guest.mmu.map(0x400000, gpa, 4096, Rights.READ | Rights.WRITE)
        assert isinstance(guest.mmu, BackedMmu)
        assert guest.mmu.memory_map.target(gpa) is None  # backed only when it is touched
        guest.mmu.reach(gpa)
    assert first.mmu.reach(gpa) != second.mmu.reach(gpa)
    first.close()
    second.close()
    assert host.pool.frames_of(OwnerKind.FREE) == host.pool.frame_count


def test_an_ept_violation_allocates_maps_and_is_counted(machine: Machine) -> None:
    before = machine.vcpu.exits[ExitReason.EPT_VIOLATION]
    machine.vcpu.handle_exit(Exit(ExitReason.EPT_VIOLATION, 0x781, 0x200123, 0x400123))
    hpa = machine.vcpu.mmu.memory_map.target(0x200123)
    assert hpa is not None
    assert machine.host.pool.owner_of(hpa >> 12).kind is OwnerKind.GUEST_PAGE
    assert machine.vcpu.exits[ExitReason.EPT_VIOLATION] == before + 1
    assert machine.vcpu.vmcs.read("guest_physical_address") == 0x200123


def test_an_access_beyond_guest_memory_ends_the_guest(machine: Machine) -> None:
    with pytest.raises(GuestStopped) as error:
        machine.vcpu.handle_exit(Exit(ExitReason.EPT_VIOLATION, 0x781, 1 << 40, 0x1000))
    assert str(error.value) == (
        "EPT_VIOLATION: data read; the entries used allow ---; final access; GPA 0x10000000000"
    )


def test_users_may_change_the_handlers(machine: Machine) -> None:
    seen = []

    def hlt(context: ExitContext, stop: Exit) -> Next:
        seen.append(stop.reason)
        return RESUME

    machine.handlers[ExitReason.HLT] = hlt
    machine.vcpu.handle_exit(Exit(ExitReason.HLT))
    assert seen == [ExitReason.HLT]
    del machine.handlers[ExitReason.HLT]
    with pytest.raises(GuestStopped):
        machine.vcpu.handle_exit(Exit(ExitReason.HLT))


def test_a_handler_that_does_not_say_what_happens_next_is_told(machine: Machine) -> None:
    machine.handlers[ExitReason.HLT] = lambda *_: None  # type: ignore[assignment,return-value]
    with pytest.raises(MisuseError) as error:
        machine.vcpu.handle_exit(Exit(ExitReason.HLT))
    assert str(error.value) == (
        "The handler of HLT returned None, which does not say what happens next: "
        "return RESUME, SKIP, Inject(event) or StopGuest(exit)"
    )


def test_a_handler_that_does_not_mend_is_told(machine: Machine) -> None:
    machine.handlers[ExitReason.EPT_VIOLATION] = lambda *_: RESUME
    with pytest.raises(MisuseError) as error:
        machine.vcpu.mmu.reach(0x300000)
    assert str(error.value) == (
        "The EPT violation handler left GPA 0x300000 unmapped: call context.mmu.back(gpa) in it"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mmu": "tlb"}, "No Mmu is called 'tlb': give native or ept or shadow"),
        (
            {"memory": 0x1000},
            "Guest memory of 4_096 bytes is too small or no multiple of 4 KiB: give at least 4 MiB",
        ),
        (
            {"memory": 1 << 46},
            "Guest memory of 70_368_744_177_664 bytes needs more than the 46 physical address bits of skylake-x: "
            "give less than 65536 GiB",
        ),
    ],
)
def test_bad_configurations(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(MisuseError) as error:
        GuestConfig(**wrong)  # type: ignore[arg-type]
    assert str(error.value) == message
