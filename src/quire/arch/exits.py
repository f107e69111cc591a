"""VM exits: reasons, the exit reason field, the qualifications that Quire reads, event information.

Models SDM 3D Appendix C as of 2025, and the two exit qualifications that a virtual-memory hypervisor decodes,
EPT violations and control-register accesses. Qualifications of other exits are shown in hexadecimal only.
Does not model FRED's nested-event bit. :func:`describe_exit` never fails on a number that fits: a log must be
able to print whatever a VMCS holds.
"""

from enum import IntEnum

from quire.arch.layout import Layout, bit, bits, reserved

__all__ = [
    "CR_ACCESS_QUALIFICATION",
    "ENTRY_FAILURE",
    "EPT_VIOLATION_QUALIFICATION",
    "EXIT_REASON",
    "INTERRUPTION_INFO",
    "ExitReason",
    "InterruptionType",
    "describe_exit",
]


class ExitReason(IntEnum):
    """Basic exit reasons (SDM 3D §C). 35, 38, 42, 71, 82 and 83 are not assigned."""

    EXCEPTION_OR_NMI = 0
    EXTERNAL_INTERRUPT = 1
    TRIPLE_FAULT = 2
    INIT_SIGNAL = 3
    STARTUP_IPI = 4
    IO_SMI = 5
    OTHER_SMI = 6
    INTERRUPT_WINDOW = 7
    NMI_WINDOW = 8
    TASK_SWITCH = 9
    CPUID = 10
    GETSEC = 11
    HLT = 12
    INVD = 13
    INVLPG = 14
    RDPMC = 15
    RDTSC = 16
    RSM = 17
    VMCALL = 18
    VMCLEAR = 19
    VMLAUNCH = 20
    VMPTRLD = 21
    VMPTRST = 22
    VMREAD = 23
    VMRESUME = 24
    VMWRITE = 25
    VMXOFF = 26
    VMXON = 27
    CR_ACCESS = 28
    MOV_DR = 29
    IO_INSTRUCTION = 30
    RDMSR = 31
    WRMSR = 32
    ENTRY_FAILURE_GUEST_STATE = 33
    ENTRY_FAILURE_MSR_LOADING = 34
    MWAIT = 36
    MONITOR_TRAP_FLAG = 37
    MONITOR = 39
    PAUSE = 40
    ENTRY_FAILURE_MACHINE_CHECK = 41
    TPR_BELOW_THRESHOLD = 43
    APIC_ACCESS = 44
    VIRTUALIZED_EOI = 45
    ACCESS_TO_GDTR_OR_IDTR = 46
    ACCESS_TO_LDTR_OR_TR = 47
    EPT_VIOLATION = 48
    EPT_MISCONFIGURATION = 49
    INVEPT = 50
    RDTSCP = 51
    VMX_PREEMPTION_TIMER_EXPIRED = 52
    INVVPID = 53
    WBINVD = 54
    XSETBV = 55
    APIC_WRITE = 56
    RDRAND = 57
    INVPCID = 58
    VMFUNC = 59
    ENCLS = 60
    RDSEED = 61
    PAGE_MODIFICATION_LOG_FULL = 62
    XSAVES = 63
    XRSTORS = 64
    PCONFIG = 65
    SPP_RELATED_EVENT = 66
    UMWAIT = 67
    TPAUSE = 68
    LOADIWKEY = 69
    ENCLV = 70
    ENQCMD_PASID_TRANSLATION_FAILURE = 72
    ENQCMDS_PASID_TRANSLATION_FAILURE = 73
    BUS_LOCK = 74
    INSTRUCTION_TIMEOUT = 75
    SEAMCALL = 76
    TDCALL = 77
    RDMSRLIST = 78
    WRMSRLIST = 79
    URDMSR = 80
    UWRMSR = 81
    RDMSR_IMMEDIATE = 84
    WRMSR_IMMEDIATE = 85


EXIT_REASON = Layout(
    "EXIT_REASON",
    32,
    "SDM 3C §24.9.1",
    (
        bits(0, 15, "basic", "basic exit reason, see ExitReason"),
        reserved(16, 24),
        bit(25, "shadow_stack_busy", "the exit left a supervisor shadow-stack token busy"),
        bit(26, "bus_lock", "a bus lock was detected in the instruction that exited"),
        bit(27, "enclave", "the exit was incident to enclave mode"),
        bit(28, "pending_mtf", "an MTF VM exit was pending"),
        bit(29, "vmx_root", "the exit was from VMX root operation, to the SMM monitor"),
        reserved(30),
        bit(31, "entry_failure", "the VM entry failed: no guest instruction ran"),
    ),
)

