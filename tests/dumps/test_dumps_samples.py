"""Each sample has its answer beside it; ``python tests/dumps/answers.py --update`` writes them again."""

from collections import Counter
from pathlib import Path

import pytest
from answers import SAMPLES, answer_of, golden

from quire.documents import read_log
from quire.dumps import read_dumps
from quire.dumps.formats import FORMATS
from quire.dumps.lines import split_lines


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_answer(sample: Path) -> None:
    assert answer_of(sample) == golden(sample).read_text()


def test_every_format_has_several_samples() -> None:
    found = Counter(
        form
        for sample in SAMPLES
        for form in {type(dump) for dump in read_dumps(read_log(str(sample), "")).dumps}
    )
    assert len(SAMPLES) >= 40
    assert {form.title: found[form] >= 3 for form in FORMATS} == {form.title: True for form in FORMATS}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_each_line_is_used_once_or_listed(sample: Path) -> None:
    text = read_log(str(sample), "")
    reading = read_dumps(text)
    used = [number for dump in reading.dumps for number in dump.lines] + [
        line.number for line in reading.unread
    ]
    assert sorted(used) == [line.number for line in split_lines(text)]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_reading_the_used_lines_again_finds_the_same(sample: Path) -> None:
    text = read_log(str(sample), "")
    lines = text.split("\n")
    first = read_dumps(text)
    kept = sorted(number for dump in first.dumps for number in dump.lines)
    again = read_dumps("\n".join(lines[number - 1] for number in kept))
    assert [(type(one), one.facts()) for one in again.dumps] == [
        (type(one), one.facts()) for one in first.dumps
    ]
    assert again.unread == []
