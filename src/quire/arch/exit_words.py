"""VM exits in words: the exit reason and the exit qualification as a log prints them.

Models the qualification of every exit that memory virtualization or a soft CPU can produce; of the others it is
shown in hexadecimal. :func:`describe_exit` never fails on a number that fits: a log must be able to print whatever a
VMCS holds.
"""

from collections.abc import Callable

from quire.arch.exits import (
    APIC_ACCESS_QUALIFICATION,
    CR_ACCESS_QUALIFICATION,
    DEBUG_QUALIFICATION,
    EPT_VIOLATION_QUALIFICATION,
    EXIT_REASON,
    NMI_UNBLOCKING_QUALIFICATION,
    SPP_QUALIFICATION,
    TASK_SWITCH_QUALIFICATION,
    ExitReason,
)
from quire.arch.faults import Vector
from quire.arch.instruction_exits import IO_QUALIFICATION, MOV_DR_QUALIFICATION
from quire.arch.layout import Layout

__all__ = ["describe_exit"]

_REGISTERS = ("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", *(f"R{n}" for n in range(8, 16)))


def describe_exit(reason: int, qualification: int, vector: int | None = None) -> str:
    """Return an exit in words, from the 32-bit exit reason field and the 64-bit exit qualification.

    SDM 3C §27.2.1 and SDM 3D §C. For instance ``EPT_VIOLATION: data write; the entries used allow R-X; final
    access``. `vector` is that of the interruption information and tells the qualification of an exception. A
    reason that is not assigned is shown by number. Raises MisuseError only for numbers wider than their fields.
    """
    flags = EXIT_REASON.decode(reason)
    basic = flags.pop("basic")
    try:
        name = ExitReason(basic).name
    except ValueError:
        name = f"exit reason {basic:#x}, not assigned"
    words = _EXCEPTIONS.get(vector) if basic == ExitReason.EXCEPTION_OR_NMI else _WORDS.get(basic)
    detail = words(qualification) if words is not None else _hexadecimal(qualification)
    extra = [word for word, on in flags.items() if on and word != "entry_failure"]
    text = f"VM entry failed, {name}" if flags["entry_failure"] else name
    text += f" ({', '.join(extra)})" if extra else ""
    return f"{text}: {detail}" if detail else text


def _hexadecimal(qualification: int) -> str:
    return f"qualification {qualification:#x}" if qualification else ""


def _describe_ept_violation(qualification: int) -> str:
    said = EPT_VIOLATION_QUALIFICATION.decode(qualification)
    accesses = (("R", "data read"), ("W", "data write"), ("X", "instruction fetch"))
    tried = " and ".join(words for name, words in accesses if said[name])
    rights = (("ept_r", "R"), ("ept_w", "W"), ("ept_x", "X"))
    allowed = "".join(letter if said[name] else "-" for name, letter in rights) + (
        " XU" if said["ept_xu"] else ""
    )
    if not said["gla_valid"]:
        target = "no linear address"
    elif said["final"]:
        target = "final access"
    else:
        target = "guest paging-structure access"
    late = ("nmi_unblocking", "shadow_stack", "sss_leaf", "verify_paging", "async")
    parts = [
        tried or "no access",
        f"the entries used allow {allowed}",
        target,
        *(name for name in late if said[name]),
    ]
    return "; ".join(parts)


def _describe_cr_access(qualification: int) -> str:
    said = CR_ACCESS_QUALIFICATION.decode(qualification)
    gpr = _REGISTERS[said["gpr"]]
    return (
        f"MOV to CR{said['cr']} from {gpr}",
        f"MOV from CR{said['cr']} to {gpr}",
        "CLTS",
        f"LMSW {said['lmsw_source']:#x} from {'memory' if said['lmsw_memory'] else 'a register'}",
    )[said["access_type"]]


def _describe_mov_dr(qualification: int) -> str:
    said = MOV_DR_QUALIFICATION.decode(qualification)
    way = "from DR{dr} to {gpr}" if said["from_dr"] else "to DR{dr} from {gpr}"
    return "MOV " + way.format(dr=said["dr"], gpr=_REGISTERS[said["gpr"]])


def _describe_io(qualification: int) -> str:
    said = IO_QUALIFICATION.decode(qualification)
    name = ("IN" if said["IN"] else "OUT") + ("S" if said["string"] else "")
    name = f"REP {name}" if said["REP"] else name
    where = "immediate" if said["immediate"] else "DX"
    size = said["size"] + 1
    return f"{name} of {size} byte{'s' if size > 1 else ''}, port {said['port']:#x} ({where})"


