"""What the manual says of EPT's controls, case by case, with the whole exit qualification."""

import pytest

from quire.arch import EPT_VIOLATION_QUALIFICATION, Access, MemoryType, PagingMode, Vector
from quire.paging import Context, Rights, Status, WalkRecord
from quire.testing.walks import walk_both
from quire.testing.world import EPT_ROOT_5, GVA, INFO_FRAME, LOG_FRAME, PAGE, SPPT_FRAME, World

WB, A, D, XU = 6 << 3, 1 << 8, 1 << 9, 1 << 10
VERIFY, PAGING_WRITE, SSS, SPP, SUPPRESS = (1 << n for n in (57, 58, 60, 61, 63))


def world_of(leaf: int, guest: int = 7, **controls: int) -> World:
    """Return a world whose page GVA is at guest frame PAGE, mapped by EPT with `leaf`, tables with 7 and XU."""
    world = World(ept=True)
    world.identity_ept(0x407)
    world.guest([7, 7, 7, guest | PAGE << 12])
    world.set(19, PAGE, leaf | WB | PAGE << 12)
    for name, value in controls.items():
        world.context[Context[name]] = value
    return world


def walk(world: World, access: Access = Access.READ, gva: int = GVA) -> WalkRecord:
    """Walk with the kernel and its twin; they say and do the same."""
    both = walk_both(world, gva, access)
    assert both.kernel == both.twin
    return both.record


def said(record: WalkRecord) -> str:
    assert record.status is Status.EPT_VIOLATION
    return EPT_VIOLATION_QUALIFICATION.flags(record.error)


FINAL = "gla_valid final user writable"


@pytest.mark.parametrize(
    ("leaf", "guest", "access", "expected"),
    [
        (7, 7, Access.FETCH, f"X ept_r ept_w ept_x {FINAL}"),
        (7 | XU, 7, Access.FETCH, ""),
        (3 | XU, 7, Access.FETCH, ""),
        (3 | XU, 3, Access.FETCH, "X ept_r ept_w ept_xu gla_valid final writable"),
        (7, 3, Access.FETCH, ""),
        (1 | XU, 7, Access.WRITE, f"W ept_r ept_xu {FINAL}"),
        (0, 7, Access.READ, f"R {FINAL}"),
    ],
)
def test_mode_based_execute(leaf: int, guest: int, access: Access, expected: str) -> None:
    record = walk(world_of(leaf, guest, MBEC=1, USER=0, SMEP=0), access)
    assert (said(record) if record.status else "") == expected
    if leaf == 3 | XU and not expected:
        assert record.rights == Rights.READ | Rights.WRITE | Rights.EXECUTE


def test_user_execute_alone_is_present_with_mode_based_execute_only() -> None:
    assert walk(world_of(XU, MBEC=1), Access.FETCH).status is Status.OK
    assert walk(world_of(XU, MBEC=1, EPT_EXECUTE_ONLY=0), Access.FETCH).status is Status.EPT_MISCONFIGURATION
    assert said(walk(world_of(XU), Access.FETCH)) == f"X {FINAL}"


def test_a_five_level_walk_makes_29_and_35_references() -> None:
    world = world_of(7)
    world.context[Context.EPTP] = EPT_ROOT_5 << 12 | 4 << 3 | 6
    record = walk(world)
    assert (record.status, record.guest_references, record.host_references) == (Status.OK, 4, 25)
    world.context[Context.MODE] = PagingMode.LEVEL_5
    world.context[Context.CR3] = 0x7000
    world.set(7, 0, 0x1007)
    record = walk(world)
    assert (record.status, record.guest_references, record.host_references) == (Status.OK, 5, 30)


def test_a_guest_physical_address_beyond_the_walk_is_a_violation() -> None:
    world = World(ept=True)
    world.identity_ept()
    world.context[Context.RESERVED] = 0
    world.guest([7, 7, 7, 7 | 1 << 48])
    assert (said(walk(world)), walk(world).host_references) == (f"R {FINAL}", 16)
    world.context[Context.EPTP] = EPT_ROOT_5 << 12 | 4 << 3 | 6
    # Five levels reach it: the PML5E is read, and maps nothing there.
    assert (said(walk(world)), walk(world).host_references) == (f"R {FINAL}", 21)


