"""Testing hypervisors: suites of named cases, run apart from each other, and the small worlds that they compare in.

Contract: a :class:`Suite` names its oracle; a case counts comparisons in a :class:`Tally`; what an oracle is known to
do otherwise than the manual is a named deviation, never a passed comparison. ``quire check`` runs the suites here and
those that users register (an entry point of the group ``quire.suites``, or a file). Importing this room compiles
nothing; the suites are imported when they are asked for. :class:`FailurePlan` and :func:`sweep_failures` make every
allocation, mapping and call to the host fail in turn; :func:`reach` declares a point of failure of a user's own.
"""

from quire.failpoints import FailurePlan, reach
from quire.testing.failures import FailureOutcome, sweep_failures
from quire.testing.registry import choose, known_suites, load_file
from quire.testing.runner import CaseResult, Outcome, run_case, run_suites
from quire.testing.suite import Case, Setting, Suite
from quire.testing.tally import Difference, Tally

__all__ = [
    "Case",
    "CaseResult",
    "Difference",
    "FailureOutcome",
    "FailurePlan",
    "Outcome",
    "Setting",
    "Suite",
    "Tally",
    "choose",
    "known_suites",
    "load_file",
    "reach",
    "run_case",
    "run_suites",
    "sweep_failures",
]
