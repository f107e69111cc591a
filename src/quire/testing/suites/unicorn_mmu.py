"""Unicorn's own MMU against the walk: fault or not, vector, error code, CR2, the byte reached, every entry afterwards.

Enumerated: every combination of leaf bits, upper bits and controls. Random: tables of 32-bit, PAE, 4-level and
5-level paging with a few bits spoiled. Unicorn models no EPT, no protection keys for supervisor pages and no shadow
stacks; what it does otherwise than the manual is named in ``DEVIATIONS`` and counted apart.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.arch import (
    CR4,
    LOW32,
    PTE,
    Access,
    PagingMode,
    Vector,
    gva_index,
    physical_reserved,
    pse36_reserved,
)
from quire.paging import Context, Status, WalkRecord, load_pdptes, reference_walk
from quire.testing.oracles.answer import Answer
from quire.testing.oracles.unicorn_mmu import CODE_FRAME, UnicornMmu
from quire.testing.suite import Setting, Suite
from quire.testing.suites.walk_matrix import Space
from quire.testing.tally import Tally
from quire.testing.world import FRAMES, NEAR, PAGE, ROOT, World

__all__ = ["DEVIATIONS", "EARLY_ACCESSED", "SUITES"]

EARLY_ACCESSED = "U1: sets the accessed flag of a 1 GiB leaf before it checks reserved bits and rights"
#: What Unicorn 2.1.4 (QEMU 5.0.1) does otherwise than the manual, by name. A test fails when one disappears.
DEVIATIONS = (EARLY_ACCESSED,)

_SAMPLE, _WHOLE = 4_000, 60_000
_WIDE = NEAR | 0xFF << 48  # canonical in 57 bits only; its PML5 entry is not that of the code
_P, _RW, _US, _A, _D, _PS, _XD = (PTE.mask(name) for name in ("P", "RW", "US", "A", "D", "PAT", "XD"))


Words = npt.NDArray[np.uint64]
Source = Callable[["Bench"], Iterator[tuple[list[int], Access]]]


@dataclass(slots=True)
class Bench:
    """Both engines over one memory for one mode and privilege."""

    mode: PagingMode
    user: bool
    setting: Setting
    world: World
    oracle: UnicornMmu
    clean: Words
    width: int


def _code_tables(world: World, mode: PagingMode, user: bool) -> None:
    """Map the code page at its own address by tables that no case touches."""
    rights = _P | _RW | _A | _D | (_US if user else 0)
    top = 2 if mode in (PagingMode.BITS_32, PagingMode.PAE) else int(mode)
    code = CODE_FRAME << 12
    frames = [ROOT if level == top else CODE_FRAME + level for level in range(top + 1)]
    if mode is PagingMode.PAE:
        frames[top] = CODE_FRAME + 5
        world.set(PDPT, 0, frames[top] << 12 | _P)
    for level in range(top, 0, -1):
        target = frames[level - 1] << 12 if level > 1 else code
        _store(world, mode, frames[level], gva_index(code, level, mode), target | rights)


PDPT = 32  #: frame of the four PDPTEs, which CR3 points to in PAE paging


def _store(world: World, mode: PagingMode, frame: int, index: int, entry: int) -> None:
    if mode is not PagingMode.BITS_32:
        world.set(frame, index, entry)
        return
    place = 32 * (index & 1)
    kept = int(world.memory[frame * 512 + (index >> 1)]) & ~(LOW32 << place)
    world.set(frame, index >> 1, kept | (entry & LOW32) << place)


def _bench(mode: PagingMode, user: bool, setting: Setting) -> Bench:
    """Return both engines over one memory: data frames hold their number, tables nothing but the code's mapping."""
    world = World(ept=False)
    for frame in range(FRAMES):
        world.memory[frame * 512 : frame * 512 + 512] = frame * 0x0101_0101_0101_0101
    for frame in (*range(ROOT, PAGE), PDPT, *range(CODE_FRAME, CODE_FRAME + 6)):
        world.memory[frame * 512 : frame * 512 + 512] = 0
    world.gva = _WIDE if mode is PagingMode.LEVEL_5 else NEAR if mode is PagingMode.LEVEL_4 else NEAR & LOW32
    world.context[Context.MODE], world.context[Context.USER] = mode, user
    _code_tables(world, mode, user)
    oracle = UnicornMmu(world.memory, long_mode=mode >= PagingMode.LEVEL_4, user=user)
    bench = Bench(mode, user, setting, world, oracle, world.memory.copy(), 52)
    _calibrate(bench)
    return bench


def _wire(bench: Bench, entries: list[int]) -> None:
    """Restore memory and wire the case's entries, highest level first; the last is a leaf."""
    world, mode = bench.world, bench.mode
    world.memory[:] = bench.clean
    top = 2 if mode in (PagingMode.BITS_32, PagingMode.PAE) else int(mode)
    for n, entry in enumerate(entries):
        frame = ROOT + n
        _store(world, mode, frame, gva_index(world.gva, top - n, mode), entry)
    if mode is PagingMode.PAE:
        world.set(PDPT, world.gva >> 30 & 3, ROOT << 12 | _P)


