"""The engines that there are, by name: where a new one is entered, and the one place that makes them.

An entry says what the engine can record and which guests it runs; who asks for more is refused by name. An engine is
loaded when a machine wants it, not before.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from quire.cpu.detail import Detail
from quire.errors import MisuseError, did_you_mean
from quire.machine import MakeCpu, Vcpu
from quire.vcpu import Cpu

__all__ = ["Engine", "engines", "make_cpu", "register"]


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: `make` returns it for a vCPU, recording as told. Raises BackendError when it cannot be loaded."""

    name: str
    make: Callable[[Vcpu, Detail], Cpu]
    details: frozenset[Detail] = frozenset(Detail)  #: what it can record
    kinds: frozenset[str] = field(default=frozenset(("process", "machine")))  #: of guests that it runs


def _soft(vcpu: Vcpu, detail: Detail) -> Cpu:
    from quire.cpu.soft.making import make_soft

    return make_soft(vcpu, detail)


def _soft_hooks(vcpu: Vcpu, detail: Detail) -> Cpu:
    from quire.cpu.soft.making import make_soft_hooks

    return make_soft_hooks(vcpu, detail)


_ENGINES = {
    "soft": Engine("soft", _soft),  # the default
    "soft-hooks": Engine("soft-hooks", _soft_hooks),  # the same, its accesses counted the slow way
}


def engines() -> tuple[str, ...]:
    """Return the names of all engines, the default first."""
    return tuple(_ENGINES)


def register(engine: Engine) -> None:
    """Enter `engine`. Raises MisuseError if its name is taken."""
    if engine.name in _ENGINES:
        raise MisuseError(f"An engine is called {engine.name!r} already: give it another name")
    _ENGINES[engine.name] = engine


def make_cpu(name: str, detail: Detail) -> MakeCpu:
    """Return what makes the engine called `name` for a vCPU, recording as `detail` says.

    Raises MisuseError for an engine that there is not, or that cannot record so; what is returned raises it for a
    guest that the engine does not run.
    """
    engine = _ENGINES.get(name)
    if engine is None:
        raise MisuseError(f"No engine is called {name!r}{did_you_mean(name, list(_ENGINES))}")
    if detail not in engine.details:
        able = " or ".join(sorted(one.name.lower() for one in engine.details))
        raise MisuseError(f"The {name} engine cannot record in {detail.name.lower()} detail: ask for {able}")

    def make(vcpu: Vcpu) -> Cpu:
        kind = vcpu.machine.config.kind
        if kind not in engine.kinds:
            able = " or ".join(sorted(engine.kinds))
            raise MisuseError(
                f"The {name} engine runs no {kind} guests: give it a {able} guest, or another engine"
            )
        return engine.make(vcpu, detail)

    return make
