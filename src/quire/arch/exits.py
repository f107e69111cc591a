"""VM exits: reasons, the exit reason field, the layouts of exit qualifications, event information.

Models SDM 3D Appendix C as of 2025, and the exit qualifications that memory virtualization can produce; those of
I/O and MOV DR are in :mod:`quire.arch.instruction_exits`, and :mod:`quire.arch.exit_words` puts all into words.
Does not model FRED's nested-event bit.
"""

from enum import IntEnum

from quire.arch.layout import Layout, bit, bits, reserved

__all__ = [
    "APIC_ACCESS_QUALIFICATION",
    "CR_ACCESS_QUALIFICATION",
    "DEBUG_QUALIFICATION",
    "ENTRY_FAILURE",
    "EPT_VIOLATION_QUALIFICATION",
    "EXIT_REASON",
    "INTERRUPTION_INFO",
    "NMI_UNBLOCKING_QUALIFICATION",
    "SPP_QUALIFICATION",
    "TASK_SWITCH_QUALIFICATION",
    "ExitReason",
    "InterruptionType",
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


DEBUG_QUALIFICATION = Layout(
    "DEBUG_QUALIFICATION",
    64,
    "SDM 3C §27.2.1",
    (
        bits(0, 3, "B", "breakpoint conditions met: bit n for breakpoint n"),
        reserved(4, 10),
        bit(11, "BLD", "a bus lock was detected"),
        reserved(12),
        bit(13, "BD", "a debug register was accessed while DR7.GD = 1"),
        bit(14, "BS", "a single instruction or a taken branch was executed"),
        reserved(15),
        bit(16, "RTM", "the exception occurred in an RTM region with advanced debugging"),
        reserved(17, 63),
    ),
)

TASK_SWITCH_QUALIFICATION = Layout(
    "TASK_SWITCH_QUALIFICATION",
    64,
    "SDM 3C §27.2.1",
    (
        bits(0, 15, "selector", "selector of the TSS to switch to"),
        reserved(16, 29),
        bits(30, 31, "source", "0 CALL, 1 IRET, 2 JMP, 3 task gate in the IDT"),
        reserved(32, 63),
    ),
)

APIC_ACCESS_QUALIFICATION = Layout(
    "APIC_ACCESS_QUALIFICATION",
    64,
    "SDM 3C §27.2.1",
    (
        bits(0, 11, "offset", "offset in the APIC-access page, if the access was linear"),
        bits(12, 15, "access_type", "0 read, 1 write, 2 fetch, 3 event delivery, 10 and 15 guest-physical"),
        bit(16, "async", "asynchronous to the instruction"),
        reserved(17, 63),
    ),
)

SPP_QUALIFICATION = Layout(
    "SPP_QUALIFICATION",
    64,
    "SDM 3C §27.2.1",
    (
        reserved(0, 10),
        bit(11, "miss", "the SPP table has no valid entry; 0, an entry is misconfigured"),
        bit(12, "nmi_unblocking", "NMI unblocking due to IRET"),
        reserved(13, 63),
    ),
)

NMI_UNBLOCKING_QUALIFICATION = Layout(
    "NMI_UNBLOCKING_QUALIFICATION",
    64,
    "SDM 3C §27.2.3",
    (reserved(0, 11), bit(12, "nmi_unblocking", "NMI unblocking due to IRET"), reserved(13, 63)),
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
        bit(13, "nested_exception", "the event met another exception, with FRED; else reserved"),
        reserved(14, 30),
        bit(31, "valid", "the field describes an event"),
    ),
)