def test_the_log_takes_each_page_once_from_the_top_down() -> None:
    world = world_of(7, PML=1, PML_ADDRESS=LOG_FRAME << 12, PML_INDEX=5)
    world.context[Context.EPTP] |= 1 << 6
    assert walk(world).status is Status.OK
    logged = [int(world.memory[LOG_FRAME * 512 + n]) for n in (5, 4, 3, 2)]
    assert logged == [0x1000, 0x2000, 0x3000, 0x4000]
    assert world.context[Context.PML_INDEX] == 1
    assert walk(world, Access.WRITE).status is Status.OK
    assert int(world.memory[LOG_FRAME * 512 + 1]) == PAGE << 12
    assert world.context[Context.PML_INDEX] == 0
    assert walk(world, Access.WRITE).status is Status.OK
    assert world.context[Context.PML_INDEX] == 0


def test_a_full_log_exits_before_any_flag_is_set() -> None:
    world = world_of(7, PML=1, PML_ADDRESS=LOG_FRAME << 12, PML_INDEX=0xFFFF)
    world.context[Context.EPTP] |= 1 << 6
    before = world.memory.copy()
    record = walk(world)
    assert (record.status, record.fault_gpa, record.error) == (
        Status.LOG_FULL,
        0x1000 + 8 * (GVA >> 39 & 511),
        0,
    )
    assert (world.memory == before).all()


def test_an_index_of_zero_is_the_last_entry_and_wraps() -> None:
    world = world_of(7, PML=1, PML_ADDRESS=LOG_FRAME << 12, PML_INDEX=0)
    world.context[Context.EPTP] |= 1 << 6
    assert walk(world).status is Status.LOG_FULL  # the second table finds the log full
    assert world.context[Context.PML_INDEX] == 0xFFFF
    assert int(world.memory[LOG_FRAME * 512]) == 0x1000


def sub_pages(right: int, *, valid: int = 1, odd: int = 0) -> World:
    world = world_of(1 | SPP, SPP=1, SPPTP=SPPT_FRAME << 12)
    for n in range(3):
        world.set(SPPT_FRAME + n, 0, (SPPT_FRAME + n + 1) << 12 | (valid if n == 1 else 1))
    world.set(SPPT_FRAME + 3, PAGE, right << 2 * (GVA >> 7 & 31) | odd)
    return world


def test_sub_page_write_permissions() -> None:
    record = walk(sub_pages(1), Access.WRITE)
    assert record.status is Status.OK
    assert Rights.WRITE not in record.rights, "the page as a whole stays read-only"
    assert said(walk(sub_pages(0), Access.WRITE)) == f"W ept_r {FINAL}"
    assert walk(sub_pages(0)).status is Status.OK
    miss = walk(sub_pages(1, valid=0), Access.WRITE)
    assert (miss.status, miss.error, miss.fault_level) == (Status.SPP_EVENT, 1 << 11, 3)
    assert (
        walk(sub_pages(1, odd=2), Access.WRITE).status,
        walk(sub_pages(1, odd=2), Access.WRITE).error,
    ) == (
        Status.SPP_EVENT,
        0,
    )
    assert walk(sub_pages(1, valid=3), Access.WRITE).rule.name == "SPPT misconfiguration"


def test_each_level_of_the_sub_page_table_is_indexed_by_its_bits() -> None:
    world = world_of(7, SPP=1, SPPTP=40 << 12)
    gpa = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12
    world.set(4, GVA >> 12 & 511, gpa | 7)
    for root, first, leaf in ((16, 30, 1 | SPP | WB | PAGE << 12), (40, 41, 1 << 2 * (GVA >> 7 & 31))):
        bits = 7 if root == 16 else 1
        for frame, index, target in ((root, 1, first), (first, 2, first + 1), (first + 1, 3, first + 2)):
            world.set(frame, index, target << 12 | bits)
        world.set(first + 2, 4, leaf)
    assert walk(world, Access.WRITE).status is Status.OK
    world.set(43, 4, 0)
    assert walk(world, Access.WRITE).rule.name == "EPT rights"


@pytest.mark.parametrize("upper", [1, 5])
def test_a_supervisor_shadow_stack_needs_writable_tables_above_it(upper: int) -> None:
    world = world_of(1 | SSS, 1 | 1 << 6, USER=0, UPDATE=0)
    world.context[Context.EPTP] |= 1 << 7
    world.set(18, 0, 19 << 12 | upper)
    record = walk(world, Access.SHADOW_READ)
    assert record.rule.name == "supervisor shadow stack"


