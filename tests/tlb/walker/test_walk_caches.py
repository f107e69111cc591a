"""Walk caches: the kernel and its slow twin account the same references; real walks lose those that caches hold."""

import random
from dataclasses import replace

import numpy as np
import pytest

from quire.arch import SKYLAKE_X, CpuProfile, Held, Replacement, WalkCacheGeometry
from quire.tlb import AddressSpace, Operation, Tlb, TlbOptions, TlbState
from quire.tlb.walker import PATH_WORDS, Path
from quire.tlb.walker._kernels_arrays import account
from quire.tlb.walker.reference import GuestPhysical, ReferenceWalker

pytestmark = pytest.mark.jitless

ONE_FOR_ALL = replace(
    SKYLAKE_X,
    walk_caches=(
        WalkCacheGeometry("PDC", False, (Held.PDE, Held.PDPTE, Held.PML4E, Held.PML5E), 16, 16),
        WalkCacheGeometry("EPT PDC", True, (Held.PDE, Held.PDPTE, Held.PML4E, Held.PML5E), 8, 2),
    ),
)
SPACES = (AddressSpace(1, 0, None), AddressSpace(1, 0, 7), AddressSpace(1, 4, 7), AddressSpace(2, 0, 9))


class Twins:
    def __init__(self, profile: CpuProfile, options: TlbOptions) -> None:
        self.tlb = Tlb(profile, options)
        self.reference = ReferenceWalker(profile, options, int(self.tlb.state[TlbState.RANDOM]))

    def enter(self, space: AddressSpace) -> None:
        self.tlb.enter(space)
        self.reference.space = self.tlb.spaces.number(space)
        self.reference.ept_space = int(self.tlb.state[TlbState.EPT_SPACE])

    def walk(self, gva: int, tables: dict[int, GuestPhysical], page: GuestPhysical | None) -> tuple[int, int]:
        path = np.zeros(PATH_WORDS, np.uint64)
        path[Path.LEVELS], path[Path.LEAF], path[Path.HOST_LEVELS] = max(tables), min(tables), 4
        for level, table in tables.items():
            path[Path.TABLE_GPA + level] = table.gpa
            path[Path.TABLE_SHIFT + level] = table.shift
        if page is not None:
            path[Path.GPA], path[Path.HOST_SHIFT] = page.gpa, page.shift
        self.tlb.state[TlbState.CLOCK] += np.uint64(1)
        self.reference.clock += 1
        found = int(account(self.tlb.entries, self.tlb.state, self.tlb.shapes, path, np.uint64(gva)))
        expected = self.reference.account(gva, tables, page, 4)
        assert (found & 0xFFFFFFFF, found >> 32) == expected
        return expected


@pytest.mark.parametrize("by_gpa", [False, True])
@pytest.mark.parametrize("replacement", Replacement)
@pytest.mark.parametrize("profile", [SKYLAKE_X, ONE_FOR_ALL], ids=["apart", "one for all"])
def test_random_paths(profile: CpuProfile, replacement: Replacement, by_gpa: bool) -> None:
    rng = random.Random(replacement)
    twins = Twins(profile, TlbOptions(replacement=replacement, seed=5, tables_by_gpa=by_gpa))
    twins.enter(SPACES[1])
    fewer = 0
    for _ in range(800):
        if rng.random() < 0.01:
            twins.enter(rng.choice(SPACES))
        gva = (
            rng.randrange(4) << 39 | rng.randrange(3) << 30 | rng.randrange(6) << 21 | rng.randrange(64) << 12
        )
        leaf = rng.choice((1, 1, 1, 1, 2, 3))
        tables = {n: GuestPhysical((gva >> 12 + 9 * n) * 0x5000 & 0xFFFFF000, rng.choice((12, 12, 21)))
                  for n in range(leaf, 5)}  # fmt: skip
        page = None if rng.random() < 0.05 else GuestPhysical(gva & 0xFFFFFFFF, rng.choice((12, 12, 21, 30)))
        guest, host = twins.walk(gva, tables, page)
        fewer += guest < len(tables)
        assert host == 0 or twins.reference.ept_space
    assert fewer > 250


def test_what_is_cached_is_skipped_and_what_is_flushed_is_not() -> None:
    twins = Twins(SKYLAKE_X, TlbOptions())
    twins.enter(SPACES[1])
    tables = {level: GuestPhysical(level << 30, 12) for level in (4, 3, 2, 1)}
    page = GuestPhysical(9 << 30, 12)
    # Each of the five translations by EPT but the first begins below its PML4E, which the first one cached.
    assert twins.walk(0x1000, tables, page) == (4, 16)
    assert twins.walk(0x1000, tables, page) == (1, 0)  # PDE cache, then the nested TLB
    twins.tlb.invalidate(Operation.INVLPG, vpid=1, pcid=0, gva=1 << 45)
    twins.reference.invalidate({twins.reference.space}, None)
    assert twins.walk(0x1000, tables, page) == (4, 0)  # guest-physical mappings stay
    twins.tlb.invalidate(Operation.INVEPT_CONTEXT, ep4ta=7)
    twins.reference = ReferenceWalker(SKYLAKE_X, TlbOptions(), 1)
    twins.enter(SPACES[1])
    assert twins.walk(0x1000, tables, page) == (4, 16)