def _table(n: int, bits: int = _P | _RW | _US) -> int:
    return (ROOT + n + 1) << 12 | bits


def _control(bench: Bench) -> None:
    """Give the oracle the controls in the context."""
    context, mode = bench.world.context, bench.mode
    cr4 = CR4.encode(
        PSE=int(context[Context.PSE]),
        PAE=mode is not PagingMode.BITS_32,
        LA57=mode is PagingMode.LEVEL_5,
        SMEP=int(context[Context.SMEP]),
        SMAP=int(context[Context.SMAP]),
        PKE=int(context[Context.PKE]),
    )
    cr3 = (PDPT if mode is PagingMode.PAE else ROOT) << 12
    context[Context.CR3] = cr3
    bench.oracle.control(
        cr3=cr3,
        cr4=cr4,
        wp=int(context[Context.WP]),
        nxe=int(context[Context.NXE]),
        ac=int(context[Context.AC]),
        pkru=int(context[Context.PKRU]),
    )


def _calibrate(bench: Bench) -> None:
    """Find Unicorn's error-code field by four faults, then its MAXPHYADDR by the lowest reserved address bit."""
    depth = 2 if bench.mode in (PagingMode.BITS_32, PagingMode.PAE) else int(bench.mode)
    tables = [_table(n) for n in range(depth - 1)]
    u = 4 if bench.user else 0
    gva, context = bench.world.gva, bench.world.context
    context[Context.NXE], context[Context.WP] = 1, 1
    leaves = [(0, Access.READ, u), (0, Access.WRITE, u | 2), (PAGE << 12 | _P | _US, Access.WRITE, u | 3)]
    if bench.mode is not PagingMode.BITS_32:
        leaves.append((0, Access.FETCH, u | 0x10))

    def prepare(n: int) -> None:
        _wire(bench, [*tables, leaves[n][0]])
        _control(bench)

    bench.oracle.calibrate([(gva, access, code) for _, access, code in leaves], prepare)
    if bench.mode is PagingMode.BITS_32:
        bench.width = 40
        return
    for bit in range(32, 52):
        _wire(bench, [*tables, PAGE << 12 | _P | _RW | _US | 1 << bit])
        _control(bench)
        if bench.oracle.access(gva, Access.READ).error_code & 8:
            bench.width = bit
            break
    context[Context.RESERVED] = physical_reserved(bench.width)
    context[Context.PSE_RESERVED] = pse36_reserved(bench.width, True)


def _compare(bench: Bench, tally: Tally, entries: list[int], access: Access) -> None:
    """Ask both engines from the same memory; what was outside memory for either is not compared."""
    world = bench.world
    _wire(bench, entries)
    _control(bench)
    before = world.memory.copy()
    record = _walk(world, access)
    mine = _answer(record, before, world.gva, access)
    if record.status is Status.BUS_ERROR:
        return
    if record.status is Status.OK and access is not Access.READ:
        octet = 0x5A if access is Access.WRITE else 0x90
        world.memory.view(np.uint8)[record.hpa] = octet
        if access is Access.FETCH:
            before.view(np.uint8)[record.hpa] = octet
    ours = world.memory.copy()
    world.memory[:] = before
    answer = bench.oracle.access(world.gva, access)
    if answer.outside:
        return
    said = "as the oracle's" if np.array_equal(ours, world.memory) else _changes(ours, world.memory)
    what = f"{access.name.lower()}, {' '.join(f'{entry:#x}' for entry in entries)}, {_switches(world)}"
    excuse = _deviation(bench, mine == answer, ours, before)
    tally.compare(what, (mine, said), (answer, "as the oracle's"), deviation=excuse)


def _walk(world: World, access: Access) -> WalkRecord:
    if world.context[Context.MODE] == PagingMode.PAE:
        loaded = load_pdptes(world.memory, world.context)
        if loaded.status is not Status.OK:
            return loaded
    return reference_walk(world.memory, world.context, world.gva, access)


def _answer(record: WalkRecord, memory: Words, gva: int, access: Access) -> Answer:
    if record.status is Status.OK:
        value = int(memory.view(np.uint8)[record.hpa]) if access is Access.READ else 0x5A
        return Answer(value=value)
    cr2 = gva if record.vector == Vector.PF else 0
    return Answer(vector=record.vector, error_code=record.error, cr2=cr2)


def _changes(ours: Words, theirs: Words) -> str:
    where = np.flatnonzero(ours != theirs)[:3]
    return ", ".join(f"{int(ours[n]):#x} (oracle {int(theirs[n]):#x}) at {8 * int(n):#x}" for n in where)


