"""Guests whose counts two engines are to agree on: random code at CPL 0, and programs of this machine.

Contract: the same guest, the same seed, each engine in a guest of its own; what is compared is every count, what the
modelled TLBs hold and in which order it was used, and what is left of memory.
"""

from quire.testing.counts.bare_runs import run_bare
from quire.testing.counts.programs import program_records
from quire.testing.counts.random_code import DATA, RandomCode

__all__ = ["DATA", "RandomCode", "program_records", "run_bare"]
