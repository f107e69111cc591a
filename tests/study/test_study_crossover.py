"""The crossover: what its guest does, where two lines cross, the closed formula, and a sweep that was run."""

import dataclasses
from pathlib import Path

import capstone
import pytest
from sampling import WHOLE
from study_fakes import round_costs

from quire.errors import MisuseError
from quire.machine import MMUS
from quire.study import predict_counts
from quire.study.crossover import crossing, crossover_record, formula_crossing
from quire.study.update_guest import PAGES, READS, UpdateGuest, image


def test_the_code_is_what_its_listing_says() -> None:
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    code = [f"{one.mnemonic} {one.op_str}".strip() for one in engine.disasm(image(20, 5)[:0xAA], 0)]
    assert code[0] == "mov qword ptr [0x3008], 0x11003"
    assert code[5] == f"mov ecx, {PAGES:#x}"
    assert code[6:14] == [
        *("imul eax, eax, 0x4cd", "add eax, 0x167", "and eax, 0x7ff", "mov edx, eax"),
        *("shl rdx, 0xc", "mov rdx, qword ptr [r9 + rdx]", "dec ecx", "jne 0x21"),
    ]
    assert code[14:17] == ["mov esi, 0x14", "test esi, esi", "je 0xa5"]
    assert code[17:19] == [f"mov ecx, {READS:#x}", "imul eax, eax, 0x4cd"]
    assert code[26:28] == ["mov ecx, 5", "jrcxz 0xa1"]
    at = code.index("lea r8, [r10 + rdx*8]")
    assert code[at + 1 : at + 6] == [
        "mov rdi, qword ptr [r8]",
        "and qword ptr [r8], 0",
        "shl rdx, 0xc",
        "invlpg byte ptr [r9 + rdx]",
        "mov qword ptr [r8], rdi",
    ]
    assert code[-4:] == ["jne 0x48", "xor eax, eax", "out 0xf4, al", "hlt"]


def test_every_page_comes_once_in_a_period() -> None:
    page, seen = 0, set()
    for _ in range(PAGES):
        page = (page * 1229 + 359) % PAGES
        seen.add(page)
    assert len(seen) == PAGES


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([(0, 10.0), (10, 30.0)], [(0, 20.0), (10, 20.0)], 5.0),
        ([(0, 1.0), (4, 2.0), (8, 10.0)], [(0, 4.0), (4, 4.0), (8, 4.0)], 5.0),
        ([(0, 4.0), (1, 9.0)], [(0, 4.0), (1, 4.0)], 0.0),
        ([(0, 5.0), (1, 9.0)], [(0, 4.0), (1, 4.0)], None),
    ],
)
def test_where_two_lines_cross(
    ours: list[tuple[int, float]], theirs: list[tuple[int, float]], expected: float | None
) -> None:
    assert crossing(ours, theirs) == expected


@pytest.mark.parametrize("mmu", MMUS)
def test_what_the_guest_is_counted_for(mmu: str) -> None:
    """Each read misses the TLB; the updates are counted without the warm-up, and under native and ept do not exit."""
    guest = UpdateGuest(mmu, 2)
    none, some = guest.count(0), guest.count(5)
    assert (none.instructions, none.walks) == (2 * (8 * READS + 5), 2 * READS)
    assert some.instructions - none.instructions == 2 * 5 * 11  # INVLPG is Quire's to perform and not counted
    assert 2 * READS <= none.guest_references < 1.1 * 2 * READS
    whole = none.whole()
    assert whole.guest_references == 4 * 2 * READS
    assert whole.host_references == (20 * 2 * READS if mmu == "ept" else 0)
    assert none.host_references <= whole.host_references / 2
    if mmu in ("native", "ept"):
        assert sum(some.exits.values()) == 0
    else:
        assert sum(some.exits.values()) >= 2 * 5
    assert guest.count(5) == some


def test_the_closed_formula(tmp_path: Path) -> None:
    costs = round_costs(tmp_path)
    runs = {mmu: UpdateGuest(mmu, 20).count(0) for mmu in ("native", "ept")}
    first = {mmu: (counts, predict_counts(counts, costs)) for mmu, counts in runs.items()}
    found = formula_crossing(first, costs)
    assert found is not None
    assert (found["misses"], found["c_exit"], found["c_sync"]) == (1000, 4000, 600)
    assert found["updates"] == pytest.approx(1000 * (found["c_2d"] - found["c_1d"]) / 4600, abs=1e-3)
    slower = {**first, "ept": (dataclasses.replace(runs["ept"], tlb_misses=40000), first["ept"][1])}
    twice = formula_crossing(slower, costs)
    assert twice is not None and twice["updates"] == pytest.approx(2 * found["updates"], abs=1e-3)
    assert formula_crossing({"native": first["native"]}, costs) is None


@pytest.mark.skipif(not WHOLE, reason="a sample has the sweep of the command, tests/cli/test_cli_validate.py")
def test_a_sweep(tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []
    record = crossover_record(
        round_costs(tmp_path), updates=(0, 40), done=lambda mmu, count: heard.append((mmu, count))
    )
    assert heard == [(mmu, count) for mmu in MMUS for count in (0, 40)]
    none, some = record["rows"]
    assert (none["updates"], some["updates"]) == (0, 40)
    for row in record["rows"]:
        assert row["cycles_per_read"]["ept"] > row["cycles_per_read"]["native"]
    assert some["cycles_per_read"]["native"] > none["cycles_per_read"]["native"]
    if "shadow" in MMUS:
        assert some["cycles_per_read"]["shadow"] > none["cycles_per_read"]["shadow"]
    else:
        assert record["crossing"]["measured"] is None
        assert "shadow is not among the Mmus" in record["crossing"]["sentence"]


@pytest.mark.parametrize("updates", [(), (1,), (5, 5), (7, 3)])
def test_sweeps_without_a_line(updates: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="give two or more, ascending"):
        crossover_record(round_costs(tmp_path), updates=updates)


@pytest.mark.parametrize("updates", [(-1, 5), (0, 1001)])
def test_sweeps_out_of_bounds(updates: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="give 0 to 1000"):
        crossover_record(round_costs(tmp_path), updates=updates)
