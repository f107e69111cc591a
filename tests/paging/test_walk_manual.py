"""What the manual says a walk does, case by case, on the reference walk (its twin is compared elsewhere)."""

import pytest

from quire.arch import EPT_VIOLATION_QUALIFICATION, PF_ERROR, Access
from quire.paging import Context, Dimension, Rights, Status, reference_walk
from quire.testing.world import GVA, World

P, RW, US, PS, XD = 1, 2, 4, 1 << 7, 1 << 63


def ept_world(rights: int = 7, flags: int = 0) -> World:
    world = World(ept=True)
    world.identity_ept(rights, flags)
    world.guest([7, 7, 7, 7])
    return world


def test_a_4x4_walk_makes_24_references_in_the_manual_order() -> None:
    world = ept_world()
    record = reference_walk(world.memory, world.context, GVA, Access.READ)
    assert record.status is Status.OK
    assert (record.guest_references, record.host_references) == (4, 20)
    order = [(ref.dimension, ref.level) for ref in record.references]
    ept = [(Dimension.HOST, level) for level in (4, 3, 2, 1)]
    expected = []
    for level in (4, 3, 2, 1):
        expected += [*ept, (Dimension.GUEST, level)]
    assert order == expected + ept
    assert record.hpa == 0x5000 | GVA & 0xFFF


@pytest.mark.parametrize(
    ("guest_large", "host_large", "references"),
    [(False, False, 24), (True, False, 19), (False, True, 19), (True, True, 15)],
)
def test_reference_counts_of_page_size_mixes(guest_large: bool, host_large: bool, references: int) -> None:
    world = World(ept=True)
    world.identity_ept()
    if host_large:
        world.set(18, 0, 0x0 | PS | 7 | 6 << 3)  # a 2 MiB identity page over frames 0 to 511
    world.guest([7, 7, 7 | (PS if guest_large else 0), 7])
    if guest_large:
        world.set(3, GVA >> 21 & 511, 7 | PS)
        world.context[Context.MEMORY_BYTES] = 1 << 30
    gva = GVA & ~0x1FFFFF | 0x5123 if guest_large else GVA
    record = reference_walk(world.memory, world.context, gva, Access.READ)
    assert record.status is Status.OK
    assert len(record.references) == references


@pytest.mark.parametrize(
    ("leaf", "access", "words"),
    [
        (0, Access.READ, {"U": 1}),
        (P | US, Access.WRITE, {"P": 1, "W": 1, "U": 1}),
        (P | RW, Access.READ, {"P": 1, "U": 1}),
        (P | US | XD, Access.FETCH, {"P": 1, "U": 1, "ID": 1}),
        (P | US | 1 << 51, Access.READ, {"P": 1, "U": 1, "RSVD": 1}),
    ],
)
def test_page_fault_error_codes(leaf: int, access: Access, words: dict[str, int]) -> None:
    world = World(ept=False)
    world.guest([7, 7, 7, leaf])
    record = reference_walk(world.memory, world.context, GVA, access)
    assert record.status is Status.PAGE_FAULT
    assert record.error == PF_ERROR.encode(**words)
    assert (record.fault_level, record.fault_dimension) == (1, Dimension.GUEST)


def test_dirty_is_set_by_a_write_only_and_not_by_one_that_faults() -> None:
    world = World(ept=False)
    world.guest([7, 7, 7, 5])
    leaf = 4 * 512 + (GVA >> 12 & 511)
    reference_walk(world.memory, world.context, GVA, Access.WRITE)
    assert int(world.memory[leaf]) & 0x60 == 0
    world.memory[leaf] |= 2
    reference_walk(world.memory, world.context, GVA, Access.READ)
    assert int(world.memory[leaf]) & 0x60 == 0x20
    reference_walk(world.memory, world.context, GVA, Access.WRITE)
    assert int(world.memory[leaf]) & 0x60 == 0x60


@pytest.mark.parametrize(
    ("rights", "access", "qualification"),
    [(1, Access.WRITE, 0x78A), (1, Access.FETCH, 0x78C), (5, Access.WRITE, 0x7AA), (3, Access.FETCH, 0x79C)],
)
def test_ept_violation_qualifications_as_bochs_measured_them(
    rights: int, access: Access, qualification: int
) -> None:
    world = ept_world()
    world.set(19, 5, 5 << 12 | rights | 6 << 3)  # the final page only
    record = reference_walk(world.memory, world.context, GVA, access)
    assert record.status is Status.EPT_VIOLATION
    assert record.error == qualification
    assert record.fault_gpa == 0x5000 | GVA & 0xFFF


@pytest.mark.parametrize(("eptp_ad", "qualification"), [(0, 0x81), (1, 0x83)])
def test_a_missing_guest_table_page_is_a_violation_of_the_walk(eptp_ad: int, qualification: int) -> None:
    world = ept_world()
    world.context[Context.EPTP] = int(world.context[Context.EPTP]) | eptp_ad << 6
    world.set(19, 2, 0)
    record = reference_walk(world.memory, world.context, GVA, Access.READ)
    assert record.status is Status.EPT_VIOLATION
    assert record.error == qualification
    assert not EPT_VIOLATION_QUALIFICATION.get(record.error, "final")


def test_accessed_update_of_a_read_only_guest_table_is_a_violation() -> None:
    world = ept_world()
    world.set(19, 2, 2 << 12 | 1 | 6 << 3)
    record = reference_walk(world.memory, world.context, GVA, Access.READ)
    assert record.status is Status.EPT_VIOLATION
    assert record.error == 0x3 | 1 << 3 | 1 << 7


@pytest.mark.parametrize("rights", [2, 6])
def test_write_without_read_is_a_misconfiguration(rights: int) -> None:
    world = ept_world()
    world.set(19, 5, 5 << 12 | rights | 6 << 3)
    record = reference_walk(world.memory, world.context, GVA, Access.READ)
    assert record.status is Status.EPT_MISCONFIGURATION
    assert record.error == 0


@pytest.mark.parametrize("memory_type", [2, 3, 7])
def test_reserved_memory_types_are_misconfigurations(memory_type: int) -> None:
    world = ept_world()
    world.set(19, 5, 5 << 12 | 7 | memory_type << 3)
    record = reference_walk(world.memory, world.context, GVA, Access.READ)
    assert record.status is Status.EPT_MISCONFIGURATION


def test_supervisor_rights_follow_wp_smep_smap() -> None:
    world = World(ept=False)
    world.guest([7, 7, 7, 5])
    world.context[Context.USER] = 0
    world.context[Context.WP] = 0
    assert reference_walk(world.memory, world.context, GVA, Access.WRITE).status is Status.OK
    world.context[Context.WP] = 1
    assert reference_walk(world.memory, world.context, GVA, Access.WRITE).status is Status.PAGE_FAULT
    world.context[Context.SMEP] = 1
    assert reference_walk(world.memory, world.context, GVA, Access.FETCH).status is Status.PAGE_FAULT
    world.context[Context.SMAP] = 1
    assert reference_walk(world.memory, world.context, GVA, Access.READ).status is Status.PAGE_FAULT


def test_rights_of_both_dimensions_are_combined() -> None:
    world = ept_world(rights=5)
    for frame in range(1, 5):
        world.set(19, frame, frame << 12 | 7 | 6 << 3)
    record = reference_walk(world.memory, world.context, GVA, Access.READ)
    assert record.rights == Rights.READ | Rights.EXECUTE
