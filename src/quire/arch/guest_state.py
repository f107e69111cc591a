"""State that VM entry loads besides control registers and segments: what blocks events, what is pending, MSRs.

Models the non-register state of the guest (SDM 3C §24.4.2), the MSRs that have fields of their own in the VMCS
and whose reserved bits VM entry checks, and the entries of the MSR lists. Does not model that some bits of
IA32_PERF_GLOBAL_CTRL, IA32_RTIT_CTL and IA32_LBR_CTL exist only with as many counters or features.
"""

from enum import IntEnum

from quire.arch.layout import Layout, address, bit, bits, reserved

__all__ = [
    "BNDCFGS",
    "DEBUGCTL",
    "INTERRUPTIBILITY",
    "LBR_CTL",
    "MSR_ENTRY",
    "PENDING_DEBUG_EXCEPTIONS",
    "PERF_GLOBAL_CTRL",
    "RTIT_CTL",
    "S_CET",
    "ActivityState",
]


class ActivityState(IntEnum):
    """Whether the guest executes instructions (SDM 3C §24.4.2)."""

    ACTIVE = 0
    HLT = 1
    SHUTDOWN = 2
    WAIT_FOR_SIPI = 3


INTERRUPTIBILITY = Layout(
    "INTERRUPTIBILITY",
    32,
    "SDM 3C §24.4.2",
    (
        bit(0, "blocking_by_sti", "STI has set RFLAGS.IF in the instruction before"),
        bit(1, "blocking_by_mov_ss", "the instruction before loaded SS"),
        bit(2, "blocking_by_smi", "SMIs are blocked"),
        bit(3, "blocking_by_nmi", "NMIs, or virtual NMIs, are blocked"),
        bit(4, "enclave_interruption", "the exit occurred in enclave mode"),
        reserved(5, 31),
    ),
)

PENDING_DEBUG_EXCEPTIONS = Layout(
    "PENDING_DEBUG_EXCEPTIONS",
    64,
    "SDM 3C §24.4.2",
    (
        bits(0, 3, "B", "breakpoint conditions met: bit n for breakpoint n"),
        reserved(4, 10),
        bit(11, "BLD", "a bus lock was detected"),
        bit(12, "enabled_breakpoint", "one of the breakpoints met is enabled in DR7"),
        reserved(13),
        bit(14, "BS", "a single step is due"),
        reserved(15),
        bit(16, "RTM", "the exception occurred in an RTM region with advanced debugging"),
        reserved(17, 63),
    ),
)

DEBUGCTL = Layout(
    "DEBUGCTL",
    64,
    "SDM 3B §17.4.1",
    (
        bit(0, "LBR", "record last branches"),
        bit(1, "BTF", "single-step on branches"),
        bit(2, "BLD", "#DB on bus locks"),
        reserved(3, 5),
        bit(6, "TR", "send branch trace messages"),
        bit(7, "BTS", "store branch trace messages"),
        bit(8, "BTINT", "interrupt when the branch trace store is full"),
        bit(9, "BTS_OFF_OS", "no branch trace store at CPL 0"),
        bit(10, "BTS_OFF_USR", "no branch trace store at CPL above 0"),
        bit(11, "FREEZE_LBRS_ON_PMI", "freeze the last-branch records on a PMI"),
        bit(12, "FREEZE_PERFMON_ON_PMI", "freeze the counters on a PMI"),
        bit(13, "ENABLE_UNCORE_PMI", "uncore counters may interrupt"),
        bit(14, "FREEZE_WHILE_SMM", "freeze counters and tracing in SMM"),
        bit(15, "RTM_DEBUG", "advanced debugging of RTM regions"),
        reserved(16, 63),
    ),
)

S_CET = Layout(
    "S_CET",
    64,
    "SDM 1 §17.2.1",
    (
        bit(0, "SH_STK_EN", "shadow stacks"),
        bit(1, "WR_SHSTK_EN", "WRSS may write shadow stacks"),
        bit(2, "ENDBR_EN", "indirect-branch tracking"),
        bit(3, "LEG_IW_EN", "legacy code may be reached by indirect branches"),
        bit(4, "NO_TRACK_EN", "no-track prefixes count"),
        bit(5, "SUPPRESS_DIS", "tracking is not suppressed"),
        reserved(6, 9),
        bit(10, "SUPPRESS", "tracking is suppressed"),
        bit(11, "TRACKER", "an ENDBRANCH is awaited"),
        address(12, 63, "legacy_bitmap", "linear address of the legacy code-page bitmap"),
    ),
)