def test_a_convertible_violation_fills_the_area_and_becomes_ve() -> None:
    world = world_of(1, VE=1, VE_INFO=INFO_FRAME << 12, EPTP_INDEX=9)
    world.set(INFO_FRAME, 4, 0xABCD_1234)
    record = walk(world, Access.WRITE)
    assert (record.status, record.vector) == (Status.VIRTUALIZATION_EXCEPTION, Vector.VE)
    area = [int(world.memory[INFO_FRAME * 512 + n]) for n in range(5)]
    assert area == [0xFFFF_FFFF_0000_0030, record.error, GVA, PAGE << 12 | GVA & 0xFFF, 0xABCD_0000 | 9]
    assert walk(world, Access.WRITE).status is Status.EPT_VIOLATION, "the area is in use"


@pytest.mark.parametrize("leaf", [1 | SUPPRESS, SUPPRESS])
def test_suppressed_violations_exit(leaf: int) -> None:
    world = world_of(leaf, VE=1, VE_INFO=INFO_FRAME << 12)
    assert walk(world, Access.WRITE).status is Status.EPT_VIOLATION
    assert not world.memory[INFO_FRAME * 512 : INFO_FRAME * 512 + 5].any()


@pytest.mark.parametrize(
    ("leaf", "control", "allowed"), [(1, 1, False), (1 | PAGING_WRITE, 0, False), (1 | PAGING_WRITE, 1, True)]
)
def test_paging_write_lets_the_processor_set_guest_flags(leaf: int, control: int, allowed: bool) -> None:
    for accessed_dirty in (0, 1 << 6):
        world = world_of(7, PAGING_WRITE=control)
        world.set(19, 4, leaf | WB | 4 << 12)
        world.context[Context.EPTP] |= accessed_dirty
        record = walk(world)
        if allowed:
            assert record.status is Status.OK
        else:
            assert said(record) == "R W ept_r gla_valid"


@pytest.mark.parametrize(
    ("table", "control", "allowed"), [(7, 1, False), (7 | PAGING_WRITE, 1, True), (7, 0, True)]
)
def test_guest_paging_verification(table: int, control: int, allowed: bool) -> None:
    world = world_of(7 | VERIFY, VERIFY_PAGING=control)
    for frame in (1, 2, 3):
        world.set(19, frame, 7 | PAGING_WRITE | WB | frame << 12)
    world.set(19, 4, table | WB | 4 << 12)
    record = walk(world)
    if allowed:
        assert record.status is Status.OK
    else:
        assert said(record) == f"R ept_r ept_w ept_x {FINAL} verify_paging"


@pytest.mark.parametrize(
    ("leaf", "enforced", "user", "expected"),
    [
        (1 | SSS, 1, 0, ""),
        (3, 1, 0, "W ept_r ept_w gla_valid final shadow_stack"),
        (1 | SSS, 0, 0, "W ept_r gla_valid final shadow_stack"),
        (1 | SSS, 1, 1, "W ept_r gla_valid final user shadow_stack sss_leaf"),
        (3, 0, 0, ""),
    ],
)
def test_supervisor_shadow_stacks(leaf: int, enforced: int, user: int, expected: str) -> None:
    guest = 1 | 1 << 6 | (4 if user else 0)
    world = world_of(leaf, guest, USER=user)
    world.context[Context.EPTP] |= enforced << 7
    record = walk(world, Access.SHADOW_WRITE)
    assert (said(record) if record.status else "") == expected


def test_the_memory_type_is_ept_s_and_the_pat_s() -> None:
    world = world_of(7)
    world.set(19, PAGE, 7 | 4 << 3 | PAGE << 12)
    assert walk(world).memory_type is MemoryType.WT
    world.guest([7, 7, 7, 7 | 1 << 4 | 1 << 3 | PAGE << 12])
    assert walk(world).memory_type is MemoryType.UC
    world.set(19, PAGE, 7 | 5 << 3 | 1 << 6 | PAGE << 12)
    assert walk(world).memory_type is MemoryType.WP


def test_without_paging_every_address_counts_as_user_and_writable() -> None:
    world = world_of(0, USER=0)
    world.context[Context.MODE] = PagingMode.NONE
    record = walk(world, gva=PAGE << 12)
    assert said(record) == f"R {FINAL}"
    assert (record.guest_references, record.host_references) == (0, 4)
