"""The bound of whole walks: equal to runs without walk caches, and the verdict that it would turn round."""

import subprocess
from dataclasses import replace

import pytest
from limits import PATIENCE
from native import need

from quire.arch import profile_by_name
from quire.study import Counts, compare, configurations, parse_pages, run_all
from quire.study.compare import compare_spec
from quire.study.hardware import SOURCE
from quire.tlb import TlbOptions

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The programs of `quire validate hardware`."""
    made = tmp_path_factory.mktemp("guests") / "guests"
    subprocess.run([need("cc"), "-O2", "-w", "-static", SOURCE, "-o", made], check=True, timeout=PATIENCE)
    return str(made)


def test_what_is_counted_with_walk_caches_says_what_whole_walks_read(program: str) -> None:
    """Run with and without: the bound is exact, for small pages over large ones."""
    command = [program, "chase", str(8 << 20), "3000", "SMALL"]
    spec = compare_spec(command, 64 << 20, 0, False, profile_by_name("skylake-x"))
    whole = replace(spec, config=replace(spec.config, tlb=TlbOptions(walk_caches=False)))
    asked = configurations(["ept"], parse_pages("4K/2M"))
    for cached, bare in zip(run_all(spec, asked), run_all(whole, asked), strict=True):
        counts, expected = Counts.of(cached.record), Counts.of(bare.record)
        assert counts.walks > 50
        assert counts.guest_references < expected.guest_references, cached.configuration.name
        found = counts.whole()
        assert (found.walks, found.guest_references, found.host_references) == (
            expected.walks,
            expected.guest_references,
            expected.host_references,
        ), cached.configuration.name


def test_random_updates_are_for_nested_paging_and_whole_walks_would_say_shadow(program: str) -> None:
    """GUPS over 16 MiB, more than the 1536 entries of the TLB cover: it pays for walks, shadow for first touches."""
    command = [program, "gups", str(16 << 20), "600000", "SMALL"]
    record = compare(command, mmus="ept,shadow", memory=64 << 20)
    (verdict,) = record["verdicts"]
    assert (verdict["winner"], verdict["bound_winner"]) == ("ept 4K/4K", "shadow 4K/4K")
    assert " Without walk caches, with every walk whole, it would be shadow 4K/4K: " in verdict["sentence"]
    assert verdict["sentence"].endswith(" of ept 4K/4K.")
    nested, shadow = record["rows"]
    assert nested["walks"]["count"] == shadow["walks"]["count"] > 300_000
    assert nested["walks"]["references_per_walk"] < 3
    assert nested["bound"]["references_per_walk"] == 24