BNDCFGS = Layout(
    "BNDCFGS",
    64,
    "SDM 1 §E.3.5",
    (
        bit(0, "EN", "MPX at CPL 0"),
        bit(1, "BNDPRESERVE", "branches without BND keep the bounds"),
        reserved(2, 11),
        address(12, 63, "directory", "linear address of the bound directory"),
    ),
)

MSR_ENTRY = Layout(
    "MSR_ENTRY",
    128,
    "SDM 3C §24.7.2",
    (
        bits(0, 31, "index", "number of the MSR"),
        reserved(32, 63),
        bits(64, 127, "data", "value to load, or stored"),
    ),
)

PERF_GLOBAL_CTRL = Layout(
    "PERF_GLOBAL_CTRL",
    64,
    "SDM 3B §18.2.2",
    (
        bits(0, 7, "PMC", "bit n enables general-purpose counter n"),
        reserved(8, 31),
        bits(32, 35, "FIXED", "bit n enables fixed-function counter n"),
        reserved(36, 47),
        bit(48, "PERF_METRICS", "enables the performance metrics"),
        reserved(49, 63),
    ),
)

RTIT_CTL = Layout(
    "RTIT_CTL",
    64,
    "SDM 3C §35.2.7.2",
    (
        bit(0, "TraceEn", "tracing is on"),
        bit(1, "CYCEn", "cycle-count packets"),
        bit(2, "OS", "trace CPL 0"),
        bit(3, "User", "trace CPL above 0"),
        bit(4, "PwrEvtEn", "power-event packets"),
        bit(5, "FUPonPTW", "a flow-update packet after each PTWRITE packet"),
        bit(6, "FabricEn", "output to the trace transport"),
        bit(7, "CR3Filter", "trace one CR3 only"),
        bit(8, "ToPA", "output by a table of physical addresses"),
        bit(9, "MTCEn", "mini time counter packets"),
        bit(10, "TSCEn", "time-stamp packets"),
        bit(11, "DisRETC", "returns are not compressed"),
        bit(12, "PTWEn", "PTWRITE packets"),
        bit(13, "BranchEn", "change-of-flow packets"),
        bits(14, 17, "MTCFreq", "frequency of mini time counter packets"),
        reserved(18),
        bits(19, 22, "CycThresh", "threshold of cycle-count packets"),
        reserved(23),
        bits(24, 27, "PSBFreq", "frequency of stream-boundary packets"),
        reserved(28, 30),
        bit(31, "EventEn", "event packets"),
        bits(32, 35, "ADDR0_CFG", "use of address range 0"),
        bits(36, 39, "ADDR1_CFG", "use of address range 1"),
        bits(40, 43, "ADDR2_CFG", "use of address range 2"),
        bits(44, 47, "ADDR3_CFG", "use of address range 3"),
        reserved(48, 54),
        bit(55, "DisTNT", "no taken/not-taken packets"),
        bit(56, "InjectPsbPmiOnEnable", "deliver what was pending when tracing was disabled"),
        reserved(57, 63),
    ),
)

LBR_CTL = Layout(
    "LBR_CTL",
    64,
    "SDM 3B §18.1",
    (
        bit(0, "LBREn", "record branches"),
        bit(1, "OS", "record at CPL 0"),
        bit(2, "USR", "record at CPL above 0"),
        bit(3, "CALL_STACK", "call-stack mode"),
        reserved(4, 15),
        bit(16, "COND", "record conditional branches"),
        bit(17, "NEAR_REL_JMP", "record near relative jumps"),
        bit(18, "NEAR_IND_JMP", "record near indirect jumps"),
        bit(19, "NEAR_REL_CALL", "record near relative calls"),
        bit(20, "NEAR_IND_CALL", "record near indirect calls"),
        bit(21, "NEAR_RET", "record near returns"),
        bit(22, "OTHER_BRANCH", "record other branches"),
        reserved(23, 63),
    ),
)
