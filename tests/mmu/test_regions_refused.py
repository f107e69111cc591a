"""Guest-physical regions that cannot be: each is refused by a message that names it and what is in its way."""

import pytest

from quire.arch import SKYLAKE_X, MemoryType
from quire.errors import MisuseError
from quire.machine import GuestConfig
from quire.mmu import MemoryRegions, Region, RegionKind
from quire.paging import Rights

R, W, X = Rights.READ, Rights.WRITE, Rights.EXECUTE
READ_ONLY, MMIO, ALIAS = RegionKind.READ_ONLY, RegionKind.MMIO, RegionKind.ALIAS
MEMORY, LARGE = 8 << 20, 2 << 20


def says(call) -> str:
    with pytest.raises(MisuseError) as refused:
        call()
    return str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0x1000, 0), "A region of 0x0 bytes at 0x1000 is empty: give at least 0x1000"),
        ((0x1000, -0x1000), "A region of -0x1000 bytes at 0x1000 is empty: give at least 0x1000"),
        (
            (0x1800, 0x1000),
            "RAM 0x1800 to 0x2800 is not made of pages: start and size must be multiples of 0x1000",
        ),
        (
            (0x1000, 0x1001),
            "RAM 0x1000 to 0x2001 is not made of pages: start and size must be multiples of 0x1000",
        ),
        (
            ((1 << 52) - 0x1000, 0x2000),
            "RAM 0xffffffffff000 to 0x10000000001000 leaves the physical addresses, which end at 0x10000000000000: "
            "stay below",
        ),
        (
            (-0x1000, 0x2000),
            "RAM -0x1000 to 0x1000 leaves the physical addresses, which end at 0x10000000000000: stay below",
        ),
        ((0, 0x1000, "rom"), "No region is of kind 'rom': give RAM or READ_ONLY or MMIO or ALIAS"),
        (
            (0, 0x1000, RegionKind.RAM, R, MemoryType.UC_MINUS),
            "RAM 0x0 to 0x1000 cannot have memory type UC_MINUS, which EPT has not: give UC or WC or WT or WP or WB",
        ),
        (
            (0, 0x1000, RegionKind.RAM, R, 3),
            "RAM 0x0 to 0x1000 cannot have memory type 3, which EPT has not: give UC or WC or WT or WP or WB",
        ),
        (
            (0, 0x1000, ALIAS),
            "ALIAS 0x0 to 0x1000 names no target: give the address whose memory it shows",
        ),
        (
            (0, 0x1000, READ_ONLY, None, MemoryType.WB, 0x2000),
            "READ_ONLY 0x0 to 0x1000 cannot have target 0x2000: only an ALIAS shows another region's memory",
        ),
        (
            (0, 0x1000, MMIO, None, MemoryType.WB, None, b"x"),
            "MMIO 0x0 to 0x1000 has no memory of its own for contents: give them to RAM or READ_ONLY",
        ),
        (
            (0, 0x1000, READ_ONLY, None, MemoryType.WB, None, bytes(0x1001)),
            "0x1001 bytes of contents do not fit into READ_ONLY 0x0 to 0x1000: give at most 0x1000",
        ),
        ((0, 0x1000, MMIO, R), "MMIO 0x0 to 0x1000 has no memory to have READ rights to: give none"),
        (
            (0, 0x1000, RegionKind.RAM, Rights(0)),
            "RAM 0x0 to 0x1000 cannot have rights <Rights: 0>: give some of READ, WRITE and EXECUTE, or make it MMIO",
        ),
        (
            (0, 0x1000, RegionKind.RAM, W | X),
            "RAM 0x0 to 0x1000 cannot have WRITE+EXECUTE rights: a leaf of EPT that can be written and not read is a "
            "misconfiguration (SDM 3C §28.3.3.1); give READ too",
        ),
        (
            (0, 0x1000, READ_ONLY, R | W),
            "READ_ONLY 0x0 to 0x1000 cannot have READ+WRITE rights: make it RAM to have it written",
        ),
        (
            (0, 0x1000, RegionKind.RAM, R | W | X, MemoryType.WB, None, b"", True),
            "RAM 0x0 to 0x1000 cannot have READ+WRITE+EXECUTE rights: W^X allows WRITE or EXECUTE, never both",
        ),
    ],
)
def test_a_region_that_cannot_be(arguments: tuple, message: str) -> None:
    assert says(lambda: Region(*arguments)) == message


RAM = Region(0, 0x4000)


