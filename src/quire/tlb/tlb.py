"""The modelled TLBs and walk caches of one vCPU, tagged with VPID, PCID and EP4TA.

Geometry comes from a CPU profile. Compiled callers use the arrays with the kernels; Python uses the methods. Models
what hardware may keep until it is told otherwise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.arch import WORD, CpuProfile, Replacement, Side, TlbGeometry, WalkCacheGeometry
from quire.errors import MisuseError
from quire.tlb.contents import SetUse, TlbTable, make_table, set_use, valid_indices
from quire.tlb.invalidation import MappingClass, Operand, Operation, Structures
from quire.tlb.layout import (
    KINDS,
    LEVELS,
    LISTED_WAYS,
    SIDE_NUMBERS,
    SIDES,
    SIZE_OF_SHIFT,
    SIZES,
    TAG,
    TRANSLATION,
    Keeping,
    Kind,
    Shape,
    Shapes,
    TlbState,
)
from quire.tlb.spaces import AddressSpace, AddressSpaces
from quire.tlb.structure import Structure, held_kinds, is_unbounded

__all__ = ["Tlb", "TlbEntry", "TlbOptions"]

_FIRST_SLOTS = 1 << 12  # of a table without bound; it doubles
_CANONICAL = 57


@dataclass(frozen=True, slots=True)
class TlbOptions:
    """What a study changes of a profile: the `replacement` of every structure, the `largest_page` that is held whole
    (larger ones are held in pieces, as the manual permits), no `walk_caches`; `seed` of random replacement.

    With `tables_by_gpa` an entry of a linear walk cache holds the next table's guest-physical address, which has to be
    translated, as in Bhargava et al., ASPLOS 2008; else its host-physical one (SDM 3C §28.4.1).
    """

    replacement: Replacement | None = None
    largest_page: int = 1 << 30
    walk_caches: bool = True
    seed: int = 0
    tables_by_gpa: bool = False


@dataclass(frozen=True, slots=True)
class TlbEntry:
    """One valid entry: in which structure and set, whose (`space`), what (`kind`, `address`, `size`), and its `hpa`.

    `value` is a TRANSLATION; `stamp` the clock of its last use.
    """

    structure: str
    set_number: int
    space: AddressSpace
    kind: Kind
    address: int
    size: int
    hpa: int
    value: int
    stamp: int


_MISSES = int(TlbState.MISSES)
_SPACE_SHIFT = np.uint64(TAG.shift("space"))


class Tlb:
    """See the module. `entries`, `state` and `shapes` are what the kernels take, as layout.py describes them.

    Whoever wants to hear of invalidations adds itself to :attr:`observers`.
    """

    def __init__(self, profile: CpuProfile, options: TlbOptions | None = None) -> None:
        self.profile = profile
        self.options = options or TlbOptions()
        self.spaces = AddressSpaces()
        #: The walk's context of whoever translates with this TLB, for memory types; None: IA32_PAT as after reset.
        self.context: npt.NDArray[np.uint64] | None = None
        self.observers: list[Callable[[Operation, Operand], None]] = []
        #: Called before stamps are read: who uses entries without saying so brings them up to date.
        self.before_reading: list[Callable[[], None]] = []
        caches = profile.walk_caches if self.options.walk_caches else ()
        geometries: list[TlbGeometry | WalkCacheGeometry] = sorted((*profile.tlbs, *caches), key=is_unbounded)
        self.structures: tuple[Structure, ...] = tuple(self._lay_out(geometries))
        self.shapes: npt.NDArray[np.int64] = np.full(Shapes.ROWS + len(Shape) * len(geometries), -1, np.int64)
        words, listed = 0, []
        for number, one in enumerate(self.structures):
            self._claim(number, one.geometry)
            row = Shapes.ROWS + number * len(Shape)
            policy = self._policy(one)
            self.shapes[row : row + len(Shape)] = (one.start, one.sets - 1, one.ways, policy, words)
            if policy == Keeping.LISTED:
                listed.append((slice(words, words + one.sets), one.ways))
            words += 2 * one.sets if one.bounded else 0  # what its policy keeps and a count of fills
        self.capacity = sum(one.sets * one.ways for one in self.structures)
        self.entries: npt.NDArray[np.uint64] = np.zeros(3 * self.capacity + words, np.uint64)
        for sets, ways in listed:
            self.entries[3 * self.capacity :][sets] = _first_list(ways)
        self.state: npt.NDArray[np.uint64] = np.zeros(TlbState.END, np.uint64)
        self._words = memoryview(self.state)  # type: ignore[arg-type] # the same, without NumPy's scalars
        for field, value in (
            (TlbState.CAPACITY, self.capacity),
            (TlbState.DEPTH, max((one.level for one in profile.tlbs), default=0)),
            (TlbState.RANDOM, _scrambled(self.options.seed)),
            (TlbState.WALK_CACHES, bool(caches)),
            (TlbState.TABLES_BY_GPA, self.options.tables_by_gpa),
            (TlbState.MARKS, any(one.replacement.marks for one in self.structures)),
            (TlbState.LARGEST, SIZE_OF_SHIFT[self.options.largest_page.bit_length() - 1]),
            (
                TlbState.UNBOUNDED_START,
                sum(one.sets * one.ways for one in self.structures if one.bounded),
            ),
        ):
            self.state[field] = value

    def enter(self, space: AddressSpace) -> None:
        """Make `space` the one that lookups and insertions tag; nothing is invalidated."""
        below = space.guest_physical
        self.state[TlbState.SPACE] = self.spaces.number(space)
        self.state[TlbState.GLOBAL_SPACE] = self.spaces.number(space.shared)
        self.state[TlbState.EPT_SPACE] = 0 if below is None else self.spaces.number(below)

    def invalidate(
        self,
        operation: Operation,
        *,
        vpid: int = 0,
        pcid: int = 0,
        ep4ta: int | None = None,
        gva: int = 0,
        gpa: int = 0,
    ) -> int:
        """Apply one row of the invalidation table to its operand; return how many entries were dropped.

        Operands that the rule does not name are ignored.
        """
        operand = Operand(vpid, pcid, ep4ta, gva, gpa)
        rule = operation.value
        dropped = 0
        if self.state[TlbState.CLOCK]:  # something was looked up
            from quire.tlb._kernels_arrays import invalidate

            marks = self.spaces.marks(operation, operand)
            everything = rule.structures is Structures.ALL
            address, below = np.uint64(gva), np.uint64(gpa)
            dropped = int(
                invalidate(self.entries, self.state, self.shapes, marks, address, below, everything)
            )
        for observer in self.observers:
            observer(operation, operand)
        return dropped

    @property
    def drops(self) -> int:
        """Entries dropped so far: who remembers where entries are looks whether it has grown."""
        return int(self.state[TlbState.DROPS])

    def evict(self, chosen: Callable[[], bool]) -> None:
        """Drop each valid entry of a bounded structure that `chosen`, asked once an entry, answers true for."""
        bounded = int(self.state[TlbState.UNBOUNDED_START])
        for index in np.flatnonzero(self.entries[:bounded]).tolist():
            if chosen():
                self.entries[index] = self.entries[self.capacity + index] = 0
                self.state[TlbState.DROPS] += np.uint64(1)
        self.free_last()

    def put(self, structure: str, space: AddressSpace, kind: Kind, address: int, value: int) -> None:
        """Enter a mapping of `address` by hand, as if it had just been used; `value` is a TRANSLATION.

        Raises MisuseError if there is no such structure or it does not hold that kind.
        """
        from quire.tlb._kernels_arrays import insert

        names = [one.name for one in self.structures]
        if structure not in names:
            raise MisuseError(f"No TLB or walk cache is called {structure!r}: there is {', '.join(names)}")
        number = names.index(structure)
        if kind not in held_kinds(self.structures[number].geometry):
            raise MisuseError(f"{structure} does not hold a {kind.name}: choose another structure")
        self.state[TlbState.CLOCK] += np.uint64(1)
        if space.pcid is None and space.vpid is not None:
            self.state[TlbState.GLOBALS] += np.uint64(1)
        if kind in (Kind.PAGE_2M, Kind.PAGE_1G):
            self.state[TlbState.LARGE] += np.uint64(1)
        tag = TAG.encode(
            page=(address & (1 << _CANONICAL) - 1) >> kind.shift, kind=kind, space=self.spaces.number(space)
        )
        row = Shapes.ROWS + number * len(Shape)
        insert(self.entries, self.state, self.shapes, row, np.uint64(tag), np.uint64(value))

    def misses(self) -> dict[str, int]:
        """Return the look-ups that missed so far, of data (``l1d_misses``) and code (``l1i_misses``), by level.

        There are at least two levels: one that a profile lacks misses what the one before it missed.
        """
        found = {}
        last = max(0, int(self.state[TlbState.DEPTH]) - 1)
        for level in range(max(2, last + 1)):
            at = TlbState.MISSES + min(level, last)
            fetch, load, store = (int(self.state[at + side * LEVELS]) for side in range(SIDES))
            found[f"l{level + 1}d_misses"] = load + store
            found[f"l{level + 1}i_misses"] = fetch
        return found

    @property
    def first_misses(self) -> int:
        """How many look-ups the first level missed so far, of data and of code."""
        words = self._words
        return words[_MISSES] + words[_MISSES + LEVELS] + words[_MISSES + 2 * LEVELS]

    def held(self) -> int:
        """Return how many entries the current address space has, of all structures."""
        owners = self.entries[: self.capacity] >> _SPACE_SHIFT
        return int(np.count_nonzero(owners == self.state[TlbState.SPACE]))

    def walk_hits(self) -> dict[str, int]:
        """Return how often each walk cache answered, by what it holds: ``linear PDE``, ``guest-physical page``."""
        found: dict[str, int] = {}
        for of_ept, name in enumerate((MappingClass.LINEAR, MappingClass.GUEST_PHYSICAL)):
            for kind in Kind:
                hits = int(self.state[TlbState.WALK_HITS + KINDS * of_ept + kind])
                held = f"{name} {'page' if kind.is_page else kind.name}"
                if self.shapes[Shapes.WALK_HOLDERS + KINDS * of_ept + kind] >= 0:
                    found[held] = found.get(held, 0) + hits
        return found

    @property
    def conflicts(self) -> int:
        """How often a page was looked up that was still held with another size (SDM 3A §4.10.2.3)."""
        return int(self.state[TlbState.CONFLICTS])

    def lookups(self) -> dict[Side, int]:
        """Return the look-ups that replays made so far."""
        return {side: int(self.state[TlbState.LOOKUPS + n]) for side, n in SIDE_NUMBERS.items()}

    def grow(self) -> None:
        """Give a table without bound twice the room. The arrays are new; indices of its entries are no longer valid."""
        number = next(n for n, one in enumerate(self.structures) if not one.bounded)
        old, row = self.structures[number], Shapes.ROWS + number * len(Shape)
        fresh = Structure(old.name, old.start, old.sets * 2, 1, old.replacement, False, old.geometry)
        capacity = fresh.start + fresh.sets
        entries = np.zeros(3 * capacity + self.entries.size - 3 * self.capacity, np.uint64)
        for block in range(3):
            part = self.entries[block * self.capacity : block * self.capacity + old.start]
            entries[block * capacity : block * capacity + old.start] = part
        entries[3 * capacity :] = self.entries[3 * self.capacity :]
        before, size = self.entries, self.capacity
        self.entries, self.capacity = entries, capacity
        self.structures = (*self.structures[:number], fresh, *self.structures[number + 1 :])
        self.shapes[row + Shape.SET_MASK] = fresh.sets - 1
        self.state[TlbState.CAPACITY] = capacity
        self.state[TlbState.USED] = self.state[TlbState.FULL] = 0
        from quire.tlb._kernels_arrays import take_over

        take_over(before[old.start : size].copy(), before[size + old.start : 2 * size].copy(),
                  before[2 * size + old.start : 3 * size].copy(), entries, self.state, self.shapes, row)  # fmt: skip

    def valid(self) -> Iterator[TlbEntry]:
        """Yield every valid entry, structure by structure."""
        self._bring_up_to_date()
        indices = iter(valid_indices(self.entries, self.capacity).tolist())
        index = next(indices, None)
        for one in self.structures:
            while index is not None and index < one.end:
                tag, value = int(self.entries[index]), int(self.entries[2 * self.capacity + index])
                kind = Kind(TAG.get(tag, "kind"))
                yield TlbEntry(
                    structure=one.name,
                    set_number=(index - one.start) // one.ways,
                    space=self.spaces.space(TAG.get(tag, "space")),
                    kind=kind,
                    address=_signed(TAG.get(tag, "page") << kind.shift),
                    size=1 << kind.shift,
                    hpa=TRANSLATION.get(value, "frame") << 12,
                    value=value,
                    stamp=int(self.entries[self.capacity + index]),
                )
                index = next(indices, None)

    def table(self) -> TlbTable:
        """Return every valid entry as a row of a structured array, in the order of :meth:`valid`."""
        self._bring_up_to_date()
        clock = int(self.state[TlbState.CLOCK])
        return make_table(self.structures, self.entries, self.spaces, clock, self.context)

    def set_use(self) -> dict[str, SetUse]:
        """Return, by structure, how many ways of each set are used, and how many entries each set took in."""
        return set_use(self.structures, self.entries, self.shapes)

    def free_last(self) -> None:
        """Let entries that were taken away, by whoever did it, be the first to be used again."""
        from quire.tlb._kernels_arrays import free_last

        free_last(self.entries, self.state, self.shapes)

    def _bring_up_to_date(self) -> None:
        for bring in self.before_reading:
            bring()

    def _policy(self, one: Structure) -> int:
        """Return how the kernels choose entries of `one`.

        Uses of a nearest entry are noted by stamps alone (see cpu/soft), so that a list does for what lies behind.
        """
        if not one.bounded:
            return Keeping.UNBOUNDED
        nearest = isinstance(one.geometry, TlbGeometry) and not all(
            any(12 in tlb.page_shifts and side in tlb.sides for tlb in self.profile.tlbs if tlb.level == 1)
            and one.geometry.level > 1
            for side in one.geometry.sides
        )
        if one.replacement is Replacement.LRU and one.ways <= LISTED_WAYS and not nearest:
            return Keeping.LISTED
        return one.replacement.number

    def _lay_out(self, geometries: list[TlbGeometry | WalkCacheGeometry]) -> Iterator[Structure]:
        start = 0
        for one in geometries:
            replacement = self.options.replacement or one.replacement
            if is_unbounded(one):
                made = Structure(one.name, start, _FIRST_SLOTS, 1, replacement, False, one)
            else:
                made = Structure(one.name, start, one.sets, one.ways, replacement, True, one)
            yield made
            start += made.sets * made.ways

    def _claim(self, number: int, one: TlbGeometry | WalkCacheGeometry) -> None:
        """Enter structure `number` as the holder of what it holds."""
        for kind in held_kinds(one):
            if isinstance(one, TlbGeometry):
                for side in one.sides:
                    at = (SIDE_NUMBERS[side] * LEVELS + one.level - 1) * SIZES
                    self.shapes[Shapes.HOLDERS + at + kind] = number
            else:
                self.shapes[Shapes.WALK_HOLDERS + KINDS * one.guest_physical + kind] = number


def _first_list(ways: int) -> int:
    """Return the list of a set that was never used: way 0 is last, and so the first to be taken."""
    return sum((ways - 1 - place) << 4 * place for place in range(ways))


def _scrambled(seed: int) -> int:
    """Return a state of the generator that is never 0, different for each seed."""
    return (seed * 0x9E3779B97F4A7C15 + 0x1234567) & WORD or 1


def _signed(address: int) -> int:
    """Return a linear address in its canonical form."""
    return address if not address >> (_CANONICAL - 1) else address | (1 << 64) - (1 << _CANONICAL)
