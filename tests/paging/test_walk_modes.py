"""What the manual says of each paging mode: entries, error codes, keys, shadow stacks, PDPTE registers."""

import numpy as np
import pytest

from quire.arch import PF_ERROR, Access, MemoryType, PagingMode, Vector
from quire.paging import Context, Rights, Status, WalkRecord, load_pdptes
from quire.testing.walks import walk_both
from quire.testing.world import GVA, NEAR, World

P, RW, US, A, D, PS, XD = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 63
LOW = NEAR & 0xFFFF_FFFF


def world_of(mode: PagingMode, entries: list[int]) -> World:
    """Return a world whose tables of `mode` for NEAR hold `entries`, highest level first, in frames 1, 2, ..."""
    world = World(ept=False)
    world.context[Context.MODE] = mode
    world.context[Context.PSE] = 1
    top = 2 if mode in (PagingMode.BITS_32, PagingMode.PAE) else int(mode)
    world.context[Context.PDPTE1] = 1 << 12 | P  # NEAR's low half lies in the second gigabyte
    for n, entry in enumerate(entries):
        level = top - n
        if mode is PagingMode.BITS_32:
            index = LOW >> (12 + 10 * (level - 1)) & 1023
            world.memory[(n + 1) * 512 + (index >> 1)] |= np.uint64(entry << 32 * (index & 1))
        else:
            world.set(n + 1, NEAR >> (12 + 9 * (level - 1)) & 511, entry)
    return world


def walk(world: World, access: Access = Access.READ, gva: int | None = None) -> WalkRecord:
    mode = world.context[Context.MODE]
    chosen = gva if gva is not None else NEAR if mode >= 4 else LOW
    both = walk_both(world, chosen, access)
    assert both.kernel == both.twin
    return both.record


def error(record: WalkRecord) -> str:
    assert record.status is Status.PAGE_FAULT
    assert record.vector == Vector.PF
    return PF_ERROR.flags(record.error)


@pytest.mark.parametrize(
    ("mode", "entries", "references", "shift", "hpa"),
    [
        (PagingMode.NONE, [], 0, 0, None),
        (PagingMode.BITS_32, [0x2007, 0x6007], 2, 12, 0x6ABC),
        (PagingMode.BITS_32, [7 | PS], 1, 22, 0x6ABC),
        (PagingMode.PAE, [0x2007, 0x6007], 2, 12, 0x6ABC),
        (PagingMode.PAE, [7 | PS], 1, 21, 0x6ABC),
        (PagingMode.LEVEL_4, [0x2007, 0x3007, 0x4007, 0x6007], 4, 12, 0x6ABC),
        (PagingMode.LEVEL_4, [0x2007, 0x3007, 7 | PS], 3, 21, 0x6ABC),
        (PagingMode.LEVEL_4, [0x2007, 7 | PS], 2, 30, 0x6ABC),
        (PagingMode.LEVEL_5, [0x2007, 0x3007, 0x4007, 0x5007, 0x6007], 5, 12, 0x6ABC),
        (PagingMode.LEVEL_5, [0x2007, 0x3007, 7 | PS], 3, 30, 0x6ABC),
    ],
)
def test_pages_of_every_mode(
    mode: PagingMode, entries: list[int], references: int, shift: int, hpa: int | None
) -> None:
    record = walk(world_of(mode, entries), gva=0x6ABC if mode is PagingMode.NONE else None)
    assert record.status is Status.OK
    assert (record.guest_references, record.guest_shift) == (references, shift)
    assert record.hpa == (0x6ABC if hpa is None else hpa)


def test_a_4_mib_page_may_lie_above_4_gib() -> None:
    world = world_of(PagingMode.BITS_32, [7 | PS | 0x5 << 13])
    world.context[Context.MEMORY_BYTES] = 1 << 36
    world.context[Context.PSE_RESERVED] = 0x20_0000
    assert walk(world).hpa == 5 << 32 | 0x6ABC
    world.context[Context.PSE_RESERVED] = 0x3F_E000
    assert error(walk(world)) == "P U RSVD"