@pytest.mark.parametrize(
    ("regions", "options", "message"),
    [
        (
            (Region(0x3000, 0x2000, READ_ONLY), RAM),
            {},
            "READ_ONLY 0x3000 to 0x5000 overlaps RAM 0x0 to 0x4000: begin at 0x4000 or later",
        ),
        (
            (Region(MEMORY - 0x1000, 0x2000, MMIO),),
            {},
            "MMIO 0x7ff000 to 0x801000 is beyond the machine's memory, which ends at 0x800000: give the machine more, "
            "or move it",
        ),
        (
            (Region(1 << 46, 0x1000),),
            {},
            "RAM 0x400000000000 to 0x400000001000 needs more than the 46 physical address bits of the processor: stay "
            "below 0x400000000000",
        ),
        (
            (Region(0, LARGE), Region(LARGE, 0x1000)),
            {"host_page": LARGE},
            "RAM 0x200000 to 0x201000 is not made of host pages: start, size and target must be multiples of 0x200000, "
            "or give the machine smaller host pages",
        ),
        (
            (RAM, Region(0x8000, 0x1000, ALIAS, target=0x5000)),
            {},
            "ALIAS 0x8000 to 0x9000 shows 0x5000, which is a hole and has no memory: give it an address in RAM or "
            "READ_ONLY",
        ),
        (
            (Region(0x5000, 0x1000, MMIO), Region(0x8000, 0x1000, ALIAS, target=0x5000)),
            {},
            "ALIAS 0x8000 to 0x9000 shows 0x5000, which is MMIO 0x5000 to 0x6000 and has no memory: give it an address "
            "in RAM or READ_ONLY",
        ),
        (
            (RAM, Region(0x8000, 0x1000, ALIAS, target=0x1000), Region(0x9000, 0x1000, ALIAS, target=0x8000)),
            {},
            "ALIAS 0x9000 to 0xa000 shows ALIAS 0x8000 to 0x9000, which is an alias itself: give it 0x1000",
        ),
        (
            (RAM, Region(0x8000, 0x2000, ALIAS, target=0x3000)),
            {},
            "ALIAS 0x8000 to 0xa000 shows 0x3000 to 0x5000, beyond the end of RAM 0x0 to 0x4000: give it at most "
            "0x1000 bytes",
        ),
        (
            (Region(0, 0x1000, rights=R | W | X),),
            {"wxorx": True},
            "RAM 0x0 to 0x1000 cannot have READ+WRITE+EXECUTE rights: W^X allows WRITE or EXECUTE, never both",
        ),
        (
            (Region(0, 0x4000, rights=R | W), Region(0x8000, 0x1000, ALIAS, target=0x1000, rights=R | X)),
            {"wxorx": True},
            "ALIAS 0x8000 to 0x9000 and RAM 0x0 to 0x4000 show the same memory, which would be writable and "
            "executable: W^X allows one of the two; protect the other first",
        ),
        ((), {"wxorx": True}, "W^X holds for regions, and there are none: give regions, or leave wxorx out"),
        (
            (RAM,),
            {"kind": "process"},
            "RAM 0x0 to 0x4000 cannot be given to a process guest, whose memory Quire hands out: give kind='machine'",
        ),
        (
            (RAM,),
            {"mmu": "native"},
            "RAM 0x0 to 0x4000 cannot be had under native, where no memory map says so: give mmu='ept' or 'shadow'",
        ),
        (
            (RAM, Region(0x8000, 0x1000, ALIAS, target=0)),
            {"mmu": "shadow"},
            "ALIAS 0x8000 to 0x9000 cannot be had under shadow: a guest that writes its tables at another address "
            "would not be seen; give mmu='ept'",
        ),
        (
            (Region(0, 0x4000, memory_type=MemoryType.WC),),
            {"mmu": "shadow"},
            "RAM 0x0 to 0x4000 cannot have memory type WC under shadow, where no hardware walks the memory map: give "
            "WB, or mmu='ept'",
        ),
    ],
)
def test_a_map_that_cannot_be(regions: tuple[Region, ...], options: dict, message: str) -> None:
    assert SKYLAKE_X.maxphyaddr == 46
    arguments = {"memory": MEMORY, "kind": "machine", "regions": regions, **options}
    assert says(lambda: GuestConfig(**arguments)) == message


def test_execute_only_needs_a_processor_that_has_it() -> None:
    region = Region(0, 0x1000, rights=X)
    assert MemoryRegions([region], memory=MEMORY, width=46, host_page=0x1000).regions == (region,)
    assert says(
        lambda: MemoryRegions([region], memory=MEMORY, width=46, host_page=0x1000, execute_only=False)
    ) == (
        "RAM 0x0 to 0x1000 cannot have EXECUTE rights alone: this processor's EPT has no such leaves; give READ too"
    )
