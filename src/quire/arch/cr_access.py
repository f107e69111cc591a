"""Control-register accesses as exit qualifications describe them, and what CLTS and LMSW make of CR0."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from quire.arch.exits import CR_ACCESS_QUALIFICATION
from quire.arch.registers import CR0

__all__ = ["CrAccess", "CrExit"]

_STATUS = CR0.mask("PE", "MP", "EM", "TS")


class CrAccess(IntEnum):
    """The access types of the qualification (SDM 3C §27.2.1)."""

    MOV_TO = 0
    MOV_FROM = 1
    CLTS = 2
    LMSW = 3


@dataclass(frozen=True, slots=True)
class CrExit:
    """One access: `gpr` counts for MOV, `source` for LMSW, which `memory` says it read from memory."""

    cr: int
    access: CrAccess
    gpr: int = 0
    source: int = 0
    memory: bool = False

    @classmethod
    def of(cls, qualification: int) -> Self:
        """Return the access that an exit qualification describes."""
        said = CR_ACCESS_QUALIFICATION.decode(qualification)
        return cls(
            said["cr"],
            CrAccess(said["access_type"]),
            said["gpr"],
            said["lmsw_source"],
            bool(said["lmsw_memory"]),
        )

    @property
    def qualification(self) -> int:
        """The exit qualification."""
        return CR_ACCESS_QUALIFICATION.encode(
            cr=self.cr,
            access_type=self.access,
            gpr=self.gpr,
            lmsw_source=self.source,
            lmsw_memory=self.memory,
        )

    def machine_status(self, cr0: int) -> int:
        """Return CR0 after CLTS or LMSW; LMSW sets PE but never clears it (SDM 2A §3.3)."""
        if self.access is CrAccess.CLTS:
            return cr0 & ~CR0.mask("TS")
        return cr0 & ~_STATUS | self.source & _STATUS | cr0 & CR0.mask("PE")