def _switches(world: World) -> str:
    names = (Context.NXE, Context.WP, Context.SMEP, Context.SMAP, Context.AC, Context.PKE, Context.PSE)
    words = [field.name for field in names if world.context[field]]
    return " ".join((*words, f"PKRU={int(world.context[Context.PKRU]):#x}"))


def _deviation(bench: Bench, same_answer: bool, ours: Words, before: Words) -> str:
    """Return the known fault that explains how memory differs, if one does."""
    theirs = bench.world.memory
    where = np.flatnonzero(ours != theirs)
    if not same_answer or len(where) != 1 or bench.mode < PagingMode.LEVEL_4:
        return ""
    entry = int(before[where[0]])
    is_1g_leaf = int(where[0]) >> 9 == ROOT + bench.mode - 3 and entry & _PS
    return EARLY_ACCESSED if is_1g_leaf and int(theirs[where[0]]) == entry | _A else ""


_LEAF = [sum(bits) for bits in itertools.product(*((0, bit) for bit in (_P, _RW, _US, _A, _D, _XD)))]
_UPPER = [sum(bits) | _P for bits in itertools.product(*((0, bit) for bit in (_RW, _US, _A, _XD)))]
_KEYS = ((0, 0), (1, 1 << 6), (1, 2 << 6))


def _enumerated(bench: Bench) -> Iterator[tuple[list[int], Access]]:
    """Yield every leaf x upper entry x control x access of the mode, or a sample."""
    long_mode = bench.mode >= PagingMode.LEVEL_4
    depth = int(bench.mode) if long_mode else 2
    switches = (Context.NXE, Context.WP, Context.SMEP, Context.SMAP, Context.AC)
    space = Space(
        _LEAF,
        _UPPER,
        *[(0, 1)] * len(switches),
        _KEYS if long_mode else _KEYS[:1],
        (False, True),
        (Access.READ, Access.WRITE, Access.FETCH),
    )
    for leaf, upper, *controls, (pke, pkru), large, access in space.points(bench.setting, _SAMPLE):
        for field, value in zip(switches, controls, strict=True):
            bench.world.context[field] = value
        bench.world.context[Context.PKE], bench.world.context[Context.PKRU] = pke, pkru
        bench.world.context[Context.PSE] = 1
        if bench.mode is PagingMode.BITS_32:
            leaf, upper = leaf & LOW32, upper & LOW32
        key = 3 << 59 if long_mode else 0
        count = depth - large
        entries = [_table(n) for n in range(count - 1)]
        if entries:
            entries[-1] = _table(count - 2, upper)
        yield [*entries, leaf | key | (_PS if large else PAGE << 12)], access


def _random(bench: Bench) -> Iterator[tuple[list[int], Access]]:
    """Yield random tables with up to three bits spoiled, under random controls."""
    rng = random.Random(bench.setting.seed * 10 + bench.mode * 2 + bench.user)
    long_mode = bench.mode >= PagingMode.LEVEL_4
    depth = int(bench.mode) if long_mode else 2
    bits = 32 if bench.mode is PagingMode.BITS_32 else 64
    for _ in range(_WHOLE if bench.setting.whole else _SAMPLE):
        for field in (Context.NXE, Context.WP, Context.SMEP, Context.SMAP, Context.AC, Context.PSE):
            bench.world.context[field] = rng.getrandbits(1)
        bench.world.context[Context.PKE] = long_mode and rng.random() < 0.3
        bench.world.context[Context.PKRU] = rng.getrandbits(32)
        entries = []
        for n in range(depth):
            shape = rng.choice((7, 7, 0x27, 0x67, 3, 5, 0x65)) | (
                rng.getrandbits(1) << 63 if bits == 64 else 0
            )
            large = depth - n in ((2,) if depth == 2 else (2, 3)) and rng.random() < 0.2
            last = n == depth - 1
            entry = shape | (PAGE << 12 if last else _PS if large else (ROOT + n + 1) << 12)
            for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
                entry ^= 1 << rng.randrange(bits)
            entries.append(entry & (1 << bits) - 1)
            if large:
                break
        yield entries, rng.choice((Access.READ, Access.WRITE, Access.FETCH))


def _case(mode: PagingMode, user: bool, source: Source) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        bench = _bench(mode, user, setting)
        for entries, access in source(bench):
            _compare(bench, tally, entries, access)

    return run


def _suite() -> Suite:
    suite = Suite(
        "unicorn-mmu",
        oracle="Unicorn's MMU",
        title="guest paging of every mode, against the page walker of QEMU",
    )
    for mode in (PagingMode.BITS_32, PagingMode.PAE, PagingMode.LEVEL_4, PagingMode.LEVEL_5):
        for user in (False, True) if mode >= PagingMode.LEVEL_4 else (False,):
            name = f"{mode.name.lower().replace('_', '-')}-cpl-{3 if user else 0}"
            suite.case(f"{name}-matrix")(_case(mode, user, _enumerated))
            suite.case(f"{name}-random")(_case(mode, user, _random))
    return suite


SUITES = [_suite()]
