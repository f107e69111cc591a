"""The contents of a TLB as a table: every field of every entry, filters, records, data frames, and the use of sets."""

import sys

import numpy as np
import pytest

from quire.arch import SKYLAKE_X, profile_by_name
from quire.errors import MisuseError
from quire.paging import Context
from quire.paging.context import new_context
from quire.tlb import TRANSLATION, AddressSpace, Kind, Operation, Tlb
from quire.tlb._kernels_arrays import fill, lookup

USER = AddressSpace(1, 3, 0x5000)
FIELDS = (
    *("structure", "level", "set", "way", "class", "kind", "address", "size", "hpa", "vpid", "pcid", "ep4ta"),
    *("global", "RW", "US", "XD", "ept_R", "ept_W", "ept_X", "ept_XU", "dirty", "memory_type", "pkey"),
    *("walk_size", "age"),
)


def filled() -> Tlb:
    """Return a TLB with an entry of every class, and of every kind of structure."""
    tlb = Tlb(SKYLAKE_X)
    data = TRANSLATION.encode(
        RW=1, US=1, XD=1, dirty=1, ept_rights=3, walk_size=1, frame=0x77, ept_type=6, pkey=9
    )
    code = TRANSLATION.encode(US=1, ept_rights=5, frame=0x12345, pat=1, ept_type=6, G=1)
    large = TRANSLATION.encode(RW=1, ept_rights=7, walk_size=1, frame=0x200, pat=2, ept_type=6)
    tlb.put("L2", AddressSpace(1, 0, None), Kind.PAGE_2M, 0xFFFF_8000_0020_0000, large)
    tlb.put("PDE cache", USER, Kind.PDE, 0x60_0000, TRANSLATION.encode(frame=0x9))
    tlb.put("nested TLB", AddressSpace(None, None, 0x5000), Kind.PAGE_4K, 0x9000, 0)
    tlb.put("L1I 4K", USER.shared, Kind.PAGE_4K, 0x40_1000, code)
    tlb.put("L1D 4K", USER, Kind.PAGE_4K, 0x7FFF_0000_3000, data)
    return tlb


ROWS = [
    ("L1I 4K", 1, 1, 0, "combined", "page", 0x40_1000, 4096, 0x1234_5000, 1, -1, 0x5000, True,
     False, True, False, True, False, True, True, False, "WT", 0, 4096, 1),
    ("L1D 4K", 1, 3, 0, "combined", "page", 0x7FFF_0000_3000, 4096, 0x7_7000, 1, 3, 0x5000, False,
     True, True, True, True, True, False, False, True, "WB", 9, 2 << 20, 0),
    ("L2", 2, 1, 0, "linear", "page", 0xFFFF_8000_0020_0000, 2 << 20, 0x20_0000, 1, 0, -1, False,
     True, False, False, True, True, True, True, False, "UC-", 0, 2 << 20, 4),
    ("PDE cache", 0, 3, 0, "combined", "PDE", 0x60_0000, 2 << 20, 0x9000, 1, 3, 0x5000, False,
     *(False,) * 8, "", -1, 0, 3),
    ("nested TLB", 0, 0, 0, "guest-physical", "page", 0x9000, 4096, -1, -1, -1, 0x5000, False,
     *(False,) * 8, "", -1, 0, 2),
]  # fmt: skip


def test_every_field_of_every_entry() -> None:
    table = filled().table()
    assert table.array.dtype.names == FIELDS
    assert table.array.tolist() == ROWS
    assert len(table) == 5


