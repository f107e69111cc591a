"""The accesses that Bochs is asked about under EPT: one world, in which each case changes a few words.

The page lies at guest-physical 512 GiB, so that the EPT entries on its way map nothing else; the guest's own tables
are mapped one to one by 4 KiB entries. The access is made at CPL 0; whose page it is, the tables say.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from bases import long_mode
from engine_client import Engine

from quire.arch import SECONDARY_CONTROLS, field_by_name

__all__ = ["baseline", "cases_of", "launch_job"]

Words = list[tuple[int, int]]

GVA = 0x0000_7F12_3456_7ABC
INDICES = [GVA >> shift & 511 for shift in (39, 30, 21, 12)]
PAGE, PAGE_GPA = 6, 0x80_0000_6000
VMCALL = 0xC1_010F
#: (frame, index) of the EPT entries on the page's way, highest first, and of the guest's.
PATH = [(16, 1), (20, 0), (21, 0), (22, PAGE)]
GUEST = list(zip((1, 2, 3, 4), INDICES, strict=True))
#: The EPT leaf that maps each of the guest's tables.
TABLE_LEAVES = [(19, frame) for frame, _ in GUEST]
_EPT_UPPER = [(20 << 12) | 7, (21 << 12) | 7, (22 << 12) | 7]
WB = 6 << 3
_PS = 0x80
_CODE_FRAME, _CODE_GVA = 35, 1 << 39
# mov al, [rdi]; mov byte [rdi], 0x5a; jmp rdi; each with VMCALL behind it, as the page has for what is fetched.
_CODE = {"r": 0xC1_010F_078A, "w": 0xC101_0F5A_07C6, "x": 0xC1_010F_E7FF}
SIZES = (1, 2, 3)  # level of the EPT leaf


def at(place: tuple[int, int]) -> int:
    """Return the physical address of entry `index` of `frame`."""
    return place[0] << 12 | place[1] << 3


def baseline() -> Words:
    """Return the words of the world that no case has touched, those that are not 0."""
    words = [(at(place), (place[0] + 1) << 12 | 0x27) for place in GUEST[:3]]
    words.append((at(GUEST[3]), PAGE_GPA | 0x67))
    words += [(at((frame, 0)), (frame + 1) << 12 | 7) for frame in (16, 17, 18)]
    words += [(at((19, frame)), frame << 12 | WB | 7) for frame in range(64)]
    words += [
        (at(place), entry) for place, entry in zip(PATH, [*_EPT_UPPER, PAGE << 12 | WB | 7], strict=True)
    ]
    words.append(((PAGE << 12 | GVA & 0xFF8), VMCALL << 8 * (GVA & 7)))
    return words


def launch_job(engine: Engine, settings: dict[str, int], access: str, cases: list[Any]) -> dict[str, Any]:
    """Return the engine's job: enter with good tables, and stop at the instruction that makes the access."""
    secondary = SECONDARY_CONTROLS.encode(enable_ept=1, enable_vpid=1, mode_based_execute=settings["mbec"])
    fields = long_mode(engine.about["host"], engine.capabilities, secondary)
    fields["pin_based_controls"] &= ~0x40  # no preemption timer
    fields |= {
        "ept_pointer": 0x1_0000 | settings["ad"] << 6 | 3 << 3 | 6,
        "guest_cr3": 0x1000,
        "guest_rip": _CODE_GVA,
    }
    rights = 7 | 0x400
    words = [(address, word | (0x400 if 16 <= address >> 12 <= 22 else 0)) for address, word in baseline()]
    words += [(at((1, 1)), 32 << 12 | 3), (at((32, 0)), 33 << 12 | 3), (at((33, 0)), 34 << 12 | 3)]
    words += [(at((34, 0)), _CODE_FRAME << 12 | 3), (_CODE_FRAME << 12, _CODE[access])]
    words.append((at((19, _CODE_FRAME)), _CODE_FRAME << 12 | WB | rights))
    return {
        "kind": "access",
        "fields": [(field_by_name(name).encoding, value) for name, value in fields.items()],
        "words": words,
        "world": baseline(),
        "at": _CODE_GVA,
        "rdi": GVA,
        "cases": cases,
    }


def _leaf(level: int, bits: int) -> tuple[int, int]:
    """Return the word of an EPT leaf at `level`."""
    place = PATH[4 - level]
    return at(place), bits | ((PAGE << 12) if level == 1 else _PS)


