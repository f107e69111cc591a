"""KVM against the walk: accesses executed in a guest at CPL 0 and 3, 4-level paging, hundreds in each run.

Compared: fault or not, vector, error code, CR2, the value that came from the page or went to it, and every byte of
the tables afterwards. WP and NXE are enumerated, SMEP and SMAP where this machine's KVM offers them. A KVM that has no
paging outside long mode (kvm_pvm) is no oracle of 32-bit and PAE paging: those are left to Unicorn.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.arch import CR4, PF_ERROR, PTE, SKYLAKE_X, Access, Vector, physical_reserved
from quire.errors import BackendError
from quire.paging import Context, Status, WalkRecord, new_context, reference_walk
from quire.testing.oracles.answer import Answer
from quire.testing.oracles.kvm_mmu import (
    BATCH,
    DATA_FRAMES,
    DIAGONAL,
    GUEST_FRAMES,
    LARGE_FRAME,
    MEMORY_BYTES,
    ROOT,
    KvmFeatures,
    KvmMmu,
)
from quire.testing.suite import Setting, Suite
from quire.testing.suites.walk_matrix import Space
from quire.testing.tally import Tally

__all__ = ["DEVIATIONS", "FORBIDDEN_ENTRY", "LATE_ACCESSED", "SUITES"]

LATE_ACCESSED = "K1: sets no accessed flag at all when the access faults, not even in the tables that it used"
FORBIDDEN_ENTRY = "K2: at CPL 3 lets nothing through PML4 entry 256: not present, whatever the tables say"
#: What the KVM of module kvm_pvm does otherwise than the manual, by name. A test fails when one disappears.
DEVIATIONS = (LATE_ACCESSED, FORBIDDEN_ENTRY)

_P, _RW, _US, _A, _D, _PS, _XD = (PTE.mask(name) for name in ("P", "RW", "US", "A", "D", "PAT", "XD"))
_TABLES = (ROOT, *DIAGONAL)
_ACCESSES = (Access.READ, Access.WRITE, Access.FETCH)
_FORBIDDEN = 256
_NON_CANONICAL = 0.02
_SAMPLE, _RANDOM_SAMPLE, _RANDOM_WHOLE = 4_000, 4_000, 60_000
_IN_MEMORY = range(12, MEMORY_BYTES.bit_length() - 1)  # address bits that lead to another frame of memory

Words = npt.NDArray[np.uint64]
Controls = tuple[int, int, int, int, int]  # WP, NXE, SMEP, SMAP, AC
Shape = tuple[
    int, ...
]  #: entries of one access from the root to the leaf, without the addresses that link them
Source = Callable[["Bench", Controls], Iterator["Case"]]


@dataclass(frozen=True, slots=True)
class Case:
    """One access; `spoil` is flipped in its linear address."""

    shape: Shape
    access: Access
    spoil: int = 0


@dataclass(slots=True)
class Bench:
    """The oracle and the walk's context."""

    setting: Setting
    oracle: KvmMmu
    features: KvmFeatures
    context: Words
    clean: Words
    rng: random.Random

    def controls(self) -> list[Controls]:
        """Return each combination of controls that this machine can be set to."""
        smap = (0, 1) if self.features.smap else (0,)
        return list(itertools.product((1, 0), (1, 0), (0, 1) if self.features.smep else (0,), smap, smap))


def _bench(setting: Setting, user: bool) -> Bench:
    features = KvmFeatures.here()
    oracle = KvmMmu(user=user)
    context = new_context(SKYLAKE_X, MEMORY_BYTES)
    context[Context.CR3] = ROOT << 12
    context[Context.USER] = user
    context[Context.RESERVED] = physical_reserved(features.maxphyaddr)
    context[Context.PAGE_1G] = features.page_1g
    return Bench(setting, oracle, features, context, oracle.memory.copy(), random.Random(setting.seed))


