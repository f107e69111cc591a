"""Rights, all of them: every page, every setting, every two accesses one after another, against a model in the test.

With CR0.WP = 0 a supervisor may write a read-only page. Hardware has CR0.WP = 1, so its entry is then that of a
supervisor's page that may be written, until a user comes and it is that of a user's page again (KVM, mmu.rst).
"""

import itertools

import pytest
from shadow_parts import LARGE, PS, RW, US, XD, A, D, P
from shadow_world import ShadowWorld

from quire.arch import PF_ERROR, Access, PagingMode
from quire.paging import Context, Status, reference_walk

ACCESSES = [(access, True, False) for access in (Access.READ, Access.WRITE, Access.FETCH)]
ACCESSES += [
    (access, False, ac) for access in (Access.READ, Access.WRITE, Access.FETCH) for ac in (False, True)
]
CONTROLS = ("wp", "smep", "smap", "nxe")
PAGES = [(user, writable) for user in (US, 0) for writable in (RW, 0)]

Tried = tuple[Access, bool, bool]


def refused(page: int, tried: Tried, settings: dict[str, int]) -> int | None:
    """Return the error code of an access to a present page of rights `page`, None if it passes. SDM 3A §4.6.1, §4.7."""
    access, user, ac = tried
    if access is Access.FETCH:
        wrong = bool(page & XD) or (not page & US if user else bool(page & US and settings["smep"]))
    elif user:
        wrong = not page & US or (access is Access.WRITE and not page & RW)
    else:
        wrong = bool(page & US and settings["smap"] and not ac)
        wrong = wrong or bool(access is Access.WRITE and settings["wp"] and not page & RW)
    if not wrong:
        return None
    fetch = access is Access.FETCH and bool(settings["nxe"] or settings["smep"])
    return PF_ERROR.encode(P=1, W=access is Access.WRITE, U=user, ID=fetch)


def check_pairs(world: ShadowWorld, gva: int, page: int, hpa: int, settings: dict[str, int]) -> int:
    """Try every two accesses and the first again, from an empty shadow; return how many passed."""
    world.set_controls(**settings)
    expected: dict[Tried, tuple[str, int]] = {}
    for tried in ACCESSES:
        error = refused(page, tried, settings)
        expected[tried] = ("ok", hpa) if error is None else ("fault", error)
        state = world.guest.copy()
        state[Context.USER], state[Context.AC], state[Context.UPDATE] = tried[1], tried[2], 0
        record = reference_walk(world.memory.words, state, gva, tried[0])
        assert expected[tried] == (
            ("ok", record.hpa) if record.status is Status.OK else ("fault", record.error)
        )
    passed, frame = 0, frame_at(world, hpa)
    for first, second in itertools.product(ACCESSES, repeat=2):
        world.shadow.tables.drop_leaves(frame, 1)
        for access, user, ac in (first, second, first):
            got = world.access(gva, access, user=user, ac=ac)
            assert got == expected[access, user, ac], (first, second, (access, user, ac), settings, hex(page))
            passed += got[0] == "ok"
            if world.shadow.stepping:
                world.shadow.settle()
    assert world.audit() == []
    return passed


def frame_at(world: ShadowWorld, hpa: int) -> int:
    """Return the guest frame at `hpa`."""
    for one in world.map.mappings():
        if one.target <= hpa < one.target + one.size:
            return one.start + hpa - one.target >> 12
    raise AssertionError("no guest frame is there")


@pytest.mark.parametrize("controls", list(itertools.product((0, 1), repeat=4)))
@pytest.mark.parametrize(("user", "writable"), PAGES)
def test_every_two_accesses_to_a_page(controls: tuple[int, ...], user: int, writable: int) -> None:
    settings = dict(zip(CONTROLS, controls, strict=True))
    world = ShadowWorld(wire=True)
    page = P | A | D | user | writable | (XD if settings["nxe"] and not writable and user else 0)
    world.put(3, 0, 8 << 12 | page)
    assert check_pairs(world, 0, page, world.hpa(8), settings) > 0
    world.close()


@pytest.mark.parametrize("controls", list(itertools.product((0,), (0, 1), (0, 1), (1,))))
@pytest.mark.parametrize(("user", "writable"), PAGES)
@pytest.mark.parametrize("table", [0, 3])
def test_every_two_accesses_to_a_table(
    controls: tuple[int, ...], user: int, writable: int, table: int
) -> None:
    settings = dict(zip(CONTROLS, controls, strict=True))
    world = ShadowWorld()
    page = P | A | D | user | writable
    world.put(3, 0, table << 12 | page)
    assert check_pairs(world, 0, page, world.hpa(table), settings) > 0
    world.close()


@pytest.mark.parametrize("controls", list(itertools.product((0,), (0, 1), (0, 1), (1,))))
@pytest.mark.parametrize(("user", "writable"), PAGES)
@pytest.mark.parametrize("split", [False, True])
def test_every_two_accesses_to_a_large_page(
    controls: tuple[int, ...], user: int, writable: int, split: bool
) -> None:
    settings = dict(zip(CONTROLS, controls, strict=True))
    world = ShadowWorld()
    page = P | A | D | user | writable
    world.put(2, 0, LARGE << 12 | PS | page)
    if split:
        world.map.split(LARGE << 12)
    assert check_pairs(world, 0x3000, page, world.hpa(LARGE + 3), settings) > 0
    world.close()


@pytest.mark.parametrize("mode", [PagingMode.PAE, PagingMode.BITS_32, PagingMode.LEVEL_5])
@pytest.mark.parametrize(("user", "writable"), PAGES)
def test_other_modes_without_wp(mode: PagingMode, user: int, writable: int) -> None:
    world = ShadowWorld(mode)
    page = P | A | D | user | writable
    table = {PagingMode.PAE: 1, PagingMode.BITS_32: 1, PagingMode.LEVEL_5: 4}[mode]
    world.put(table, 0, 8 << 12 | page)
    settings = {"wp": 0, "smep": 1, "smap": 1, "nxe": int(mode is not PagingMode.BITS_32)}
    assert check_pairs(world, 0, page, world.hpa(8), settings) > 0
    world.close()


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize(("user", "writable"), PAGES)
@pytest.mark.parametrize("execute", [0, XD])
def test_a_right_that_any_level_denies(level: int, user: int, writable: int, execute: int) -> None:
    settings = {"wp": 1, "smep": 1, "smap": 1, "nxe": 1}
    world = ShadowWorld()
    for depth in range(4):
        rights = user | writable | execute if depth == 4 - level else US | RW
        world.put(depth, 0, (depth + 1 if depth < 3 else 8) << 12 | P | A | D | rights)
    page = P | user | writable | execute
    world.set_controls(**settings)
    for access, is_user, ac in ACCESSES * 2:
        error = refused(page, (access, is_user, ac), settings)
        want = ("ok", world.hpa(8)) if error is None else ("fault", error)
        assert world.check_access(0, access, user=is_user, ac=ac) == want
    assert world.audit() == []
    world.close()
