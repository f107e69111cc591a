"""Points in a run and the part of it that counts: exact to the instruction, in every form, alone and in pairs."""

import threading
from typing import Any

import pytest
from small_elf import BASE, small_elf

from quire.cpu import Detail
from quire.errors import MisuseError
from quire.guest.load.launch import LaunchError, Program, prepare
from quire.guest.point import AfterInstructions, AfterSyscalls, AfterTime, AtAddress, parse_point
from quire.guest.run_spec import RunSpec
from quire.guest.session import Session, open_session

#: Five calls of getpid in a loop of six instructions, 100 bytes by REP STOSB, and the end.
CODE = bytes.fromhex(
    "b905000000"  # mov ecx, 5
    "51 b827000000 0f05 59 ffc9 75f3"  # push rcx; mov eax, 39; syscall; pop rcx; dec ecx; jnz
    "488dbc2400ffffff b964000000 31c0 f3aa"  # lea rdi, [rsp - 256]; mov ecx, 100; xor eax, eax; rep stosb
    "b83c000000 31ff 0f05"  # mov eax, 60; xor edi, edi; syscall
)
ENTRY = BASE + 120
AFTER_LOOP = ENTRY + 5 + 13


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_elf(tmp_path_factory.mktemp("points"), CODE))


def session(path: str, start: str | None, end: str | None, detail: Detail = Detail.FULL) -> Session:
    made = open_session(RunSpec((path,), detail=detail, start=start, end=end), {})
    made.run()
    return made


def record(path: str, start: str | None, end: str | None) -> dict[str, Any]:
    return session(path, start, end).record


@pytest.fixture(scope="module")
def total(path: str) -> int:
    whole = record(path, None, None)
    assert whole["region"] is None
    return int(whole["instructions"])


def test_every_instruction_can_be_the_last(path: str, total: int) -> None:
    """The counter of points and that of blocks agree: in the loop, within REP STOSB, across system calls."""
    assert total > 100
    for count in (0, 1, 2, *range(3, total, 11), total - 1):
        found = record(path, None, f"{count}i")
        assert (found["instructions"], found["region"]["ended"]) == (count, True)


def test_a_region_is_what_lies_between(path: str, total: int) -> None:
    """What is before, in and after a region adds up to the whole run, whatever names its bounds."""
    whole = record(path, None, None)
    for start, end in (
        ("7i", "90i"),
        ("50i", "136i"),
        ("2sys", "4sys"),
        (f"{AFTER_LOOP:#x}", "60i"),
        ("3sys", f"{AFTER_LOOP:#x}"),
    ):
        parts = [record(path, *bounds) for bounds in ((None, start), (start, end), (end, None))]
        for key in ("instructions", "page_faults"):
            assert sum(part[key] for part in parts) == whole[key], (start, end, key)
        for key in ("count", "faulted"):
            assert sum(part["walks"][key] for part in parts) == whole["walks"][key]
        for key in ("read", "write", "fetch"):
            assert sum(part["accesses"][key] for part in parts) == whole["accesses"][key]
        calls = [part["syscalls"].get("getpid", 0) for part in parts]
        assert sum(calls) == whole["syscalls"]["getpid"] == 5
        assert sum(sum(part["exits"].values()) for part in parts) == sum(whole["exits"].values())


def test_what_a_record_says_of_its_region(path: str) -> None:
    found = record(path, "2sys", "4sys")
    assert found["region"] == {
        "from": "after 2 system calls",
        "to": "after 4 system calls",
        "started": True,
        "ended": True,
        "resident_before": found["region"]["resident_before"],
    }
    assert found["syscalls"] == {"getpid": 2} and found["outcome"]["status"] == 0
    assert found["tlb"]["l1d"].keys() == {"hits", "misses"}
    assert record(path, "2sys", "2sys")["instructions"] == 0


def test_a_point_that_does_not_come(path: str, total: int) -> None:
    ended = session(path, None, "99sys")
    assert (ended.record["region"]["ended"], ended.record["instructions"]) == (False, total)
    never = session(path, "99sys", None).record["region"]
    assert (never["started"], never["ended"]) == (False, False)


def test_a_time_that_has_passed(path: str) -> None:
    """Of a run so short the first call comes after a microsecond, and a second later never."""
    assert session(path, None, "0.001us").record["region"]["ended"]
    threads = threading.active_count()
    assert not session(path, None, "3600s").record["region"]["ended"]
    assert threading.active_count() == threads, "nobody waits for the hour to pass"


def test_points_in_exits_detail(path: str) -> None:
    found = session(path, "1i", "31i", Detail.EXITS)
    assert found.record["instructions"] == 30 and found.record["syscalls"] == {"getpid": 5}


@pytest.fixture(scope="module")
def program(path: str) -> Program:
    return prepare([path], None, "/")


def test_forms(program: Program) -> None:
    assert parse_point("0x40_1000", program) == AtAddress("before 0x40_1000", 0x40_1000, False)
    assert parse_point("1_000sys", program) == AfterSyscalls("after 1000 system calls", 1000)
    assert parse_point("007i", program) == AfterInstructions("after 7 instructions", 7)
    timed = [parse_point(text, program) for text in ("1.5s", "20ms", "3us")]
    assert [one.seconds for one in timed if isinstance(one, AfterTime)] == [1.5, 0.02, 3e-6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "99999999999999999999i",
            "'99999999999999999999i' is beyond any run: give at most 4611686018427387904i",
        ),
        ("12z", "'12z' is not a number: give 0x1f, 0b11111 or 31"),
        (
            "main",
            "has no symbol 'main': it has none at all; give one that it has, an address, 100sys, 5000i or 2ms",
        ),
    ],
)
def test_what_is_no_point(text: str, message: str, program: Program, path: str) -> None:
    with pytest.raises(MisuseError) as caught:
        parse_point(text, program)
    assert str(caught.value).endswith(message)
    with pytest.raises(LaunchError) as refused:
        open_session(RunSpec((path,), start=text), {})
    assert (refused.value.status, str(refused.value)) == (125, str(caught.value))