def _gva(n: int, levels: int) -> int:
    """Return the linear address that uses entry `n` of each of so many tables, and slot `n` of the page."""
    shifts = (39, 30, 21, 12)[:levels]
    offset = LARGE_FRAME << 12 if levels == 2 else 0  # a 1 GiB page lies at address 0
    gva = sum(n << shift for shift in shifts) | offset | 8 * n
    return gva | 0xFFFF << 48 if n >= 256 else gva


def _wire(memory: Words, n: int, shape: Shape) -> None:
    """Store the entries of access `n`; a table entry gets the next table's address, a leaf a data frame's."""
    for level, bits in enumerate(shape):
        if level < len(shape) - 1:
            frame = _TABLES[level + 1]
        else:
            frame = {4: DATA_FRAMES[n % len(DATA_FRAMES)], 3: LARGE_FRAME}.get(len(shape), 0)
        memory[_TABLES[level] * 512 + n] = bits ^ frame << 12


def _stays(record: WalkRecord, n: int) -> bool:
    """Return whether a walk keeps to its own entries and to its own slot: others would disturb the guest."""
    own = {(frame * 512 + n) * 8 for frame in _TABLES}
    if record.status is Status.BUS_ERROR or not own.issuperset(ref.hpa for ref in record.references):
        return False
    frame, offset = divmod(record.hpa, 4096)
    return record.status is not Status.OK or (frame in (*DATA_FRAMES, LARGE_FRAME) and offset == 8 * n)


def _expected(memory: Words, context: Words, line: int, gva: int, access: Access) -> Answer:
    """Walk, and do to `memory` what the access does."""
    record = reference_walk(memory, context, gva, access)
    if record.status is not Status.OK:
        return Answer(record.vector, record.error, gva if record.vector == Vector.PF else 0)
    if access is Access.WRITE:
        memory[record.hpa >> 3] = KvmMmu.written(line)
        return Answer(value=KvmMmu.written(line))
    if access is Access.FETCH:
        return Answer(value=KvmMmu.tag(record.hpa >> 12, (record.hpa & 0xFFF) >> 3))
    return Answer(value=int(memory[record.hpa >> 3]))


def _set_controls(bench: Bench, controls: Controls) -> None:
    fields = (Context.WP, Context.NXE, Context.SMEP, Context.SMAP, Context.AC)
    for field, value in zip(fields, controls, strict=True):
        bench.context[field] = value


def _batch(bench: Bench, tally: Tally, controls: Controls, cases: list[Case]) -> None:
    """Run as many accesses as there are entries, and compare each with the walk."""
    memory = bench.oracle.memory
    memory[:] = bench.clean
    _set_controls(bench, controls)
    kept = []
    bench.context[Context.UPDATE] = 0
    for n, case in enumerate(cases, 1):
        _wire(memory, n, case.shape)
        gva = _gva(n, len(case.shape)) ^ case.spoil
        if _stays(reference_walk(memory, bench.context, gva, case.access), n):
            kept.append((n, gva, case))
    bench.context[Context.UPDATE] = 1
    before, ours = memory.copy(), memory.copy()
    mine = [
        _expected(ours, bench.context, line, gva, case.access) for line, (_, gva, case) in enumerate(kept)
    ]
    wp, nxe, smep, smap, ac = controls
    accesses = [(gva, case.access) for _, gva, case in kept]
    answers = bench.oracle.run(accesses, wp=wp, nxe=nxe, cr4=CR4.encode(SMEP=smep, SMAP=smap), ac=ac)
    rest = np.ones(len(before), bool)
    for frame in GUEST_FRAMES:
        rest[frame * 512 : frame * 512 + 512] = False
    for (n, gva, case), said, answer in zip(kept, mine, answers, strict=True):
        where = [frame * 512 + n for frame in (*_TABLES, *DATA_FRAMES, LARGE_FRAME)]
        was, state, theirs = (tuple(words[where].tolist()) for words in (before, ours, memory))
        entries = " ".join(f"{bits:#x}" for bits in case.shape)
        what = f"{case.access.name.lower()} of {gva:#x}, {entries}, {_words(controls)}"
        excuse = _deviation(bench, n, case.access, said, answer) if theirs == was else ""
        tally.compare(what, (said, state), (answer, theirs), deviation=excuse)
        rest[where] = False
    tally.check(
        f"no other word of memory changes, {_words(controls)}", np.array_equal(ours[rest], memory[rest])
    )