def test_ps_without_pse_is_ignored_in_32_bit_paging() -> None:
    world = world_of(PagingMode.BITS_32, [0x2007 | PS, 0x6007])
    world.context[Context.PSE] = 0
    assert walk(world).hpa == 0x6ABC


def test_32_bit_entries_share_words_without_touching_their_neighbour() -> None:
    world = world_of(PagingMode.BITS_32, [0x2007, 0x6007])
    index = LOW >> 12 & 1023
    neighbour = np.uint64(0x1234_5000 << 32 * (1 - (index & 1)))
    world.memory[2 * 512 + (index >> 1)] |= neighbour
    assert walk(world, Access.WRITE).status is Status.OK
    word = int(world.memory[2 * 512 + (index >> 1)])
    assert word == int(neighbour) | (0x6007 | A | D) << 32 * (index & 1)


def test_a_pdpte_register_that_is_not_present() -> None:
    world = world_of(PagingMode.PAE, [0x2007, 0x6007])
    world.context[Context.PDPTE1] = 0x1000
    record = walk(world)
    assert (error(record), record.fault_level, record.guest_references) == ("U", 3, 0)


@pytest.mark.parametrize("bit", [52, 56, 62])
def test_high_bits_are_reserved_in_pae_and_ignored_in_4_level_paging(bit: int) -> None:
    assert error(walk(world_of(PagingMode.PAE, [0x2007, 0x6007 | 1 << bit]))) == "P U RSVD"
    long = world_of(PagingMode.LEVEL_4, [0x2007, 0x3007, 0x4007, 0x6007 | 1 << bit])
    assert walk(long).status is Status.OK


def test_pdptes_are_checked_when_they_are_loaded() -> None:
    world = World(ept=False)
    world.context[Context.MODE] = PagingMode.PAE
    world.context[Context.CR3] = 0x1020
    for n, entry in enumerate((0x2001, 0, 0x3001, 0x4009)):
        world.set(1, 4 + n, entry)
    assert load_pdptes(world.memory, world.context).status is Status.OK
    registers = [int(world.context[Context.PDPTE0 + n]) for n in range(4)]
    assert registers == [0x2001, 0, 0x3001, 0x4009]
    for bit in (1, 2, 5, 6, 7, 8, 50, 63):
        world.set(1, 6, 0x5001 | 1 << bit)
        record = load_pdptes(world.memory, world.context)
        assert (record.status, record.vector, record.fault_level) == (Status.PDPTE_FAULT, Vector.GP, 3)
        assert [int(world.context[Context.PDPTE0 + n]) for n in range(4)] == registers
    world.set(1, 6, 1 << 63 | 0x6)
    assert load_pdptes(world.memory, world.context).status is Status.OK, "not present: nothing is checked"


def test_loading_pdptes_under_ept_has_no_linear_address() -> None:
    world = World(ept=True)
    world.identity_ept()
    world.context[Context.CR3] = 0x1000
    world.set(19, 1, 0)
    record = load_pdptes(world.memory, world.context)
    assert (record.status, record.fault_gpa, record.error) == (Status.EPT_VIOLATION, 0x1000, 1)
    world.identity_ept(rights=1)
    world.context[Context.EPTP] |= 1 << 6
    assert load_pdptes(world.memory, world.context).status is Status.OK, (
        "a load is a read even with A/D flags"
    )


def four(leaf: int, upper: int = 7) -> World:
    return world_of(PagingMode.LEVEL_4, [0x2000 | upper, 0x3007, 0x4007, 0x6000 | leaf])


