"""The invalidation table, row by row: which of a fixed population of translations each operation drops."""

import numpy as np
import pytest

from quire.arch import SKYLAKE_X
from quire.errors import MisuseError
from quire.tlb import AddressSpace, AddressSpaces, Operation, Tlb
from quire.tlb._kernels import fill, lookup

HERE, THERE = 0x1000, 0x7000
#: Name of each translation: (vpid, pcid, ep4ta), page, global.
POPULATION = {
    "mine": (AddressSpace(1, 0, 5), HERE, False),
    "mine, other page": (AddressSpace(1, 0, 5), THERE, False),
    "mine, global": (AddressSpace(1, 0, 5), 0x3000, True),
    "mine, global here": (AddressSpace(1, 8, 5), HERE, True),
    "other pcid": (AddressSpace(1, 3, 5), HERE, False),
    "other ept": (AddressSpace(1, 0, 6), HERE, False),
    "no ept": (AddressSpace(1, 0, None), HERE, False),
    "other vpid": (AddressSpace(2, 0, 5), HERE, False),
    "vpid 0": (AddressSpace(0, 0, None), HERE, False),
}

EXPECTED = {
    Operation.INVLPG: {"mine", "mine, global here", "other ept", "no ept"},
    Operation.PAGE_FAULT: {"mine", "mine, global here", "other ept", "no ept"},
    Operation.INVPCID_ADDRESS: {"mine", "other ept", "no ept"},
    Operation.INVPCID_CONTEXT: {"mine", "mine, other page", "other ept", "no ept"},
    Operation.INVPCID_ALL: set(POPULATION) - {"other vpid", "vpid 0"},
    Operation.INVPCID_ALL_RETAINING_GLOBALS: {
        "mine",
        "mine, other page",
        "other pcid",
        "other ept",
        "no ept",
    },
    Operation.MOV_CR3: {"mine", "mine, other page", "other ept", "no ept"},
    Operation.MOV_CR4_PGE: set(POPULATION) - {"other vpid", "vpid 0"},
    Operation.EPT_VIOLATION: {"mine", "mine, global here"},
    Operation.INVVPID_ADDRESS: {"mine", "mine, global here", "other pcid", "other ept", "no ept"},
    Operation.INVVPID_CONTEXT: set(POPULATION) - {"other vpid", "vpid 0"},
    Operation.INVVPID_ALL: set(POPULATION) - {"vpid 0"},
    Operation.INVVPID_RETAINING_GLOBALS: {"mine", "mine, other page", "other pcid", "other ept", "no ept"},
    Operation.INVEPT_CONTEXT: set(POPULATION) - {"other ept", "no ept", "vpid 0"},
    Operation.INVEPT_ALL: set(POPULATION) - {"no ept", "vpid 0"},
    Operation.VM_ENTRY_VPID_0: {"vpid 0"},
}


def populated() -> Tlb:
    tlb = Tlb(SKYLAKE_X)
    for space, gva, is_global in POPULATION.values():
        tlb.enter(space)
        lookup(tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), False)
        fill(
            *(tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), False, np.uint64(12)),
            *(is_global, np.uint64(0x5007)),
        )
    return tlb


def names(tlb: Tlb) -> set[str]:
    held = {(entry.space, entry.gva) for entry in tlb.valid()}
    found = set()
    for name, (space, gva, is_global) in POPULATION.items():
        tag = AddressSpace(space.vpid, None, space.ep4ta) if is_global else space
        if (tag, gva) in held:
            found.add(name)
    return found


def test_the_table_of_expectations_is_complete() -> None:
    assert set(EXPECTED) == set(Operation)
    assert names(populated()) == set(POPULATION)


@pytest.mark.parametrize("operation", list(Operation), ids=lambda operation: operation.name)
def test_operation(operation: Operation) -> None:
    tlb = populated()
    vpid = 0 if operation is Operation.VM_ENTRY_VPID_0 else 1
    tlb.invalidate(operation, vpid=vpid, pcid=0, ep4ta=5, gva=HERE + 0x123)
    assert set(POPULATION) - names(tlb) == EXPECTED[operation]


def test_a_rule_cites_its_section() -> None:
    assert all(operation.value.section.startswith("SDM 3") for operation in Operation)


def test_numbers_run_out_with_a_message() -> None:
    spaces = AddressSpaces()
    for n in range(1 << 16):
        spaces.number(AddressSpace(1, n, None))
    with pytest.raises(MisuseError) as error:
        spaces.number(AddressSpace(2, 0, None))
    assert str(error.value) == "There are 0x10000 address spaces already: flush all and start anew"