def _deviation(bench: Bench, n: int, access: Access, said: Answer, answer: Answer) -> str:
    """Return the known fault that explains an answer of KVM that came with no change of memory, if one does."""
    if answer.vector != Vector.PF:
        return ""
    without_walk = PF_ERROR.encode(U=1, W=access is Access.WRITE, ID=access is Access.FETCH)
    if bench.oracle.user and n == _FORBIDDEN and answer.error_code == without_walk:
        return FORBIDDEN_ENTRY
    return LATE_ACCESSED if said == answer else ""


def _words(controls: Controls) -> str:
    names = ("WP", "NXE", "SMEP", "SMAP", "AC")
    return " ".join(name for name, value in zip(names, controls, strict=True) if value) or "no controls"


_LEAF = [sum(bits) for bits in itertools.product(*((0, bit) for bit in (_P, _RW, _US, _A, _D, _XD)))]
_UPPER = [sum(bits) | _P for bits in itertools.product(*((0, bit) for bit in (_RW, _US, _A, _XD)))]
_TABLE_BITS = _P | _RW | _US


def _enumerated(bench: Bench, controls: Controls) -> Iterator[Case]:
    """Yield every leaf x upper entry x level of that entry x page size x access, or a sample."""
    sizes = (4, 3, 2) if bench.features.page_1g else (4, 3)
    places = [(levels, at) for levels in sizes for at in range(levels - 1)]
    space = Space(_LEAF, _UPPER, places, _ACCESSES)
    for leaf, upper, (levels, at), access in space.points(bench.setting, _SAMPLE // len(bench.controls())):
        tables = [_TABLE_BITS] * (levels - 1)
        tables[at] = upper
        yield Case((*tables, leaf if levels == 4 else leaf | _PS), access)


def _random(bench: Bench, controls: Controls) -> Iterator[Case]:
    """Yield tables of any depth with random rights and up to two spoiled bits in each entry."""
    rng = bench.rng
    count = _RANDOM_WHOLE if bench.setting.whole else _RANDOM_SAMPLE
    shapes = (7, 7, 7, 0x27, 0x67, 0x47, 3, 0x63, 0x65, 7 | _XD)
    for _ in range(count // len(bench.controls())):
        levels = rng.choice((4, 4, 4, 3, 3, 2))
        entries = []
        for level in range(levels):
            large = level == levels - 1 and levels < 4
            entry = rng.choice(shapes) | (_PS if large else 0)
            for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
                bit = rng.randrange(64)
                entry ^= 0 if bit in _IN_MEMORY and not large else 1 << bit
            entries.append(entry)
        spoil = 1 << rng.randrange(47, 64) if rng.random() < _NON_CANONICAL else 0
        yield Case(tuple(entries), rng.choice(_ACCESSES), spoil)


def _case(user: bool, source: Source) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        bench = _bench(setting, user)
        try:
            for controls in bench.controls():
                cases = source(bench, controls)
                while batch := list(itertools.islice(cases, BATCH)):
                    _batch(bench, tally, controls, batch)
        finally:
            bench.oracle.close()

    return run


def _unavailable() -> str:
    """Return why KVM cannot be asked here, or nothing."""
    try:
        KvmFeatures.here()
        KvmMmu(user=False).close()
    except BackendError as error:
        return str(error)
    return ""


def _suite() -> Suite:
    suite = Suite(
        "kvm-mmu",
        oracle="KVM",
        title="4-level paging at CPL 0 and 3, executed in a guest of this machine's KVM",
        unavailable=_unavailable,
    )
    for user in (False, True):
        suite.case(f"cpl-{3 if user else 0}-matrix")(_case(user, _enumerated))
        suite.case(f"cpl-{3 if user else 0}-random")(_case(user, _random))
    return suite


SUITES = [_suite()]
