"""Layouts: construction, reading and writing fields, and the text of every error."""

import dataclasses
import pickle

import numpy as np
import pytest

from quire.arch.layout import Field, Kind, Layout, address, bit, bits, ignored, reserved
from quire.errors import MisuseError

FIELDS = (
    bit(0, "P", "present"),
    bits(1, 3, "type", "a type"),
    reserved(4),
    ignored(5, 11),
    address(12, 31, meaning="a frame"),
)


def make(*fields: Field, width: int = 32, section: str = "SDM 3A §4.5") -> Layout:
    return Layout("TOY", width, section, fields or FIELDS)


def raises(message: str, call, *args, **kwargs) -> None:
    """Check the whole message: error text is part of the interface."""
    with pytest.raises(MisuseError) as caught:
        call(*args, **kwargs)
    assert str(caught.value) == message


def test_construct() -> None:
    toy = make(*reversed(FIELDS))
    assert [one.name for one in toy.fields] == ["P", "type", "reserved_4", "ignored_11_5", "addr"]
    assert [one.kind for one in toy.fields[1:4]] == [Kind.FIELD, Kind.RESERVED, Kind.IGNORED]
    assert toy.reserved_mask == 0x10
    assert toy.ignored_mask == 0xFE0
    assert toy.mask("P", "type") == 0xF
    assert toy.mask() == 0
    assert toy.shift("addr") == 12
    assert toy.field("type").where == "bits 3:1"
    assert toy.field("P").where == "bit 0"


def test_repr_equal_hash() -> None:
    assert repr(make()) == "<Layout TOY: 32 bits, SDM 3A §4.5>"
    assert make() == make(*reversed(FIELDS))
    assert hash(make()) == hash(make(*reversed(FIELDS)))
    assert make() != make(section="SDM 3A §4.4")
    assert pickle.loads(pickle.dumps(make())) == make()


def test_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().width = 64  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        FIELDS[0].low = 1  # type: ignore[misc]


def test_get_and_set() -> None:
    toy = make()
    value = toy.encode(P=1, type=5, addr=0x1234_5000)
    assert value == 0x1234_500B
    assert toy.get(value, "type") == 5
    assert toy.get(value, "addr") == 0x1234_5000
    assert toy.decode(value) == {"P": 1, "type": 5, "addr": 0x1234_5000}
    assert list(toy.decode(value)) == ["P", "type", "addr"]
    assert toy.set(value, P=0) == value - 1
    assert toy.set(value | 0x10, type=0) == 0x1234_5011
    assert toy.get(value | 1 << 40, "addr") == 0x1234_5000


def test_numpy_scalars_go_in_and_ints_come_out() -> None:
    value = np.uint64(0x1234_500B)
    assert make().set(value, type=np.uint64(0)) == 0x1234_5001
    assert type(make().set(value, P=np.uint64(1))) is int
    assert {type(content) for content in make().decode(value).values()} == {int}
    assert make().flags(value) == "P type=0x5 addr=0x12345000"


def test_flags() -> None:
    toy = make()
    assert toy.flags(0) == ""
    assert toy.flags(0x1FF1) == "P addr=0x1000"
    assert toy.flags(toy.encode(type=7)) == "type=0x7"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((bits(0, 6, "A", ""),), "Layout TOY does not declare bits 7:7: add reserved(7, 7) or ignored(7, 7)"),
        ((bits(2, 7, "A", ""),), "Layout TOY does not declare bits 1:0: add reserved(0, 1) or ignored(0, 1)"),
        (
            (bits(0, 4, "A", ""), bits(4, 7, "B", "")),
            "Layout TOY: 'B' (bits 7:4) overlaps 'A': bit 4 is taken",
        ),
        ((bits(0, 8, "A", ""),), "Layout TOY: 'A' (bits 8:0) ends beyond its 8 bits"),
        ((bits(0, 3, "A", ""), bits(4, 7, "A", "")), "Layout TOY declares 'A' twice: rename one of them"),
    ],
)
def test_construct_wrong(fields: tuple[Field, ...], message: str) -> None:
    raises(message, make, *fields, width=8)


def test_construct_wrong_head() -> None:
    raises("Layout TOY is 0 bits wide: give at least 1", make, width=0)
    raises(
        "Layout TOY cites 'SDM vol. 3': cite the manual in the form 'SDM 3A §4.5'", make, section="SDM vol. 3"
    )


def test_field_wrong() -> None:
    raises("Field at bits 1:0 has no name: give it the manual's name", bits, 0, 1, "", "")
    raises("Field 'A' spans bits 1:2: give 0 <= low <= high, high inclusive", bits, 2, 1, "A", "")
    raises("Field 'A' spans bits 1:-1: give 0 <= low <= high, high inclusive", bits, -1, 1, "A", "")


def test_name_wrong() -> None:
    toy = make()
    text = "TOY has no field 'p' (did you mean 'P'?): its fields are P, type, addr"
    raises(text, toy.mask, "p")
    raises(text, toy.get, 0, "p")
    raises(text, toy.shift, "p")
    raises(text, toy.encode, p=1)
    raises("TOY has no field 'zzz': its fields are P, type, addr", toy.set, 0, zzz=1)


def test_value_wrong() -> None:
    toy = make()
    raises("TOY.type = 0x8 does not fit in bits 3:1: give a value from 0x0 to 0x7", toy.encode, type=8)
    raises("TOY.P = -0x1 does not fit in bit 0: give a value from 0x0 to 0x1", toy.encode, P=-1)
    raises("TOY.addr = 0x1234 is not aligned to 0x1000: clear bits 11:0", toy.encode, addr=0x1234)
    raises(
        "TOY.addr = 0x100000000 does not fit in bits 31:12: give a value from 0x0 to 0xfffff000",
        toy.encode,
        addr=1 << 32,
    )
    raises(
        "TOY.reserved_4 is reserved: to set it on purpose, or in TOY.mask('reserved_4')",
        toy.encode,
        reserved_4=1,
    )
    wide = "TOY = 0x100000000 does not fit in 32 bits: give a value from 0x0 to 0xffffffff"
    raises(wide, toy.decode, 1 << 32)
    raises(wide, toy.flags, 1 << 32)
    raises(wide, toy.set, 1 << 32, P=1)