def test_the_table_is_what_valid_yields() -> None:
    tlb = Tlb(profile_by_name("zen4"))
    rng = np.random.default_rng(0)
    for space in (USER, AddressSpace(2, 0, None)):
        tlb.enter(space)
        for page in rng.integers(0, 1 << 12, 3000).tolist():
            size = page & 1  # pages of 2 MiB lie apart from those of 4 KiB
            gva = size << 40 | page << (21 if size else 12)
            where = tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), page >> 1 & 1
            if lookup(*where) < 0:
                fill(*where, np.uint64(size), False, np.uint64(gva), False)
    array = tlb.table().array
    assert len(array) > 1500
    assert [
        (entry.structure, entry.set_number, entry.address, entry.size, entry.hpa, entry.space.vpid)
        for entry in tlb.valid()
    ] == array[["structure", "set", "address", "size", "hpa", "vpid"]].tolist()
    for name, use in tlb.set_use().items():
        held = array[array["structure"] == name]
        assert np.array_equal(use.used, np.bincount(held["set"], minlength=use.used.size)), name
        assert (use.fills >= use.used).all() and use.used.max() <= use.ways
    assert set(array["size"].tolist()) == {4096, 2 << 20}
    before = tlb.set_use()["L1D"].fills.sum()
    tlb.invalidate(Operation.INVVPID_ALL)
    assert not len(tlb.table()) and tlb.set_use()["L1D"].fills.sum() == before


def test_filters() -> None:
    table = filled().table()

    def found(**tags: object) -> list[str]:
        return table.where(**tags).array["structure"].tolist()  # type: ignore[arg-type]

    assert found(vpid=1, pcid=3) == ["L1D 4K", "PDE cache"]
    assert found(ep4ta=0x5000, size=4096) == ["L1I 4K", "L1D 4K", "nested TLB"]
    assert found(structure="L2") == found(mapping_class="linear") == ["L2"]
    assert found(global_=True) == ["L1I 4K"]
    assert found(global_=False, vpid=-1) == ["nested TLB"]
    assert table.sorted("age").first(2).array["structure"].tolist() == ["L1D 4K", "L1I 4K"]
    with pytest.raises(MisuseError) as refused:
        Tlb(profile_by_name("ideal")).table().where(structure="L3")
    assert str(refused.value) == "No TLB or walk cache is called 'L3': there is TLB"
    with pytest.raises(MisuseError) as refused:
        table.where(mapping_class="nested")
    assert str(refused.value) == (
        "There is no class of mappings 'nested': give linear, guest-physical, combined"
    )


def test_records_have_none_for_what_an_entry_does_not_have() -> None:
    code, _, large, directory, nested = filled().table().to_records()
    assert code == dict(zip(FIELDS, ROWS[0], strict=True)) | {"pcid": None}
    assert large["ep4ta"] is None
    absent = (*FIELDS[13:21], "memory_type", "pkey", "walk_size")
    assert directory == dict(zip(FIELDS, ROWS[3], strict=True)) | dict.fromkeys(absent)
    assert {name for name, value in nested.items() if value is None} == {"hpa", "vpid", "pcid", *absent}


def test_data_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    table = filled().table()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MisuseError) as refused:
        table.to_pandas()
    assert str(refused.value) == (
        "A table as a data frame needs pandas, which is not installed: "
        "pip install pandas, or use .array or .to_records()"
    )
    monkeypatch.undo()
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert tuple(frame.columns) == FIELDS and list(frame["age"]) == [1, 0, 4, 3, 2]


def test_memory_types_follow_the_pat_and_cr0_cd() -> None:
    tlb = filled()
    tlb.put("L2", USER, Kind.PAGE_4K, 0x5000, TRANSLATION.encode(pat=1, IPAT=1, ept_type=5))
    tlb.put("L2", USER, Kind.PAGE_4K, 0x6000, TRANSLATION.encode(ept_type=2))
    tlb.context = new_context(SKYLAKE_X, 1 << 20)
    types = tlb.table().where(structure="L2").array["memory_type"]
    assert types.tolist() == ["UC-", "WP", "?"]
    tlb.context[Context.PAT] = 0x0102  # of the first two: WP is no choice, WC
    assert tlb.table().array["memory_type"].tolist()[:2] == ["WC", "UC"]
    tlb.context[Context.CD] = 1
    assert set(tlb.table().array["memory_type"].tolist()) == {"UC", ""}


def test_a_table_without_bound_has_no_sets() -> None:
    tlb = Tlb(profile_by_name("ideal"))
    tlb.put("TLB", USER, Kind.PAGE_4K, 0x1000, 0)
    assert tlb.table().array[["set", "way"]].tolist() == [(-1, -1)]
    assert not tlb.set_use()
    assert not len(Tlb(profile_by_name("none")).table())