@pytest.mark.parametrize(
    ("leaf", "access", "controls", "expected"),
    [
        # SMAP: user pages are out of reach, but for explicit accesses with AC
        (7, Access.READ, {Context.SMAP: 1, Context.USER: 0}, "P"),
        (7, Access.READ, {Context.SMAP: 1, Context.USER: 0, Context.AC: 1}, ""),
        (7, Access.READ, {Context.SMAP: 1, Context.USER: 0, Context.AC: 1, Context.IMPLICIT: 1}, "P"),
        (7, Access.READ, {Context.SMAP: 1, Context.USER: 1, Context.IMPLICIT: 1}, "P"),
        (7, Access.FETCH, {Context.SMAP: 1, Context.USER: 0}, ""),
        (3, Access.READ, {Context.SMAP: 1, Context.USER: 0}, ""),
        # implicit supervisor accesses at CPL 3 reach supervisor pages
        (3, Access.READ, {Context.USER: 1}, "P U"),
        (3, Access.READ, {Context.USER: 1, Context.IMPLICIT: 1}, ""),
        # SMEP
        (7, Access.FETCH, {Context.SMEP: 1, Context.USER: 0}, "P ID"),
        (3, Access.FETCH, {Context.SMEP: 1, Context.USER: 0}, ""),
        # WP
        (5, Access.WRITE, {Context.USER: 0, Context.WP: 0}, ""),
        (5, Access.WRITE, {Context.USER: 0, Context.WP: 1}, "P W"),
        (5, Access.WRITE, {Context.USER: 1, Context.WP: 0}, "P W U"),
        # ID is reported when NXE or SMEP is on
        (0, Access.FETCH, {Context.NXE: 1}, "U ID"),
        (0, Access.FETCH, {Context.NXE: 0}, "U"),
        (0, Access.FETCH, {Context.NXE: 0, Context.SMEP: 1}, "U ID"),
        (7 | XD, Access.FETCH, {}, "P U ID"),
        (7 | XD, Access.READ, {Context.NXE: 0}, "P U RSVD"),
        # a not-present entry reports no reserved bit
        (6 | 1 << 50, Access.READ, {}, "U"),
    ],
)
def test_rights(leaf: int, access: Access, controls: dict[Context, int], expected: str) -> None:
    world = four(leaf)
    for field, value in controls.items():
        world.context[field] = value
    record = walk(world, access)
    assert (error(record) if record.status else "") == expected


def test_id_is_never_reported_in_32_bit_paging_without_smep() -> None:
    world = world_of(PagingMode.BITS_32, [0x2007, 0])
    assert error(walk(world, Access.FETCH)) == "U"
    world.context[Context.SMEP] = 1
    assert error(walk(world, Access.FETCH)) == "U ID"


KEY = 5


@pytest.mark.parametrize(
    ("leaf", "access", "controls", "denied", "expected"),
    [
        (7, Access.READ, {Context.PKE: 1}, 1, "P U PK"),
        (7, Access.WRITE, {Context.PKE: 1}, 1, "P W U PK"),
        (7, Access.FETCH, {Context.PKE: 1}, 3, ""),
        (7, Access.READ, {Context.PKE: 1}, 2, ""),
        (7, Access.WRITE, {Context.PKE: 1}, 2, "P W U PK"),
        (7, Access.WRITE, {Context.PKE: 1, Context.USER: 0, Context.WP: 1}, 2, "P W PK"),
        (7, Access.WRITE, {Context.PKE: 1, Context.USER: 0, Context.WP: 0}, 2, ""),
        (7, Access.READ, {Context.PKE: 0}, 3, ""),
        (7, Access.READ, {Context.PKS: 1}, 3, ""),
        (3, Access.READ, {Context.PKE: 1, Context.USER: 0}, 3, ""),
        (3, Access.READ, {Context.PKS: 1, Context.USER: 0}, 1, "P PK"),
        (3, Access.WRITE, {Context.PKS: 1, Context.USER: 0}, 2, "P W PK"),
        # the key is reported whatever else forbids the access
        (5, Access.WRITE, {Context.PKE: 1}, 2, "P W U PK"),
    ],
)
def test_protection_keys(
    leaf: int, access: Access, controls: dict[Context, int], denied: int, expected: str
) -> None:
    world = four(leaf | KEY << 59)
    for field, value in controls.items():
        world.context[field] = value
    for register in (Context.PKRU, Context.PKRS):
        world.context[register] = denied << 2 * KEY
    record = walk(world, access)
    assert (error(record) if record.status else "") == expected


