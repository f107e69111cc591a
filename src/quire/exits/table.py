"""The one table of exit handlers, by exit reason. A machine copies it, so that one machine's changes are its own."""

from collections.abc import Mapping
from types import MappingProxyType

from quire.arch import ExitReason
from quire.exits import system_instructions as system
from quire.exits.context import Handler
from quire.exits.io_instructions import io_instruction
from quire.exits.memory_exits import ept_violation, exception
from quire.exits.startup import init_signal, startup_ipi

__all__ = ["HANDLERS"]

#: Every reason that Quire deals with; a guest that exits for another is stopped, unless somebody put a handler there.
HANDLERS: Mapping[ExitReason, Handler] = MappingProxyType(
    {
        ExitReason.EPT_VIOLATION: ept_violation,
        ExitReason.EXCEPTION_OR_NMI: exception,
        ExitReason.INIT_SIGNAL: init_signal,
        ExitReason.STARTUP_IPI: startup_ipi,
        ExitReason.CPUID: system.cpuid,
        ExitReason.HLT: system.hlt,
        ExitReason.IO_INSTRUCTION: io_instruction,
        ExitReason.CR_ACCESS: system.cr_access,
        ExitReason.MOV_DR: system.mov_dr,
        ExitReason.INVLPG: system.invlpg,
        ExitReason.INVPCID: system.invpcid,
        ExitReason.RDMSR: system.rdmsr,
        ExitReason.WRMSR: system.wrmsr,
        ExitReason.RDTSC: system.rdtsc,
        ExitReason.RDTSCP: system.rdtsc,
        ExitReason.RDPMC: system.no_counter,
        ExitReason.WBINVD: system.no_cache,
        ExitReason.INVD: system.no_cache,
        ExitReason.VMCALL: system.unknown_instruction,
        ExitReason.VMCLEAR: system.unknown_instruction,
        ExitReason.VMLAUNCH: system.unknown_instruction,
        ExitReason.VMPTRLD: system.unknown_instruction,
        ExitReason.VMPTRST: system.unknown_instruction,
        ExitReason.VMREAD: system.unknown_instruction,
        ExitReason.VMRESUME: system.unknown_instruction,
        ExitReason.VMWRITE: system.unknown_instruction,
        ExitReason.VMXOFF: system.unknown_instruction,
        ExitReason.VMXON: system.unknown_instruction,
        ExitReason.INVEPT: system.unknown_instruction,
        ExitReason.INVVPID: system.unknown_instruction,
        ExitReason.GETSEC: system.unknown_instruction,
        ExitReason.XSETBV: system.unknown_instruction,
    }
)
