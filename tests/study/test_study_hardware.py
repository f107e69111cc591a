"""The check against this machine: its arithmetic on recorded numbers, the programs, the processors, the counters.

No test measures time: what a processor takes is recorded below, from a run of seven on a Xeon of family 6 model 0xcf.
"""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from limits import PATIENCE
from native import need
from study_fakes import record, round_costs

from quire.arch import SKYLAKE_X, profile_by_name
from quire.errors import MisuseError
from quire.study import Counts
from quire.study.hardware import (
    PROGRAMS,
    SOURCE,
    Timing,
    compile_programs,
    parse_programs,
)
from quire.study.hardware.counters import count_run
from quire.study.hardware.prediction import Predicted, extra_cycles, predict_programs, steady
from quire.study.hardware.processor import parse_processor
from quire.study.hardware.verdict import TOLERANCE, compared
from quire.study.spared import Spared

#: Of each program nanoseconds an access with 4 KiB and with 2 MiB pages, 64 MiB of memory.
RECORDED = {
    "gups": Timing(10.75, 9.06, 0.0, 1.0),
    "chase": Timing(36.86, 19.70, 0.0, 1.0),
    "btree": Timing(142.91, 129.81, 0.0, 1.0),
    "bfs": Timing(13.51, 12.01, 0.0, 0.84),
    "join": Timing(20.78, 14.18, 0.0, 1.0),
}
CYCLE_NS = 0.352
CPUINFO = """processor\t: 0
vendor_id\t: {vendor}
cpu family\t: {family}
model\t\t: {model}
model name\t: Some Processor
flags\t\t: fpu vme {flags}lm

processor\t: 1
vendor_id\t: other
"""


def errors(times: float) -> list[float]:
    """Return the errors of who predicts `times` what 4 KiB pages really cost more."""
    found = []
    for program in PROGRAMS:
        timing = RECORDED[program.name]
        predicted = Predicted(None, times * timing.extra_ns / CYCLE_NS, 1.0, 2.0)
        row = compared(program, timing, [predicted], CYCLE_NS)
        (one,) = row["predicted"]
        assert one["within"] == (abs(one["error"]) <= TOLERANCE)
        assert one["extra_ns"] == round(times * timing.extra_ns, 3)
        assert one["ratio"] == pytest.approx(1 + times * (row["measured"]["ratio"] - 1), abs=1e-3)
        found.append(one["error"])
    return found


def test_who_always_says_that_both_take_the_same_is_wrong_about_every_program() -> None:
    """The ratios are 1.10 to 1.87, so that 1.0 is near to most; of the nanoseconds it misses all."""
    assert errors(0.0) == [-1.0] * len(PROGRAMS)
    assert errors(1.0) == [0.0] * len(PROGRAMS)
    assert errors(1.25) == [0.25] * len(PROGRAMS)
    assert errors(0.5) == [-0.5] * len(PROGRAMS)


@pytest.mark.parametrize(
    "timing",
    [
        Timing(20.0, 10.0, 0.0, 0.5),  # no 2 MiB pages were given
        Timing(20.0, 10.0, 0.9, 1.0),  # 2 MiB pages were not to be
        Timing(10.0, 10.5, 0.0, 1.0),  # 4 KiB pages cost nothing that can be measured
    ],
)
def test_what_cannot_be_compared_is_within_nothing(timing: Timing) -> None:
    row = compared(PROGRAMS[0], timing, [Predicted("4K", 30.0, 1.0, 2.0)], CYCLE_NS)
    (one,) = row["predicted"]
    assert (one["error"], one["within"]) == (None, False)


def test_walks_of_independent_accesses_overlap_as_far_as_there_are_walkers(tmp_path: Path) -> None:
    small, large = Counts.of(record()), Counts.of(record(tlb={"l2": {"hits": 0, "misses": 0}}))
    large = replace(large, walks=0, guest_references=0)
    costs, profile = round_costs(tmp_path), replace(SKYLAKE_X, walkers=2)
    # 13 look-ups of the second-level TLB cost 10 cycles each, 40 references 1 each: for 10 accesses.
    by_name = {program.name: extra_cycles(program, small, large, 10, profile, costs) for program in PROGRAMS}
    assert by_name == {"gups": 8.5, "chase": 17.0, "btree": 17.0, "bfs": 8.5, "join": 8.5}


def test_the_steady_part_is_the_difference_of_two_runs() -> None:
    hits = {"linear PDE": 3, "guest-physical page": 5}
    short = Counts.of(record("ept", walk_caches=hits))
    more = {"linear PDE": 10, "guest-physical page": 9}
    made = record("ept", walk_caches=more, instructions=700, exits={"CPUID": 1, "EPT_VIOLATION": 9})
    made["walks"] = {"count": 25, "faulted": 0, "references": {"guest": 60, "host": 300}}
    found = steady(Counts.of(made), short)
    assert (found.instructions, found.walks, found.guest_references, found.host_references) == (
        200,
        15,
        20,
        100,
    )
    assert found.spared == Spared(reached=7, entries=21, nested=4)
    assert found.exits == {"CPUID": 0, "EPT_VIOLATION": 5}
    assert (found.mmu, found.first, found.page_faults) == ("ept", short.first, 0)


