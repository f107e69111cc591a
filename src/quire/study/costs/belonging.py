"""Which costs belong to which processor: those that Quire brings for it, or a file of the user's own.

Costs of one processor with the TLBs of another predict neither, so such a pair is refused by name.
"""

from quire.arch import CpuProfile, profile_names
from quire.errors import MisuseError
from quire.study.costs.profile import Costs, known_costs, load_costs

__all__ = ["costs_for"]


def costs_for(profile: CpuProfile, asked: str | None = None) -> Costs:
    """Return the costs of `profile`, or those called `asked`, a name or a file, if they are for that processor.

    Costs that Quire brings go with a profile from a user's file as well, but only when they are asked for. Raises
    MisuseError for costs of another processor, or if there are none; what load_costs raises for `asked`.
    """
    if asked is not None:
        return _checked(profile, load_costs(asked))
    for name in known_costs():
        costs = load_costs(name)
        if profile.name in costs.profiles:
            return costs
    raise MisuseError(
        f"Profile {profile.name} has no costs of its own: give --costs with one of {', '.join(known_costs())}, or a "
        "file that ends in .toml"
    )


def _checked(profile: CpuProfile, costs: Costs) -> Costs:
    if not costs.profiles or profile.name in costs.profiles or profile.name not in profile_names():
        return costs
    raise MisuseError(
        f"Costs {costs.name} are for {', '.join(costs.profiles)}, not for profile {profile.name}: leave --costs out "
        f"for {profile.name}'s own, or give --profile {costs.profiles[0]}"
    )
