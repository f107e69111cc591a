"""Counts of operations in the engine's own code against those of hooks: every count, in every geometry and policy."""

import random
from collections.abc import Callable
from typing import Any

from quire.arch import Replacement, profile_by_name, profile_names
from quire.guest.boot.bare import bare_config
from quire.machine import GuestConfig
from quire.testing.counts import RandomCode, program_records, run_bare
from quire.testing.suite import Setting, Suite
from quire.testing.tally import Tally
from quire.tlb import TlbOptions

__all__ = ["SUITES"]

_FAST, _SLOW = "soft", "soft-hooks"
_SAMPLE, _WHOLE = 2, 40  # random codes of a case
_MEMORY = 16 << 20
_4K, _2M = 4 << 10, 2 << 20
_NAMES = {_4K: "4k", _2M: "2m"}
_PROGRAMS = {
    "true": ("true",),
    "ls": ("ls", "/"),
    "shell": ("sh", "-c", "i=0; while [ $i -lt 200 ]; do i=$((i+1)); done; echo $i"),
    "gzip": ("gzip", "-c", "/etc/services"),
}
#: Hooks look a page up once more for each block that they meet for the first time.
_LOOKED_UP_AGAIN = "hooks look up a new block's page twice"
#: An access of two pages whose second faults has not happened (SDM 3A §6.5); hooks are called for it all the same.
_CROSSES_AND_FAULTS = "hooks count an access of two pages whose second faults"


def _compare(tally: Tally, what: str, fast: dict[str, Any], slow: dict[str, Any], deviation: str) -> None:
    for name in sorted(fast.keys() | slow.keys()):
        tally.compare(f"{what}: {name}", fast.get(name), slow.get(name), deviation=deviation)


def _random_case(config: Callable[[], GuestConfig], deviation: str) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        seeds = random.Random(setting.seed)
        for _ in range(_WHOLE if setting.whole else _SAMPLE):
            seed = seeds.getrandbits(32)
            image = RandomCode(seed).image()
            fast, slow = (run_bare(engine, config(), image) for engine in (_FAST, _SLOW))
            _compare(tally, f"code {seed:#x}", fast, slow, deviation)

    return run


def _program_case(command: tuple[str, ...]) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        for mmu in ("native", "ept", "shadow") if setting.whole else ("ept",):
            fast, slow = program_records((_FAST, _SLOW), command, GuestConfig(mmu=mmu))
            crossed = slow["walks.faulted"] != fast["walks.faulted"]
            _compare(tally, f"{command[0]} under {mmu}", fast, slow, _CROSSES_AND_FAULTS if crossed else "")

    return run


def _config(profile: str, policy: Replacement, mmu: str, host_page: int, vcpus: int) -> GuestConfig:
    options = TlbOptions(replacement=policy, seed=5)
    made: GuestConfig = bare_config(
        memory=_MEMORY,
        mmu=mmu,
        host_page=host_page,
        profile=profile_by_name(profile),
        tlb=options,
        vcpus=vcpus,
    )
    return made


def _suite() -> Suite:
    suite = Suite("counts", oracle="hooks", title="counts of the engine's own code: random code and programs")
    places = [("ept", _4K, 1), ("ept", _2M, 1), ("native", _4K, 1), ("shadow", _4K, 1), ("ept", _4K, 2)]
    turn = 0
    for profile in profile_names():
        deviation = _LOOKED_UP_AGAIN if not profile_by_name(profile).tlbs else ""
        for policy in Replacement:
            mmu, host_page, vcpus = places[turn % len(places)]
            turn += 1
            name = f"{profile}-{policy}-{mmu}-{_NAMES[host_page]}" + ("-2-vcpus" if vcpus > 1 else "")

            def config(one: tuple[Any, ...] = (profile, policy, mmu, host_page, vcpus)) -> GuestConfig:
                return _config(*one)

            suite.case(name)(_random_case(config, deviation))
    for name, command in _PROGRAMS.items():
        suite.case(f"program-{name}")(_program_case(command))
    return suite


SUITES = [_suite()]