def _guest_leaf(user: int, more: int = 0x63) -> tuple[int, int]:
    return at(GUEST[3]), PAGE_GPA | more & ~4 | user << 2


def _rights() -> Iterator[Words]:
    """Every right of the leaf, and of each entry above it, for pages of each size of both kinds of address."""
    for user, level, bits in itertools.product((0, 1), SIZES, range(16)):
        rights = bits & 7 | (bits & 8) << 7
        yield [_guest_leaf(user), _leaf(level, rights | WB)]
        for n in range(4 - level):
            for leaf in (0x407, 5, 0x404) if n == 0 or level == 1 else (0x407,):
                upper = (at(PATH[n]), _EPT_UPPER[n] & ~7 | rights)
                yield [_guest_leaf(user), upper, _leaf(level, leaf | WB)]


def _types() -> Iterator[Words]:
    for level, kind, ipat, rights in itertools.product(SIZES, range(8), (0, 0x40), (7, 1, 4, 0, 2)):
        yield [_leaf(level, rights | kind << 3 | ipat)]


def _bits() -> Iterator[Words]:
    """Each bit of each entry, in one that is present and in one that is not; bits that lead elsewhere are left out."""
    for level in SIZES:
        for n in range(5 - level):
            last = n == 4 - level
            address, entry = _leaf(level, 7 | WB) if last else (at(PATH[n]), _EPT_UPPER[n])
            leads = range(12 + 9 * (level - 1), 40) if last else range(12, 40)
            for bit, present in itertools.product(range(64), (7, 0)):
                if bit in leads or (bit == 7 and not last and n):
                    continue
                change = [] if last else [_leaf(level, 7 | WB)]
                yield [*change, (address, (entry & ~7 | present) ^ 1 << bit)]


def _priority() -> Iterator[Words]:
    """Two faults at once, at the same entry and at two: which is told first."""
    wrong = (0, 2, 6, 4, 7 | 3 << 3, 7 | 1 << 51, 1 << 51, 2 << 3)
    for first, second in itertools.product(wrong, repeat=2):
        yield [(at(PATH[1]), _EPT_UPPER[1] & ~7 | first), (at(PATH[3]), PAGE << 12 | WB ^ second)]
    for guest, leaf in itertools.product((0x60, 0x61, 0x63, 0x63 | 1 << 51, 0x67 | 1 << 63), wrong):
        yield [(at(GUEST[3]), PAGE_GPA | guest), (at(PATH[3]), PAGE << 12 | WB ^ leaf)]


def _table_pages() -> Iterator[Words]:
    """The rights of the pages that hold the guest's tables, with the guest's flags clear and set."""
    for n, bits, flags in itertools.product(range(4), range(16), (0, 1)):
        rights = bits & 7 | (bits & 8) << 7
        place, table = GUEST[n], TABLE_LEAVES[n]
        entry = PAGE_GPA | 7 | 0x60 * flags if n == 3 else (place[0] + 1) << 12 | 7 | 0x20 * flags
        yield [(at(table), table[1] << 12 | WB | rights), (at(place), entry)]


def _flags() -> Iterator[Words]:
    """Accessed and dirty flags of both dimensions before the access."""
    for level, leaf, upper, guest in itertools.product(
        SIZES, (0, 0x100, 0x200, 0x300), (0, 0x100), (0, 0x20, 0x60)
    ):
        above = [(at(PATH[n]), _EPT_UPPER[n] | upper) for n in range(4 - level)]
        yield [*above, _leaf(level, 7 | WB | leaf), (at(GUEST[3]), PAGE_GPA | 7 | guest)]


def _linear() -> Iterator[Words]:
    """What the guest's tables say of the page, which an EPT violation reports."""
    for guest, xd, n, ept in itertools.product(range(4), (0, 1 << 63), range(4), range(8)):
        entry = 1 | guest << 1 | xd
        word = PAGE_GPA | 0x60 if n == 3 else (GUEST[n][0] + 1) << 12 | 0x20
        yield [(at(GUEST[n]), word | entry), (at(PATH[3]), PAGE << 12 | WB | ept)]


FAMILIES = (_rights, _types, _bits, _priority, _table_pages, _flags, _linear)


def cases_of() -> Iterator[tuple[dict[str, int], str, list[Words]]]:
    """Yield (settings, access, words of each case)."""
    for ad, mbec, access in itertools.product((0, 1), (0, 1), "rwx"):
        families = FAMILIES if not mbec else (_rights, _table_pages)
        yield {"ad": ad, "mbec": mbec}, access, [words for family in families for words in family()]
