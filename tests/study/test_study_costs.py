"""Cost profiles: what comes with Quire names its sources, and a wrong file says which key is wrong and why."""

import re
from pathlib import Path

import pytest
from study_fakes import PROFILE

from quire.errors import FormatError, MisuseError
from quire.study import known_costs, load_costs


@pytest.mark.parametrize("name", known_costs())
def test_every_figure_has_a_source_or_is_called_an_assumption(name: str) -> None:
    costs = load_costs(name)
    assert costs.name == name
    assert len(costs.figures) > 20
    for path, figure in costs.figures.items():
        assert figure.is_assumption or re.search(r"\d{4}|Manual|[Ee]vent list", figure.source), path
    assert [cache.name for cache in costs.caches] == ["l1", "l2", "l3"]
    latencies = [*(cache.latency.value for cache in costs.caches), costs.local.value, costs.remote.value]
    assert latencies == sorted(latencies)


def test_a_cause_without_a_figure_takes_the_default(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PROFILE)
    costs = load_costs(str(tmp_path / "mine.toml"))
    assert costs.exit_cost("EPT_VIOLATION") == 5000
    assert costs.exit_cost("HLT") == 2100
    assert costs.memory_latency(0.5) == 2000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "instruction =",
            "instructon =",
            r"events\.instructon is not known \(did you mean 'instruction'\?\)",
        ),
        ('instruction = { value = 1, source = "made up" }\n', "", "events.instruction is missing"),
        ("{ value = 10, source", "{ value = -1, source", r"events\.tlb_l2_hit\.value is -1: give 0 to"),
        ("{ value = 10, source", "{ value = nan, source", r"events\.tlb_l2_hit\.value is nan: give 0 to"),
        ("{ value = 10, source", "{ value = true, source", r"tlb_l2_hit\.value is True, no number"),
        ('{ value = 600, source = "made up" }', '{ value = 600, source = " " }', "source is empty"),
        ('{ value = 600, source = "made up" }', "600", "events.fault_delivery is 600, no table"),
        ("share = { value = 0.5", "share = { value = 1.5", r"cache\.l1\.share\.value is 1\.5: give 0 to 1"),
        ("INVLPG", "INVLPGS", r"INVLPGS is no exit reason \(did you mean 'INVLPG'\?\)"),
        ('default = { value = 100, source = "assumption" }\n', "", r"exits\.work\.default is missing"),
        ('name = "round"', "name = 5", "name is not a string"),
        ("[memory]", "[memory", "is not TOML"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in PROFILE
    (tmp_path / "mine.toml").write_text(PROFILE.replace(old, new, 1))
    with pytest.raises(FormatError, match=said):
        load_costs(str(tmp_path / "mine.toml"))


def test_names_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"'skylake' \(did you mean 'skylake-x'\?\): there is skylake-x"):
        load_costs("skylake")
    with pytest.raises(MisuseError, match="cannot be read: No such file"):
        load_costs(str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(FormatError, match="not UTF-8"):
        load_costs(str(tmp_path / "bytes.toml"))
