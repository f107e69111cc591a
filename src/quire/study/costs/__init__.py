"""Cost profiles: what each event costs in cycles, from a TOML file in which every figure names its source.

Profiles that come with Quire lie beside this file, one for each processor; a file says which it is for. A profile of
one's own is a file of the same form. Fails with
FormatError for a file that is not a profile, MisuseError for a name that is none.
"""

from quire.study.costs.belonging import costs_for
from quire.study.costs.profile import Cache, Costs, Figure, known_costs, load_costs

__all__ = ["Cache", "Costs", "Figure", "costs_for", "known_costs", "load_costs"]
