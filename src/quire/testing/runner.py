"""Runs cases, each in a process of its own: one that fails, crashes or hangs does not stop or taint the next.

A case that raises is an error, one that crashes is an error with the signal's name, one that counts a difference has
failed. Results come in the order of the suites whatever the number of jobs.
"""

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing.connection import Connection, wait

from quire.guest.own_process import end_with_parent
from quire.testing.suite import Case, Setting, Suite
from quire.testing.tally import Tally

__all__ = ["CaseResult", "Outcome", "run_case", "run_suites"]


class Outcome(Enum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"  #: it counted a difference that nothing explains
    ERROR = "error"  #: it raised, crashed or hung
    SKIPPED = "skipped"  #: this machine cannot run its suite


@dataclass(slots=True)
class CaseResult:
    """What came of one case; `seconds` of wall time, `detail` is the reason when it did not pass."""

    suite: str
    oracle: str
    case: str
    outcome: Outcome
    seconds: float = 0.0
    detail: str = ""
    tally: Tally = field(default_factory=Tally)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong: passed, or could not run here."""
        return self.outcome in (Outcome.PASSED, Outcome.SKIPPED)


def run_suites(
    suites: Sequence[Suite],
    setting: Setting,
    *,
    jobs: int = 1,
    timeout: float = 3600.0,
    on_start: Callable[[str, str], None] = lambda suite, case: None,
) -> Iterator[CaseResult]:
    """Run every case of `suites`, at most `jobs` at a time, each for at most `timeout` seconds; yield the results."""

    def work(suite: Suite, case: Case, reason: str) -> CaseResult:
        if reason:
            return CaseResult(suite.name, suite.oracle, case.name, Outcome.SKIPPED, detail=reason)
        on_start(suite.name, case.name)
        return run_case(suite, case, setting, timeout)

    plan = [
        (suite, case, reason) for suite in suites for reason in (suite.unavailable(),) for case in suite.cases
    ]
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        yield from pool.map(lambda task: work(*task), plan)


def run_case(suite: Suite, case: Case, setting: Setting, timeout: float = 3600.0) -> CaseResult:
    """Run one case in a child process and return what came of it."""
    begin = time.perf_counter()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(suite, case, setting, sending), daemon=True)
    child.start()
    sending.close()
    outcome, detail, tally = _collect(child, receiving, timeout)
    seconds = time.perf_counter() - begin
    return CaseResult(suite.name, suite.oracle, case.name, outcome, seconds, detail, tally)


def _child(suite: Suite, case: Case, setting: Setting, sending: Connection) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who runs the suites: this one ends with it
    tally, failure = Tally(), ""
    try:
        state = suite.setup(setting)
        try:
            case.function(state, tally)
        finally:
            suite.teardown(state)
    except Exception:
        failure = traceback.format_exc(limit=-6)
    sending.send((failure, tally))
    sending.close()


def _collect(
    child: "multiprocessing.process.BaseProcess", receiving: Connection, timeout: float
) -> tuple[Outcome, str, Tally]:
    failure, tally = "", Tally()
    # The end of the process is waited for as well: one that was forked meanwhile may hold the pipe open.
    if not wait([receiving, child.sentinel], timeout):
        child.kill()
        child.join()
        return Outcome.ERROR, f"no result after {timeout:g} s: raise --timeout, or look for a loop", tally
    try:
        if not receiving.poll():
            raise EOFError
        failure, tally = receiving.recv()
    except EOFError:
        child.join()
        code = child.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with status {code}"
        return Outcome.ERROR, f"the case's process {how} before it had a result", tally
    child.join()
    if failure:
        return Outcome.ERROR, failure.strip(), tally
    if tally.different:
        words = "\n".join(map(str, tally.differences))
        return Outcome.FAILED, f"{tally.different} of {tally.compared} comparisons differ:\n{words}", tally
    return Outcome.PASSED, "", tally
