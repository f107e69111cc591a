"""Hostile text: cut, interleaved, prefixed, random. It is read in steps that grow with its length, and never breaks."""

import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from answers import AROUND, SAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import some

import quire.dumps
from quire.documents import read_log
from quire.dumps import explain_text, read_dumps
from quire.dumps.lines import LONGEST_LINE, split_lines

TEXTS = [read_log(str(sample), "") for sample in SAMPLES]
PREFIXES = (
    "> ",
    "> > ",
    "[   12.345678] ",
    "[   12.345678][   T22] ",
    "<3>",
    "(XEN) ",
    "(XEN) [2024-05-12 09:41:07.031] ",
    "Mar  7 13:38:04 node7 kernel: ",
    "2024-01-02T03:04:05+0100 node7 kernel[1]: ",
    "[Tue Mar  7 13:38:04 2023] ",
    "kvm_intel: ",
    "(d1) ",
    "| ",
    "kernel: ",
    "00:00:04.809255 HM: ",
    "2024-01-02 03:04:05 node7 kernel: ",
    "2024-01-02 03:04:05.678 | ",
    "2024-01-02T03:04:05.678901234Z stderr F ",
    "2024-01-02T03:04:05.678Z ",
    "\x1b[32m[   12.345678]\x1b[0m \x1b[1;31m",
    "#033[0m",
)
texts = st.sampled_from(TEXTS)


def accepted(text: str) -> None:
    """Whatever it is, it is read: each line is used once or listed, and the answer can be made."""
    record = explain_text(text, AROUND, "x")
    used = [number for one in record["dumps"] for number in one["lines"]]
    used += [one["line"] for one in record["unread"]]
    assert sorted(used) == [line.number for line in split_lines(text)]


@given(texts, st.data())
@settings(max_examples=some(25, 10), deadline=None)
def test_cut(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    accepted(text[start : data.draw(st.integers(start, len(text)))])


@given(texts, texts, st.randoms(use_true_random=False))
@settings(max_examples=some(10, 4), deadline=None)
def test_interleaved(first: str, second: str, random: Any) -> None:
    queues = [first.split("\n"), second.split("\n")]
    mixed = []
    while any(queues):
        mixed.append(random.choice([queue for queue in queues if queue]).pop(0))
    accepted("\n".join(mixed))


@given(texts, st.integers(0, 255), st.integers(0, 1 << 20))
@settings(max_examples=some(15, 6), deadline=None)
def test_a_byte_changed(text: str, byte: int, place: int) -> None:
    at = place % len(text)
    accepted(text[:at] + chr(byte) + text[at + 1 :])


@given(st.text(max_size=400))
@settings(max_examples=some(25, 10), deadline=None)
def test_anything(text: str) -> None:
    accepted(text)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_change_nothing(prefix: str) -> None:
    for text in TEXTS[::7]:
        plain = [line.text for line in split_lines(text) if not line.context]
        if len(plain) != sum(1 for _ in split_lines(text)):
            continue  # a text with contexts keeps them
        bare = read_dumps("\n".join(plain))
        prefixed = read_dumps("\r\n".join(prefix + line for line in plain))
        assert [one.facts() for one in prefixed.dumps] == [one.facts() for one in bare.dumps]


def test_contexts_are_told_apart() -> None:
    chosen = [
        text for sample, text in zip(SAMPLES, TEXTS, strict=True) if sample.stem in ("oops-null", "oops-nx")
    ]
    plain = [[line.text for line in split_lines(text)] for text in chosen]
    mixed = [f"[ T{n}] {line}" for pair in zip(*plain, strict=False) for n, line in enumerate(pair)]
    found = read_dumps("\n".join(mixed)).dumps
    alone = [read_dumps("\n".join(lines[: len(mixed) // 2])).dumps[0] for lines in plain]
    assert [(one.context, one.facts()) for one in found] == [
        (f"T{n}", one.facts()) for n, one in enumerate(alone)
    ]


def patterns() -> Iterator[re.Pattern[str]]:
    """Yield every regular expression of the room."""
    for module in pkgutil.iter_modules(quire.dumps.__path__, "quire.dumps."):
        for value in vars(importlib.import_module(module.name)).values():
            for one in (
                value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
            ):
                if isinstance(one, re.Pattern):
                    yield one


def unbounded(parsed: Any, inside: bool = False) -> Iterator[bool]:
    """Yield, for each repeat without an end, whether it is inside of another."""
    for operation, argument in parsed:
        repeats = operation in (re._parser.MAX_REPEAT, re._parser.MIN_REPEAT)  # type: ignore[attr-defined]
        endless = repeats and argument[1] is re._parser.MAXREPEAT  # type: ignore[attr-defined]
        if endless:
            yield inside
        parts = argument if isinstance(argument, tuple | list) else [argument]
        for part in parts:
            for one in part if isinstance(part, list) else [part]:
                if isinstance(one, re._parser.SubPattern):  # type: ignore[attr-defined]
                    yield from unbounded(one, inside or repeats)


def test_no_expression_can_take_quadratic_time() -> None:
    found = {one.pattern: list(unbounded(re._parser.parse(one.pattern, one.flags))) for one in patterns()}  # type: ignore[attr-defined]
    assert len(found) > 50
    assert {text: ends for text, ends in found.items() if len(ends) > 1 or True in ends} == {}


HOSTILE = (
    "exit reason 5 " * 20,
    "a: " * 60,
    "guest_cr0 = 0x1, " * 15,
    "*** Guest State ***",
    "CR0: actual=0x",
    "PGD " * 50,
    "spte 0x1 level 1",
    "BUG: unable to handle",
    "[    1.0]" * 30,
    "> " * 100,
    "\x1b[31m" * 40,
    "0" * 250,
)


def steps(text: str) -> int:
    """Return how many calls it takes to read `text`, those of C included."""
    count = 0

    def watch(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        read_dumps(text)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("line", HOSTILE)
def test_steps_grow_with_length(line: str) -> None:
    short, long = steps(f"{line}\n" * 100), steps(f"{line}\n" * 400)
    assert long <= 4 * short + 1000


def test_a_megabyte_of_hostile_lines() -> None:
    block = "\n".join(HOSTILE)
    text = f"{block}\n" * ((1 << 20) // len(block))
    assert steps(text) < 4 * len(text)


def test_a_line_without_end_is_not_looked_at() -> None:
    reading = read_dumps("guest_rflags = 0x2\n" + "x" * (LONGEST_LINE + 1))
    assert (len(reading.dumps), [line.number for line in reading.unread]) == (1, [2])
