"""Suites of any kind of case: each outcome is told apart, none taints another, results keep their order."""

import faulthandler
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from limits import PATIENCE
from sampling import some

from quire.errors import FormatError, MisuseError
from quire.testing import Outcome, Setting, Suite, Tally, choose, known_suites, load_file, run_suites


def mixed() -> Suite:
    suite = Suite(
        "mixed", oracle="nobody", title="one case of each outcome", setup=lambda setting: [setting.seed]
    )

    @suite.case("agrees")
    def agrees(state: list[int], tally: Tally) -> None:
        state.append(99)
        tally.compare("the seed", state[0], 7)

    @suite.case("differs")
    def differs(state: list[int], tally: Tally) -> None:
        tally.compare("length", len(state), 2)
        tally.compare("length", len(state), 1)

    @suite.case("raises")
    def raises(state: list[int], tally: Tally) -> None:
        tally.check("first", True)
        raise ValueError("the case is broken")

    @suite.case("crashes")
    def crashes(state: list[int], tally: Tally) -> None:
        faulthandler.disable()  # its traceback and a core file would take longer than the case may
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGSEGV)

    @suite.case("leaves")
    def leaves(state: list[int], tally: Tally) -> None:
        os._exit(3)

    @suite.case("is explained")
    def is_explained(state: list[int], tally: Tally) -> None:
        tally.compare("a known fault", 1, 2, deviation="D1 the oracle rounds")

    @suite.case("comes after all that")
    def comes_after(state: list[int], tally: Tally) -> None:
        tally.compare("state is fresh", state, [7])

    return suite


@pytest.mark.parametrize("jobs", some([1, 3], [3]))
def test_every_outcome(jobs: int) -> None:
    results = {one.case: one for one in run_suites([mixed()], Setting(seed=7), jobs=jobs, timeout=PATIENCE)}
    assert {name: one.outcome for name, one in results.items()} == {
        "agrees": Outcome.PASSED,
        "differs": Outcome.FAILED,
        "raises": Outcome.ERROR,
        "crashes": Outcome.ERROR,
        "leaves": Outcome.ERROR,
        "is explained": Outcome.PASSED,
        "comes after all that": Outcome.PASSED,
    }
    assert results["differs"].detail == "1 of 2 comparisons differ:\nlength: quire 0x1, oracle 0x2"
    assert results["raises"].detail.endswith("ValueError: the case is broken")
    assert results["crashes"].detail == "the case's process was killed by SIGSEGV before it had a result"
    assert results["leaves"].detail == "the case's process left with status 3 before it had a result"
    assert results["is explained"].tally.deviations == {"D1 the oracle rounds": 1}
    assert list(results) == [case.name for case in mixed().cases]


def test_teardown_follows_a_case_that_raises(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    suite = Suite("s", oracle="o", title="t", teardown=lambda state: trace.write_text("torn down") and None)
    suite.case("raises")(lambda state, tally: 1 // 0)
    (result,) = run_suites([suite], Setting())
    assert result.outcome is Outcome.ERROR
    assert trace.read_text() == "torn down"


def test_a_suite_that_cannot_run_here_is_skipped_with_the_reason() -> None:
    suite = Suite("s", oracle="o", title="t", unavailable=lambda: "there is no such engine")
    suite.case("never")(lambda state, tally: os._exit(1))
    (result,) = run_suites([suite], Setting())
    assert (result.outcome, result.detail) == (Outcome.SKIPPED, "there is no such engine")
    assert result.good


def test_two_cases_of_one_name() -> None:
    suite = mixed()
    with pytest.raises(MisuseError) as caught:
        suite.case("agrees")
    assert str(caught.value) == "Suite mixed has a case 'agrees' already: give this one another name"


def test_a_file_of_suites(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from quire.testing import Suite\nMINE = Suite('mine', oracle='me', title='t')\n")
    assert [suite.name for suite in load_file(path)] == ["mine"]
    assert "mine" in [suite.name for suite in known_suites([path])]
    path.write_text("x = 1\n")
    with pytest.raises(FormatError) as caught:
        load_file(path)
    assert str(caught.value) == (
        f"{path} binds no suite at its top level: write NAME = quire.testing.Suite(...)"
    )
    path.write_text("x = (\n")
    with pytest.raises(FormatError) as caught:
        load_file(path)
    assert str(caught.value) == f"{path} is not Python: '(' was never closed, line 1"
    with pytest.raises(FormatError) as caught:
        load_file(tmp_path / "none.py")
    assert str(caught.value) == f"{tmp_path / 'none.py'} cannot be read: No such file or directory"


def test_choosing() -> None:
    suites = [mixed()]
    assert choose(suites, []) == suites
    with pytest.raises(MisuseError) as caught:
        choose(suites, ["mixxed"])
    assert str(caught.value) == "No suite is called 'mixxed' (did you mean 'mixed'?): see quire check --list"


def test_a_case_that_hangs_is_ended() -> None:
    suite = Suite("hanging", oracle="nobody", title="a case that hangs", setup=lambda setting: [7])

    @suite.case("hangs")
    def hangs(state: list[int], tally: Tally) -> None:
        time.sleep(PATIENCE)

    (result,) = run_suites([suite], Setting(seed=7), jobs=1, timeout=1.0)
    assert result.outcome is Outcome.ERROR
    assert result.detail == "no result after 1 s: raise --timeout, or look for a loop"