def _describe_task_switch(qualification: int) -> str:
    said = TASK_SWITCH_QUALIFICATION.decode(qualification)
    source = ("CALL", "IRET", "JMP", "a task gate")[said["source"]]
    return f"to TSS {said['selector']:#x} by {source}"


def _describe_debug(qualification: int) -> str:
    """Name what the debug exception met: breakpoints by number, then the other conditions."""
    met = DEBUG_QUALIFICATION.get(qualification, "B")
    words = [f"breakpoint {n}" for n in range(4) if met >> n & 1]
    reasons = (
        ("BLD", "bus lock"),
        ("BD", "debug register access"),
        ("BS", "single step"),
        ("RTM", "RTM region"),
    )
    words += [name for bit, name in reasons if DEBUG_QUALIFICATION.get(qualification, bit)]
    return ", ".join(words)


def _describe_apic_access(qualification: int) -> str:
    said = APIC_ACCESS_QUALIFICATION.decode(qualification)
    late = ", asynchronous" if said["async"] else ""
    linear = {0: "data read", 1: "data write", 2: "instruction fetch", 3: "event delivery"}
    if said["access_type"] in linear:
        return f"{linear[said['access_type']]} at offset {said['offset']:#x}{late}"
    physical = {10: "event delivery", 11: "monitoring", 15: "access"}.get(said["access_type"])
    if physical is None:
        return f"access type {said['access_type']:#x}, not assigned{late}"
    return f"guest-physical {physical}{late}"


def _describe_spp(qualification: int) -> str:
    said = SPP_QUALIFICATION.decode(qualification)
    return ("SPPT miss" if said["miss"] else "SPPT misconfiguration") + _unblocking(
        SPP_QUALIFICATION, qualification
    )


def _unblocking(layout: Layout, qualification: int) -> str:
    return "; nmi_unblocking" if layout.get(qualification, "nmi_unblocking") else ""


def _describe_log_full(qualification: int) -> str:
    return _unblocking(NMI_UNBLOCKING_QUALIFICATION, qualification).removeprefix("; ")


def _linear_address(qualification: int) -> str:
    return f"linear address {qualification:#x}"


def _displacement(qualification: int) -> str:
    return f"displacement {qualification:#x}" if qualification else ""


def _describe_guest_state(qualification: int) -> str:
    known = {0: "", 2: "PDPTE", 3: "NMI injected while MOV SS blocks", 4: "VMCS link pointer"}
    return known.get(qualification, _hexadecimal(qualification))


def _describe_msr_loading(qualification: int) -> str:
    return f"entry {qualification} of the MSR-load area"


def _offset(qualification: int) -> str:
    return f"offset {qualification:#x} in the virtual-APIC page"


def _vector(qualification: int) -> str:
    return f"vector {qualification & 0xFF:#x}"


_Words = Callable[[int], str]
#: What the qualification of an exception says, by vector; of any other it is 0.
_EXCEPTIONS: dict[int | None, _Words] = {
    Vector.DB: _describe_debug,
    Vector.PF: _linear_address,
}
_WORDS: dict[int, _Words] = {
    ExitReason.STARTUP_IPI: _vector,
    ExitReason.TASK_SWITCH: _describe_task_switch,
    ExitReason.INVLPG: _linear_address,
    ExitReason.CR_ACCESS: _describe_cr_access,
    ExitReason.MOV_DR: _describe_mov_dr,
    ExitReason.IO_INSTRUCTION: _describe_io,
    ExitReason.ENTRY_FAILURE_GUEST_STATE: _describe_guest_state,
    ExitReason.ENTRY_FAILURE_MSR_LOADING: _describe_msr_loading,
    ExitReason.APIC_ACCESS: _describe_apic_access,
    ExitReason.VIRTUALIZED_EOI: _vector,
    ExitReason.EPT_VIOLATION: _describe_ept_violation,
    ExitReason.APIC_WRITE: _offset,
    ExitReason.PAGE_MODIFICATION_LOG_FULL: _describe_log_full,
    ExitReason.SPP_RELATED_EVENT: _describe_spp,
    # Memory operands: the displacement alone, the rest is in the instruction information.
    **dict.fromkeys(
        (
            ExitReason.VMCLEAR,
            ExitReason.VMPTRLD,
            ExitReason.VMPTRST,
            ExitReason.VMREAD,
            ExitReason.VMWRITE,
            ExitReason.VMXON,
            ExitReason.ACCESS_TO_GDTR_OR_IDTR,
            ExitReason.ACCESS_TO_LDTR_OR_TR,
            ExitReason.INVEPT,
            ExitReason.INVVPID,
            ExitReason.INVPCID,
            ExitReason.XSAVES,
            ExitReason.XRSTORS,
        ),
        _displacement,
    ),
}
