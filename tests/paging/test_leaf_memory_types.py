"""Memory types of leaves: which each format has, that they are written, and kept when rights or sizes change."""

import pytest

from quire.arch import EPT_PTE, MemoryType
from quire.errors import MisuseError
from quire.memory import HostMemory, Pool
from quire.mmu import Host
from quire.mmu.backed import make_ept
from quire.paging import EPT_FORMAT, GUEST_FORMAT, Rights

R, W = Rights.READ, Rights.WRITE
LARGE = 2 << 20


def says(call) -> str:
    with pytest.raises(MisuseError) as refused:
        call()
    return str(refused.value)


def test_other_memory_types_are_leaves_of_ept_alone() -> None:
    for kind in MemoryType:
        legal = kind is not MemoryType.UC_MINUS
        for form in (EPT_FORMAT, GUEST_FORMAT):
            if form is EPT_FORMAT and legal:
                entry = form.leaf_entry(0x200000, 2, R | W, memory_type=kind)
                assert entry == EPT_PTE.encode(R=1, W=1, MT=kind, addr=0x200000) | 0x80
                assert (
                    form.protected(entry | EPT_PTE.mask("A"), 2, R)
                    == EPT_PTE.encode(R=1, A=1, MT=kind, addr=0x200000) | 0x80
                )
            elif kind is not MemoryType.WB:
                whose = "EPT" if form is EPT_FORMAT else "the guest's tables"
                types = "UC or WC or WT or WP or WB" if form is EPT_FORMAT else "WB"
                assert says(lambda form=form, kind=kind: form.leaf_entry(0, 1, R, memory_type=kind)) == (
                    f"No leaf of {whose} can say {kind.name}: give {types}"
                )


def test_maps_say_the_type_and_protect_keeps_it() -> None:
    memory = HostMemory(1024 << 12)
    ept = make_ept(Host(memory, Pool(0, 1024, memory)))
    ept.map(0x1000, 0x1000, 0x1000, R | W, MemoryType.WC)
    ept.map(LARGE, LARGE, LARGE, R, MemoryType.WP)
    ept.map_range(0x3000, 0x3000, 0x2000, R | W, memory_type=MemoryType.UC)
    ept.protect(0x1000, R)
    ept.protect_range(0x3000, 0x2000, R)
    ept.split(LARGE)
    found = [EPT_PTE.get(one.entry, "MT") for one in ept.mappings()]
    assert found == [MemoryType.WC, MemoryType.UC, MemoryType.UC, *[MemoryType.WP] * 512]
    assert {one.rights for one in ept.mappings()} == {R}
    for call in (
        lambda: ept.map(0x8000, 0x8000, 0x1000, R, MemoryType.UC_MINUS),
        lambda: ept.map_range(0x8000, 0x8000, 0x1000, R, memory_type=MemoryType.UC_MINUS),
    ):
        assert says(call) == "No leaf of EPT can say UC_MINUS: give UC or WC or WT or WP or WB"
    ept.close()
    memory.close()