@pytest.mark.parametrize(
    ("leaf", "upper", "user", "expected"),
    [
        (P | US | D, 7, 1, ""),
        (P | US, 7, 1, "P U SS"),
        (P | US | RW | D, 7, 1, "P U SS"),
        (P | US | D, 5, 1, "P U SS"),
        (P | D, 7, 1, "P U SS"),
        (P | D, 7, 0, ""),
        (P | US | D, 7, 0, "P SS"),
        (0, 7, 1, "U SS"),
    ],
)
def test_shadow_stacks(leaf: int, upper: int, user: int, expected: str) -> None:
    for access in (Access.SHADOW_READ, Access.SHADOW_WRITE):
        world = four(leaf, upper)
        world.context[Context.USER] = user
        record = walk(world, access)
        wanted = expected.replace("P ", "P W ", 1) if access is Access.SHADOW_WRITE else expected
        if access is Access.SHADOW_WRITE and wanted.startswith("U"):
            wanted = "W " + wanted
        assert (error(record) if record.status else "") == wanted
        if not record.status:
            assert record.rights is (Rights.WRITE if access is Access.SHADOW_WRITE else Rights.READ)


@pytest.mark.parametrize(
    ("mode", "gva", "stack", "vector"),
    [
        (PagingMode.LEVEL_4, 1 << 47, 0, Vector.GP),
        (PagingMode.LEVEL_4, 1 << 47, 1, Vector.SS),
        (PagingMode.LEVEL_4, 0xFFFF_7FFF_FFFF_F000, 0, Vector.GP),
        (PagingMode.LEVEL_5, 1 << 47, 0, Vector.PF),
        (PagingMode.LEVEL_5, 1 << 56, 0, Vector.GP),
        (PagingMode.LEVEL_5, 0xFF00_0000_0000_0000, 0, Vector.PF),
        (PagingMode.LEVEL_4, 0xFFFF_8000_0000_0000, 0, Vector.PF),
    ],
)
def test_canonical_addresses(mode: PagingMode, gva: int, stack: int, vector: Vector) -> None:
    world = world_of(mode, [])
    world.context[Context.STACK] = stack
    record = walk(world, gva=gva)
    assert record.vector == vector
    assert (record.status is Status.NON_CANONICAL) == (vector is not Vector.PF)


def test_addresses_wrap_at_4_gib_below_4_levels() -> None:
    world = world_of(PagingMode.PAE, [0x2007, 0x6007])
    assert walk(world, gva=0xABCD_0000_0000 | LOW).hpa == 0x6ABC


def test_flags_of_a_failed_access() -> None:
    world = four(5)
    assert walk(world, Access.WRITE).status is Status.PAGE_FAULT
    entries = [
        int(world.memory[(n + 1) * 512 + (NEAR >> shift & 511)]) for n, shift in enumerate((39, 30, 21, 12))
    ]
    assert [bool(entry & A) for entry in entries] == [True, True, True, False]
    assert not any(entry & D for entry in entries)


@pytest.mark.parametrize(
    ("pwt", "pcd", "pat", "kind"),
    [
        (0, 0, 0, MemoryType.WB),
        (1, 0, 0, MemoryType.WT),
        (0, 1, 0, MemoryType.UC_MINUS),
        (1, 1, 0, MemoryType.UC),
        (0, 0, 1, MemoryType.WC),
    ],
)
def test_memory_types_of_small_and_large_pages(pwt: int, pcd: int, pat: int, kind: MemoryType) -> None:
    bits = 7 | pwt << 3 | pcd << 4
    small = four(bits | pat << 7)
    large = world_of(PagingMode.LEVEL_4, [0x2007, 0x3007, bits | PS | pat << 12])
    for world in (small, large):
        world.context[Context.PAT] = 0x0007_0401_0007_0406  # entry 4 is WC
        assert walk(world).memory_type is (MemoryType.WC if pat else kind)
        world.context[Context.CD] = 1
        assert walk(world).memory_type is MemoryType.UC


def test_gva_has_another_index_at_each_level() -> None:
    assert len({GVA >> shift & 511 for shift in (39, 30, 21, 12)}) == 4
