"""The invalidation table, row by row: which of a fixed population of mappings each operation drops."""

import pytest

from quire.arch import SKYLAKE_X
from quire.errors import MisuseError
from quire.tlb import TRANSLATION, AddressSpace, AddressSpaces, Kind, MappingClass, Operand, Operation, Tlb

HERE, FAR, GPA = 0x1000, 0x4000_0000, 0x9000
_MINE = AddressSpace(1, 0, 5)
_EPT = AddressSpace(None, None, 5)
#: Name of each mapping: tags, kind, address.
POPULATION = {
    "mine": (_MINE, Kind.PAGE_4K, HERE),
    "mine, 2M": (_MINE, Kind.PAGE_2M, HERE),
    "mine, far": (_MINE, Kind.PAGE_4K, FAR),
    "mine, PDE": (_MINE, Kind.PDE, HERE),
    "mine, far PDE": (_MINE, Kind.PDE, FAR),
    "mine, PML4E": (_MINE, Kind.PML4E, HERE),
    "global": (AddressSpace(1, None, 5), Kind.PAGE_4K, HERE),
    "global, far": (AddressSpace(1, None, 5), Kind.PAGE_4K, FAR),
    "other pcid": (AddressSpace(1, 3, 5), Kind.PAGE_4K, HERE),
    "other pcid, PDE": (AddressSpace(1, 3, 5), Kind.PDE, HERE),
    "other ept": (AddressSpace(1, 0, 6), Kind.PAGE_4K, HERE),
    "no ept": (AddressSpace(1, 0, None), Kind.PAGE_4K, HERE),
    "no ept, far PDE": (AddressSpace(1, 0, None), Kind.PDE, FAR),
    "other vpid": (AddressSpace(2, 0, 5), Kind.PAGE_4K, HERE),
    "vpid 0": (AddressSpace(0, 0, None), Kind.PAGE_4K, HERE),
    "vpid 0, ept": (AddressSpace(0, 0, 5), Kind.PAGE_4K, FAR),
    "gpa": (_EPT, Kind.PAGE_4K, GPA),
    "gpa, far": (_EPT, Kind.PAGE_4K, FAR),
    "gpa, PDE": (_EPT, Kind.PDE, GPA),
    "gpa, far PDE": (_EPT, Kind.PDE, FAR),
    "gpa, other ept": (AddressSpace(None, None, 6), Kind.PAGE_4K, GPA),
}

_PAGE = {"mine", "mine, 2M", "mine, PDE", "mine, PML4E", "other ept", "no ept"}  # what translates HERE
_OF_PCID = _PAGE | {"mine, far", "mine, far PDE", "no ept, far PDE"}
_GLOBALS = {"global", "global, far"}
_OTHER_PCID = {"other pcid", "other pcid, PDE"}
_OF_VPID = _OF_PCID | _GLOBALS | _OTHER_PCID
_VPID_0 = {"vpid 0", "vpid 0, ept"}
_EPT_5 = {"gpa", "gpa, far", "gpa, PDE", "gpa, far PDE"}
_COMBINED_5 = _OF_VPID - {"other ept", "no ept", "no ept, far PDE"} | {"other vpid", "vpid 0, ept"}

EXPECTED: dict[Operation, set[str]] = {
    Operation.INVLPG: _PAGE | {"global", "mine, far PDE", "no ept, far PDE"},
    Operation.PAGE_FAULT: _PAGE | {"global"},
    Operation.INVPCID_ADDRESS: _PAGE,
    Operation.INVPCID_CONTEXT: _OF_PCID,
    Operation.INVPCID_ALL: _OF_VPID,
    Operation.INVPCID_ALL_RETAINING_GLOBALS: _OF_VPID - _GLOBALS,
    Operation.MOV_CR0_PG: _OF_VPID,
    Operation.MOV_CR0_OTHER: set(),
    Operation.MOV_CR3: _OF_PCID,
    Operation.MOV_CR3_KEEP: set(),
    Operation.MOV_CR4_PGE: _OF_VPID,
    Operation.MOV_CR4_PCIDE: _OF_VPID,
    Operation.MOV_CR4_PAE: _OF_PCID | _GLOBALS,
    Operation.MOV_CR4_SMEP: _OF_PCID | _GLOBALS,
    Operation.MOV_CR4_OTHER: set(),
    Operation.TASK_SWITCH: _OF_PCID,
    Operation.EPT_VIOLATION: _PAGE - {"other ept", "no ept"} | {"global", "gpa", "gpa, PDE"},
    Operation.INVVPID_ADDRESS: _PAGE | {"global", *_OTHER_PCID},
    Operation.INVVPID_CONTEXT: _OF_VPID,
    Operation.INVVPID_ALL: _OF_VPID | {"other vpid"},
    Operation.INVVPID_RETAINING_GLOBALS: _OF_VPID - _GLOBALS,
    Operation.INVEPT_CONTEXT: _COMBINED_5 | _EPT_5,
    Operation.INVEPT_ALL: _COMBINED_5 | _EPT_5 | {"other ept", "gpa, other ept"},
    Operation.VM_ENTRY_VPID_0: _VPID_0,
    Operation.VM_EXIT_VPID_0: _VPID_0,
    Operation.VM_ENTRY_VPID: set(),
    Operation.VM_EXIT_VPID: set(),
    Operation.VMFUNC_VPID_0: {"vpid 0, ept"},
    Operation.VMFUNC_VPID: set(),
}
_OF_VPID_0 = (Operation.VM_ENTRY_VPID_0, Operation.VM_EXIT_VPID_0, Operation.VMFUNC_VPID_0)


