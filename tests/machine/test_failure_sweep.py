"""A whole life, with every allocation, mapping, protection and host call failing in turn: nothing stays behind."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sampling import some
from shared_host import Subject, pools_of

from quire import failpoints
from quire.errors import BackendError
from quire.guest.boot.bare import BareGuest, bare_config
from quire.machine.migration import migrate, move_vcpu, node_of
from quire.memory import Claim, FrameCache, OutOfFrames, Owner, OwnerKind, Pool
from quire.memory.numa import Policy, Topology
from quire.memory.secure import SecurePool
from quire.mmu import BackedMmu, Host, NumaConfig
from quire.observe import DirtyLog, DirtyWay
from quire.testing import FailureOutcome, sweep_failures

sys.path.append(str(Path(__file__).parents[1] / "cpu"))
from ring0_guest import assemble, reported, rounds

TWO = Topology.declared([8 << 20, 8 << 20])
LARGER = Topology.declared([16 << 20, 16 << 20])
MINE = Owner(OwnerKind.HYPERVISOR, "test")
Kind = tuple[
    str, int, bool, DirtyWay
]  # Mmu, host page, whether each node has a copy of tables, how writes are logged
SMALL: list[Kind] = [
    ("ept", 4 << 10, False, DirtyWay.WRITE_PROTECT),
    ("ept", 4 << 10, True, DirtyWay.DIRTY_BITS),
    ("shadow", 4 << 10, False, DirtyWay.WRITE_PROTECT),
]
LARGE: list[Kind] = [
    ("ept", 2 << 20, True, DirtyWay.PML),
    ("ept", 2 << 20, False, DirtyWay.PML),
    ("shadow", 2 << 20, True, DirtyWay.WRITE_PROTECT),
]


def named(kind: Kind) -> str:
    return f"{kind[0]}-{kind[1]:#x}-{kind[3]}{'-copies' * kind[2]}"


class Life:
    """One guest from birth to death. `mends`: an action that fails is proved to have done nothing, and done again."""

    def __init__(self, host: Host, kind: Kind, mends: bool) -> None:
        self.host, self.kind, self.mends = host, kind, mends

    def __call__(self) -> list[object]:
        mmu, page, replicate, self.way = self.kind
        numa = NumaConfig(TWO, Policy.parse("interleave"), replicate=replicate)
        one = Subject(self.host, mmu, page, numa, 1, False)
        try:
            return self.live(one)
        finally:
            one.machine.close()

    def act(self, one: Subject, action: Callable[[], object]) -> object:
        try:
            return action()
        except (OutOfFrames, BackendError):
            if not self.mends:
                raise
        one.check()
        self.host.pool.audit()
        return action()

    def live(self, one: Subject) -> list[object]:
        for slot in (0, 1, 2, 11):
            self.map(one, slot)
        for slot in (0, 1):
            self.act(one, lambda slot=slot: one.write(slot, 8 * slot, b"first", slot == 1))
        self.act(one, lambda: one.unmap(0))
        self.map(one, 0)
        self.act(one, lambda: one.start_log(self.way))
        try:
            self.act(one, lambda: one.write(2, 0, b"second", False))
            self.act(one, lambda: one.harvest(False))
            self.act(one, lambda: one.migrate(1, 1))
            self.act(one, lambda: one.move_vcpu(1))
            self.act(one, lambda: one.write(11, 4, b"third", True))
            self.act(one, lambda: one.harvest(True))
        finally:
            one.stop_log()
        for choice in range(4):
            self.act(one, lambda choice=choice: one.migrate(choice, 1))
        if one.mmu.name == "ept":
            self.act(one, one.start_tracking)
            self.act(one, lambda: one.read(0))
            self.act(one, one.sample)
        self.act(one, lambda: one.balance({0: (0, 5), 1: (0, 4), 257: (0, 3)}, None))
        secret = self.act(one, self.secret)
        self.act(one, self.claimed)
        for slot in (0, 1, 2, 11):
            self.act(one, lambda slot=slot: one.read(slot))
        one.check()
        return [secret, *(bytes(one.contents[slot]) for slot in sorted(one.contents))]

    def map(self, one: Subject, slot: int) -> None:
        """Map a page; a guest that is told that it has no memory asks once more."""
        if not self.act(one, lambda: one.map(slot)):
            assert one.map(slot)

    def secret(self) -> bytes:
        pool = pools_of(self.host).pools[1]
        secure = SecurePool(self.host.memory, pool, random_source=lambda length: b"\x5a" * length)
        try:
            region = secure.secure_alloc(2, lock="try")
            with region.open(write=True) as view:
                view[:6] = b"secret"
            secure.sweep()
            with region.open() as view:
                return bytes(view[:8])
        finally:
            try:
                secure.close()
            except BackendError:  # the region is as it was: once more
                secure.close()
                if not self.mends:
                    raise

    def claimed(self) -> None:
        pool = pools_of(self.host).pools[0]
        with FrameCache(pool, "vCPU 0", 8, 16) as cache, pool.claim(4, MINE) as claim:
            self.spend(cache, claim)

    def spend(self, cache: FrameCache, claim: Claim) -> None:
        pool = pools_of(self.host).pools[0]
        taken: list[int] = []
        hfns: list[int] = []
        try:
            taken.append(cache.allocate(MINE))
            hfns += pool.allocate_many(4, 0, MINE, claim=claim).tolist()
        finally:
            pool.free_many(hfns, 0, MINE)
            for hfn in taken:
                cache.free(hfn, MINE)


def swept(kind: Kind, mends: bool, every: int, sites: set[str] | None = None) -> list[FailureOutcome]:
    host = Host.with_nodes(TWO)
    before = host.pool.statistics().frames_by_kind

    def check() -> None:
        host.pool.audit()
        assert host.pool.statistics().frames_by_kind == before

    outcomes = sweep_failures(Life(host, kind, mends), check, every=every, sites=sites)
    host.close()
    return outcomes


@pytest.mark.parametrize("kind", SMALL, ids=named)
def test_what_failed_did_nothing_and_is_done_again(kind: Kind) -> None:
    outcomes = swept(kind, True, 2)
    assert {"allocate", "map", "protect", "protect host memory"} <= {one.site for one in outcomes}
    for one in outcomes:
        if one.text:  # a guest that cannot be made is the one error
            assert one.site in ("allocate", "map", "map frame records")


@pytest.mark.parametrize("kind", LARGE, ids=named)
def test_large_pages_that_cannot_be_split_mapped_or_discarded(kind: Kind) -> None:
    outcomes = swept(kind, True, 1, {"split", "map", "protect", "discard"})
    assert {one.site for one in outcomes} == {"split", "map", "protect", "discard"}
    assert not any(one.text for one in outcomes if one.site in ("split", "protect", "discard"))


@pytest.mark.parametrize("kind", SMALL + LARGE, ids=named)
def test_a_failure_anywhere_is_one_error_and_leaves_nothing(kind: Kind) -> None:
    assert any(one.text for one in swept(kind, False, some(7, 13)))


MOVE = 0x55
EVERY = some(17, 29)  # every so many points of failure: all of them took a minute and a half, and were right
WORK, SUM = rounds(8, 6)


class Mover:
    """A device that moves pages and the vCPU to the other node, and logs between one write to it and the next."""

    def __init__(self, guest: BareGuest, way: DirtyWay) -> None:
        self.guest, self.way, self.asked = guest, way, 0
        self.logs = False  # since the last write, and not since one that failed and is made again

    def read(self, size: int) -> int:
        return 0

    def write(self, value: int, size: int) -> None:
        machine = self.guest.machine
        before, self.logs = self.logs, False
        log, mmu = machine.dirty_log, machine.vcpu.mmu
        assert isinstance(mmu, BackedMmu)
        if log is None:
            DirtyLog(machine, self.way)
        else:
            found = len(log.harvest())
            assert found >= 8 or not before, "the round before wrote 8 pages"
            log.close()
        for gpa in sorted(mmu.blocks)[self.asked % 2 :: 2]:
            here = node_of(machine, gpa)
            assert here is not None
            migrate(machine, gpa, 1 - here)
        move_vcpu(machine.vcpu, self.asked % 2)
        self.asked += 1
        self.logs = machine.dirty_log is not None


@pytest.mark.parametrize("kind", SMALL + LARGE, ids=named)
def test_a_guest_that_runs_computes_the_right_sum_or_meets_the_failure(
    kind: Kind,
) -> None:
    mmu, page, replicate, way = kind
    image = assemble(WORK)
    pools = []

    def scenario() -> list[int]:
        numa = NumaConfig(LARGER, Policy.parse("interleave"), replicate=replicate)
        guest = BareGuest(image, bare_config(memory=8 << 20, mmu=mmu, host_page=page, numa=numa))
        pools.append(guest.machine.host.pool)
        try:
            guest.machine.ports.attach(MOVE, Mover(guest, way))
            outcome = guest.run()
            plan = failpoints.armed
            if outcome.reason == "stopped" and plan is not None and plan.error is not None:
                assert outcome.text == f"host memory exhausted: {plan.error}"
                outcome = guest.run()  # it goes on where it stood, now that there is memory
        finally:
            guest.machine.close()
        assert outcome.reason == "exited", outcome.text
        return reported(outcome)

    def check() -> None:
        for pool in pools:
            pool.audit()
            assert pool.frames_of(OwnerKind.FREE) == pool.frame_count
        pools.clear()

    assert scenario() == [SUM]
    outcomes = sweep_failures(scenario, check, every=EVERY)
    assert any(not one.text for one in outcomes)


@pytest.mark.parametrize("mmu", ["ept", "shadow"])
def test_a_guest_whose_first_table_could_not_be_had_goes_on_later(mmu: str) -> None:
    guest = BareGuest(
        assemble("mov rax, 42\nmov [0x300000], rax\nreport [0x300000]\nfinish\n"),
        bare_config(memory=8 << 20, mmu=mmu),
    )
    pool = guest.machine.host.pool
    assert isinstance(pool, Pool)
    with pool.claim(pool.frames_of(OwnerKind.FREE), MINE):
        assert guest.run().text.startswith("host memory exhausted: no free block of order 0 ")
    outcome = guest.run()
    assert (outcome.reason, reported(outcome)) == ("exited", [42]), outcome.text
    guest.close()