@pytest.mark.parametrize(
    ("vendor", "family", "model", "name"),
    [
        ("GenuineIntel", 6, 0x55, "skylake-x"),
        ("GenuineIntel", 6, 0x6A, "icelake-sp"),
        ("GenuineIntel", 6, 0x8F, "sapphire-rapids"),
        ("GenuineIntel", 6, 0xCF, "sapphire-rapids"),
        ("AuthenticAMD", 0x17, 0x31, "zen2"),
        ("AuthenticAMD", 0x19, 0x01, "zen3"),
        ("AuthenticAMD", 0x19, 0x11, "zen4"),
    ],
)
def test_the_profile_nearest_to_a_processor(vendor: str, family: int, model: int, name: str) -> None:
    text = CPUINFO.format(vendor=vendor, family=family, model=model, flags="hypervisor ")
    found = parse_processor(text)
    assert (found.nearest, found.virtual) == (name, True)
    assert profile_by_name(found.nearest).name == name
    assert not parse_processor(text.replace("hypervisor ", "")).virtual


def test_processors_that_no_profile_is_near_to() -> None:
    with pytest.raises(MisuseError) as failure:
        _ = parse_processor(CPUINFO.format(vendor="GenuineIntel", family=6, model=0x3C, flags="")).nearest
    assert str(failure.value) == (
        "No profile is near to this processor, GenuineIntel family 0x6 model 0x3c: give --profile, and see quire "
        "profiles"
    )
    with pytest.raises(MisuseError, match="/proc/cpuinfo names no x86 processor: give --profile"):
        parse_processor("processor : 0\nCPU implementer : 0x41\n")


def test_programs_by_name() -> None:
    assert [one.name for one in parse_programs("join, gups")] == ["gups", "join"]
    with pytest.raises(
        MisuseError, match=r"No program is called 'chas' \(did you mean 'chase'\?\): there is gups"
    ):
        parse_programs("gups,chas")


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MisuseError) as failure:
        compile_programs(tmp_path)
    assert str(failure.value) == (
        "There is no C compiler here, and the programs are C: install one of cc, gcc, clang"
    )


def test_each_program_reads_the_same_whatever_its_pages_are(tmp_path: Path) -> None:
    need("cc")
    made = compile_programs(tmp_path)
    sums = {}
    for program in PROGRAMS:
        for pages in ("SMALL", "LARGE"):
            command = [made, program.name, str(4 << 20), "5000", pages]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
            took, count, _, found, _ = map(int, done.stdout.split())
            assert took >= 0 and count == 5000
            sums[program.name, pages] = found
    for program in PROGRAMS:
        assert sums[program.name, "SMALL"] == sums[program.name, "LARGE"], program.name
    assert len(set(sums.values())) == len(PROGRAMS)
    wrong = subprocess.run(
        [made, "none", "4096", "1", "SMALL"], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (wrong.returncode, wrong.stderr) == (2, "no such kind\n")


@pytest.mark.programs
def test_a_pointer_chase_as_a_guest(tmp_path: Path) -> None:
    """On bare metal: each access misses a TLB of 1536 entries with 2048 small pages, and none with four large ones."""
    need("cc")
    made = compile_programs(tmp_path)
    costs, heard = round_costs(tmp_path), []
    found = predict_programs(
        made, parse_programs("chase"), 8 << 20, 4096, SKYLAKE_X, costs, [None], 1, heard.append
    )
    (one,) = found["chase"]
    assert heard == ["chase as a guest"]
    assert one.host_page is None
    assert one.walks == pytest.approx(1.0, abs=0.05)  # a cycle through all pages, LRU: nothing is found again
    assert one.references == pytest.approx(1.0, abs=0.1)
    assert one.extra_cycles > 10


def test_events_of_a_program_that_is_started(tmp_path: Path) -> None:
    """Page faults are counted by software, so a kernel that lets us count anything counts them; and nobody else's."""
    few = count_run([need("true")], 1, 2)
    if few is None:
        pytest.skip("this kernel lets us count nothing")
    data = tmp_path / "data"
    data.write_bytes(bytes(8 << 20))
    many = count_run([need("sort"), os.fspath(data)], 1, 2)
    assert many is not None and 0 < few < many
    assert count_run([need("true")], 99, 0) is None  # there is no such kind of event


def test_the_source_is_a_part_of_the_package() -> None:
    assert SOURCE.name == "guests.c" and SOURCE.is_file()
