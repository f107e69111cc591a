"""Studies: what a guest's translation would cost on a processor, and which configuration costs least.

Contract: counts come from runs, costs from a profile that names the source of every figure, and what the model leaves
out is listed beside what it says. The studies that run guests in this process, ``crossover`` and ``references``, are
imported by their own names: they load the compiled walks.
"""

from quire.study.compare import compare, compare_record
from quire.study.configuration import Configuration, configurations, parse_mmus, parse_pages, parse_profiles
from quire.study.costs import Costs, Figure, costs_for, known_costs, load_costs
from quire.study.counts import Counts, TableSize
from quire.study.predict import COMPONENTS, NOT_MODELLED, Prediction, predict, predict_counts
from quire.study.runner import RunFailed, Running, run_all

__all__ = [
    "COMPONENTS",
    "NOT_MODELLED",
    "Configuration",
    "Costs",
    "Counts",
    "Figure",
    "Prediction",
    "RunFailed",
    "Running",
    "TableSize",
    "compare",
    "compare_record",
    "configurations",
    "costs_for",
    "known_costs",
    "load_costs",
    "parse_mmus",
    "parse_pages",
    "parse_profiles",
    "predict",
    "predict_counts",
    "run_all",
]
