"""What walk caches spared the walks of a run, from how often each answered: the references that whole walks would make.

A linear cache's entry skips the guest entries at and above its level, and with them the translations of their tables
and of the one that it names (SDM 3C §28.4.1). A nested TLB answers for a guest-physical address that then reads no
entry of EPT. Walks of four levels alone are counted so; no guest whose cycles are predicted has five.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from quire.tlb import Kind, MappingClass

__all__ = ["NOTHING_SPARED", "Spared"]

#: Guest entries that a walk of four levels does not read when a linear cache holds such an entry.
_ENTRIES = {Kind.PDE: 3, Kind.PDPTE: 2, Kind.PML4E: 1}
_LINEAR = {f"{MappingClass.LINEAR} {kind.name}": entries for kind, entries in _ENTRIES.items()}
_NESTED = f"{MappingClass.GUEST_PHYSICAL} page"


@dataclass(frozen=True, slots=True)
class Spared:
    """`reached` walks began behind a linear cache, which spared them `entries` of the guest's tables; `nested`
    translations of guest-physical addresses read no entry of EPT.
    """

    reached: int = 0
    entries: int = 0
    nested: int = 0

    @classmethod
    def of(cls, hits: Mapping[str, int]) -> "Spared":
        """Return what caches that answered so often spared; `hits` is by what they hold, as ``Tlb.walk_hits`` says."""
        return cls(
            reached=sum(hits.get(name, 0) for name in _LINEAR),
            entries=sum(hits.get(name, 0) * entries for name, entries in _LINEAR.items()),
            nested=hits.get(_NESTED, 0),
        )


NOTHING_SPARED = Spared()
