"""Cost profiles: what comes with Quire names its sources, and a wrong file says which key is wrong and why."""

import dataclasses
import re
from pathlib import Path

import pytest
from study_fakes import PROFILE

from quire.arch import profile_by_name, profile_names
from quire.errors import FormatError, MisuseError
from quire.study import costs_for, known_costs, load_costs


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


def test_every_processor_has_costs_of_its_own() -> None:
    named = [profile for name in known_costs() for profile in load_costs(name).profiles]
    assert sorted(named) == sorted(profile_names())  # each once
    assert {costs_for(profile_by_name(name)).name for name in profile_names()} == set(known_costs())
    zen4 = costs_for(profile_by_name("genoa"))
    assert zen4.name == "zen4"
    assert {zen4.caches[1].latency.value, zen4.caches[2].latency.value} == {14, 50}


def test_costs_of_another_processor_are_refused_by_name(tmp_path: Path) -> None:
    zen4 = profile_by_name("zen4")
    with pytest.raises(MisuseError) as failure:
        costs_for(zen4, "zen3")
    assert str(failure.value) == (
        "Costs zen3 are for zen3, not for profile zen4: leave --costs out for zen4's own, or give --profile zen3"
    )
    mine = tmp_path / "mine.toml"
    mine.write_text(PROFILE)  # says of no processor that it is for it
    assert costs_for(zen4, str(mine)).profiles == ()
    mine.write_text(PROFILE.replace("[events]", 'profiles = ["zen3", "mine"]\n[events]', 1))
    with pytest.raises(MisuseError, match="Costs round are for zen3, mine, not for profile zen4"):
        costs_for(zen4, str(mine))
    own = dataclasses.replace(zen4, name="mine")
    assert costs_for(own, str(mine)).name == "round"
    assert costs_for(own, "zen4").name == "zen4"  # who brings a processor chooses its costs
    with pytest.raises(MisuseError) as failure:
        costs_for(own)
    assert str(failure.value) == (
        f"Profile mine has no costs of its own: give --costs with one of {', '.join(known_costs())}, or a file that "
        "ends in .toml"
    )


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
        (
            'name = "round"',
            'name = "round"\nprofiles = "zen4"',
            "profiles is 'zen4': give a list of CPU profiles by name, or leave it out for any",
        ),
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
    with pytest.raises(MisuseError, match=r"'skylake' \(did you mean 'skylake-x'\?\): there is icelake-sp, "):
        load_costs("skylake")
    with pytest.raises(MisuseError, match="cannot be read: No such file"):
        load_costs(str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(FormatError, match="not UTF-8"):
        load_costs(str(tmp_path / "bytes.toml"))