def populated() -> Tlb:
    tlb = Tlb(SKYLAKE_X)
    for space, kind, address in POPULATION.values():
        if space.vpid is not None and kind.is_page:
            structure = "L2"
        else:
            structure = f"{'EPT ' if space.vpid is None else ''}{kind.name} cache"
        if space.vpid is None and kind.is_page:
            structure = "nested TLB"
        tlb.put(structure, space, kind, address, 0x5007)
    return tlb


def names(tlb: Tlb) -> set[str]:
    held = {(entry.space, entry.kind, entry.address) for entry in tlb.valid()}
    return {
        name
        for name, (space, kind, address) in POPULATION.items()
        if (space, kind, address >> kind.shift << kind.shift) in held
    }


def test_the_table_of_expectations_is_complete() -> None:
    assert set(EXPECTED) == set(Operation)
    assert names(populated()) == set(POPULATION)
    assert {space.mapping_class for space, _, _ in POPULATION.values()} == set(MappingClass)


@pytest.mark.parametrize("operation", list(Operation), ids=lambda operation: operation.name)
def test_operation(operation: Operation) -> None:
    tlb = populated()
    heard = []
    tlb.observers.append(lambda *said: heard.append(said))
    operand = Operand(0 if operation in _OF_VPID_0 else 1, 0, 5, HERE + 0x123, GPA + 0x456)
    dropped = tlb.invalidate(operation, vpid=operand.vpid, pcid=0, ep4ta=5, gva=operand.gva, gpa=operand.gpa)
    assert set(POPULATION) - names(tlb) == EXPECTED[operation]
    assert dropped == len(EXPECTED[operation])
    assert heard == [(operation, operand)]


def test_a_rule_cites_its_section() -> None:
    assert all(operation.value.section.startswith("SDM 3") for operation in Operation)
    assert len({operation.value.when for operation in Operation}) == len(Operation)


def test_numbers_run_out_with_a_message() -> None:
    spaces = AddressSpaces()
    for n in range((1 << 16) - 1):
        spaces.number(AddressSpace(1, n, None))
    with pytest.raises(MisuseError) as error:
        spaces.number(AddressSpace(2, 0, None))
    assert str(error.value) == "There are 0xffff address spaces already: flush all and start anew"


def test_a_mapping_goes_where_it_can_be_held() -> None:
    tlb = Tlb(SKYLAKE_X)
    with pytest.raises(MisuseError) as error:
        tlb.put("L3", _MINE, Kind.PAGE_4K, HERE, 0)
    assert str(error.value).startswith("No TLB or walk cache is called 'L3': there is L1I 4K, L1I 2M, L1D 4K")
    with pytest.raises(MisuseError) as error:
        tlb.put("L2", _MINE, Kind.PAGE_1G, HERE, 0)
    assert str(error.value) == "L2 does not hold a PAGE_1G: choose another structure"


def test_a_page_goes_with_every_piece_of_it() -> None:
    """INVLPG of a page that several entries hold pieces of takes them all (SDM 3A §4.10.4.1)."""
    tlb = Tlb(SKYLAKE_X)
    piece = TRANSLATION.encode(walk_size=1)  # 4 KiB of EPT behind a guest page of 2 MiB
    for address in (0x20_0000, 0x20_1000, 0x3F_F000, 0x40_0000):
        tlb.put("L2", _MINE, Kind.PAGE_4K, address, piece)
    tlb.invalidate(Operation.INVLPG, vpid=1, gva=0x20_5678)
    assert [entry.address for entry in tlb.valid()] == [0x40_0000]