#: Or'ed to the basic reason of a VM entry that failed.
ENTRY_FAILURE = EXIT_REASON.mask("entry_failure")

EPT_VIOLATION_QUALIFICATION = Layout(
    "EPT_VIOLATION_QUALIFICATION",
    64,
    "SDM 3C §27.2.1",
    (
        bit(0, "R", "the access was a data read"),
        bit(1, "W", "the access was a data write"),
        bit(2, "X", "the access was an instruction fetch"),
        bit(3, "ept_r", "the entries used allow reads: AND of their bits 0"),
        bit(4, "ept_w", "the entries used allow writes: AND of their bits 1"),
        bit(5, "ept_x", "the entries used allow fetches: AND of their bits 2"),
        bit(
            6,
            "ept_xu",
            "the entries used allow user-mode fetches: AND of their bits 10, with mode-based execute",
        ),
        bit(7, "gla_valid", "the guest linear address field is valid"),
        bit(8, "final", "the access was to the translation of the linear address, not to a guest table"),
        bit(9, "user", "the linear address is user-mode, if gla_valid, final and the capability"),
        bit(10, "writable", "the linear address is writable, likewise"),
        bit(11, "xd", "the linear address is execute-disable, likewise"),
        bit(12, "nmi_unblocking", "NMI unblocking due to IRET"),
        bit(13, "shadow_stack", "the access was a shadow-stack access"),
        bit(14, "sss_leaf", "bit 60 of the leaf entry, if EPTP bit 7 = 1"),
        bit(15, "verify_paging", "caused by guest-paging verification"),
        bit(16, "async", "asynchronous to the instruction"),
        reserved(17, 63),
    ),
)

CR_ACCESS_QUALIFICATION = Layout(
    "CR_ACCESS_QUALIFICATION",
    64,
    "SDM 3C §27.2.1",
    (
        bits(0, 3, "cr", "number of the control register; 0 for CLTS and LMSW"),
        bits(4, 5, "access_type", "0 MOV to CR, 1 MOV from CR, 2 CLTS, 3 LMSW"),
        bit(6, "lmsw_memory", "the LMSW operand is in memory, not in a register"),
        reserved(7),
        bits(8, 11, "gpr", "general-purpose register of MOV: 0 RAX, 1 RCX, 2 RDX, ... 15 R15"),
        reserved(12, 15),
        bits(16, 31, "lmsw_source", "source data of LMSW"),
        reserved(32, 63),
    ),
)


class InterruptionType(IntEnum):
    """What kind of event interruption information describes (SDM 3C §24.8.3). 1 is reserved."""

    EXTERNAL_INTERRUPT = 0
    NMI = 2
    HARDWARE_EXCEPTION = 3
    SOFTWARE_INTERRUPT = 4
    PRIVILEGED_SOFTWARE_EXCEPTION = 5
    SOFTWARE_EXCEPTION = 6
    OTHER_EVENT = 7


INTERRUPTION_INFO = Layout(
    "INTERRUPTION_INFO",
    32,
    "SDM 3C §24.9.2",
    (
        bits(0, 7, "vector", "vector of the interrupt or exception"),
        bits(8, 10, "type", "see InterruptionType"),
        bit(11, "error_valid", "there is an error code; on VM entry, deliver it"),
        # On VM entry this bit is reserved: the entry checks add it, the exit side reads it.
        bit(12, "nmi_unblocking", "NMI unblocking due to IRET; VM-exit information only"),
        reserved(13, 30),
        bit(31, "valid", "the field describes an event"),
    ),
)

_REGISTERS = ("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", *(f"R{n}" for n in range(8, 16)))


def describe_exit(reason: int, qualification: int) -> str:
    """Return an exit in words, from the 32-bit exit reason field and the 64-bit exit qualification.

    SDM 3C §27.2.1 and SDM 3D §C. For instance ``EPT_VIOLATION: data write; the entries used allow R-X; final
    access``. A reason that is not assigned is shown by number. Raises MisuseError only for numbers wider than
    their fields.
    """
    flags = EXIT_REASON.decode(reason)
    basic = flags.pop("basic")
    try:
        name = ExitReason(basic).name
    except ValueError:
        name = f"exit reason {basic:#x}, not assigned"
    if basic == ExitReason.EPT_VIOLATION:
        detail = _describe_ept_violation(qualification)
    elif basic == ExitReason.CR_ACCESS:
        detail = _describe_cr_access(qualification)
    else:
        detail = f"qualification {qualification:#x}" if qualification else ""
    extra = [word for word, on in flags.items() if on and word != "entry_failure"]
    text = f"VM entry failed, {name}" if flags["entry_failure"] else name
    text += f" ({', '.join(extra)})" if extra else ""
    return f"{text}: {detail}" if detail else text


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
