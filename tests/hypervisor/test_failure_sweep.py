"""A whole life, with every allocation, mapping, protection and call to the host failing in turn: nothing stays behind."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from shared_host import Subject, pools_of

from quire.errors import BackendError
from quire.guest.bare import BareGuest
from quire.hypervisor import DirtyWay, Host, NumaConfig
from quire.memory import Claim, FrameCache, OutOfFrames, Owner, OwnerKind
from quire.memory.numa import Policy, Topology
from quire.memory.secure import SecurePool
from quire.testing import FailureOutcome, sweep_failures

sys.path.append(str(Path(__file__).parents[1] / "cpu"))
from ring0_guest import SWITCH, assemble, reported

TWO = Topology.declared([8 << 20, 8 << 20])
MINE = Owner(OwnerKind.HYPERVISOR, "test")
EVERY = [
    ("ept", 4 << 10, False, DirtyWay.WRITE_PROTECT),
    ("ept", 4 << 10, True, DirtyWay.DIRTY_BITS),
    ("ept", 2 << 20, True, DirtyWay.PML),
    ("ept", 2 << 20, False, DirtyWay.PML),
    ("shadow", 4 << 10, False, DirtyWay.WRITE_PROTECT),
    ("shadow", 2 << 20, True, DirtyWay.WRITE_PROTECT),
]


class Life:
    """One guest from birth to death. `mends`: an action that fails is proved to have done nothing, and done again."""

    def __init__(self, host: Host, kind: tuple[str, int, bool, DirtyWay], mends: bool) -> None:
        self.host, self.kind, self.mends = host, kind, mends
        self.secure = self.subject = None

    def __call__(self) -> list[object]:
        mmu, page, replicate, self.way = self.kind
        numa = NumaConfig(TWO, Policy.parse("interleave"), replicate=replicate)
        one = Subject(self.host, mmu, page, numa, 1, False)
        try:
            return self.live(one)
        finally:
            one.hypervisor.close()

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


def swept(kind: tuple[str, int, bool, DirtyWay], mends: bool, every: int = 1) -> list[FailureOutcome]:
    host = Host.with_nodes(TWO)
    before = host.pool.statistics().frames_by_kind

    def check() -> None:
        host.pool.audit()
        assert host.pool.statistics().frames_by_kind == before

    outcomes = sweep_failures(Life(host, kind, mends), check, every=every)
    host.close()
    return outcomes


@pytest.mark.parametrize(
    "kind", EVERY, ids=lambda kind: f"{kind[0]}-{kind[1]:#x}-{kind[3]}{'-copies' * kind[2]}"
)
@pytest.mark.parametrize("mends", [False, True])
def test_a_failure_anywhere_is_one_error_and_leaves_nothing(
    kind: tuple[str, int, bool, DirtyWay], mends: bool
) -> None:
    outcomes = swept(kind, mends)
    print(len(outcomes), {one.site for one in outcomes})
