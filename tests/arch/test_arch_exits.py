"""Exit reasons against SDM 3D Appendix C, qualifications against the vectors measured on Bochs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.arch.exit_words import describe_exit
from quire.arch.exits import (
    CR_ACCESS_QUALIFICATION,
    ENTRY_FAILURE,
    EPT_VIOLATION_QUALIFICATION,
    INTERRUPTION_INFO,
    ExitReason,
    InterruptionType,
)
from quire.errors import MisuseError

GOLDEN = {
    "EXCEPTION_OR_NMI": 0,
    "EXTERNAL_INTERRUPT": 1,
    "TRIPLE_FAULT": 2,
    "INTERRUPT_WINDOW": 7,
    "CPUID": 10,
    "HLT": 12,
    "INVLPG": 14,
    "VMCALL": 18,
    "VMXON": 27,
    "CR_ACCESS": 28,
    "IO_INSTRUCTION": 30,
    "RDMSR": 31,
    "WRMSR": 32,
    "ENTRY_FAILURE_GUEST_STATE": 33,
    "ENTRY_FAILURE_MSR_LOADING": 34,
    "PAUSE": 40,
    "ENTRY_FAILURE_MACHINE_CHECK": 41,
    "APIC_ACCESS": 44,
    "EPT_VIOLATION": 48,
    "EPT_MISCONFIGURATION": 49,
    "INVEPT": 50,
    "VMX_PREEMPTION_TIMER_EXPIRED": 52,
    "INVVPID": 53,
    "XSETBV": 55,
    "INVPCID": 58,
    "VMFUNC": 59,
    "PAGE_MODIFICATION_LOG_FULL": 62,
    "SPP_RELATED_EVENT": 66,
    "BUS_LOCK": 74,
    "TDCALL": 77,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_reason(name: str) -> None:
    assert ExitReason[name] == GOLDEN[name]


def test_reasons_are_complete() -> None:
    assert set(range(86)) - {int(reason) for reason in ExitReason} == {35, 38, 42, 71, 82, 83}
    assert ENTRY_FAILURE == 1 << 31


def test_violation_bits() -> None:
    names = list(EPT_VIOLATION_QUALIFICATION.decode(0))
    assert " ".join(names) == (
        "R W X ept_r ept_w ept_x ept_xu gla_valid final user writable xd "
        "nmi_unblocking shadow_stack sss_leaf verify_paging async"
    )
    assert [EPT_VIOLATION_QUALIFICATION.shift(name) for name in names] == list(range(17))


@pytest.mark.parametrize(
    ("qualification", "text"),
    [
        (0x781, "data read; the entries used allow ---; final access"),
        (0x78A, "data write; the entries used allow R--; final access"),
        (0x79C, "instruction fetch; the entries used allow RW-; final access"),
        (0x083, "data read and data write; the entries used allow ---; guest paging-structure access"),
        (0x5C4, "instruction fetch; the entries used allow --- XU; final access"),
        (0x1101, "data read; the entries used allow ---; no linear address; nmi_unblocking"),
        (0, "no access; the entries used allow ---; no linear address"),
    ],
)
def test_describe_violation(qualification: int, text: str) -> None:
    assert describe_exit(48, qualification) == f"EPT_VIOLATION: {text}"


@pytest.mark.parametrize(
    ("qualification", "text"),
    [
        (0x003, "MOV to CR3 from RAX"),
        (0x903, "MOV to CR3 from R9"),
        (0x510, "MOV from CR0 to RBP"),
        (0x020, "CLTS"),
        (0x0001_0030, "LMSW 0x1 from a register"),
        (0x0001_0070, "LMSW 0x1 from memory"),
    ],
)
def test_describe_cr_access(qualification: int, text: str) -> None:
    assert describe_exit(28, qualification) == f"CR_ACCESS: {text}"


def test_describe_others() -> None:
    assert describe_exit(12, 0) == "HLT"
    assert describe_exit(14, 0x1000) == "INVLPG: linear address 0x1000"
    assert describe_exit(40, 0x1000) == "PAUSE: qualification 0x1000"
    assert describe_exit(35, 0) == "exit reason 0x23, not assigned"
    assert describe_exit(ENTRY_FAILURE | 33, 4) == (
        "VM entry failed, ENTRY_FAILURE_GUEST_STATE: VMCS link pointer"
    )
    assert describe_exit(1 << 27 | 12, 0) == "HLT (enclave)"


@pytest.mark.parametrize(
    ("reason", "qualification", "text"),
    [
        (9, 0x4000_0028, "TASK_SWITCH: to TSS 0x28 by IRET"),
        (9, 0xC000_0028, "TASK_SWITCH: to TSS 0x28 by a task gate"),
        (29, 0x007, "MOV_DR: MOV to DR7 from RAX"),
        (29, 0xF16, "MOV_DR: MOV from DR6 to R15"),
        (30, 0x03F8_0000, "IO_INSTRUCTION: OUT of 1 byte, port 0x3f8 (DX)"),
        (30, 0x0060_004B, "IO_INSTRUCTION: IN of 4 bytes, port 0x60 (immediate)"),
        (30, 0x0080_0031, "IO_INSTRUCTION: REP OUTS of 2 bytes, port 0x80 (DX)"),
        (1 << 31 | 33, 0, "VM entry failed, ENTRY_FAILURE_GUEST_STATE"),
        (1 << 31 | 33, 2, "VM entry failed, ENTRY_FAILURE_GUEST_STATE: PDPTE"),
        (
            1 << 31 | 33,
            3,
            "VM entry failed, ENTRY_FAILURE_GUEST_STATE: NMI injected while MOV SS blocks",
        ),
        (1 << 31 | 33, 9, "VM entry failed, ENTRY_FAILURE_GUEST_STATE: qualification 0x9"),
        (1 << 31 | 34, 3, "VM entry failed, ENTRY_FAILURE_MSR_LOADING: entry 3 of the MSR-load area"),
        (44, 0x10B0, "APIC_ACCESS: data write at offset 0xb0"),
        (44, 0x1_F000, "APIC_ACCESS: guest-physical access, asynchronous"),
        (44, 0x4000, "APIC_ACCESS: access type 0x4, not assigned"),
        (45, 0x31, "VIRTUALIZED_EOI: vector 0x31"),
        (50, 0x20, "INVEPT: displacement 0x20"),
        (53, 0, "INVVPID"),
        (56, 0x300, "APIC_WRITE: offset 0x300 in the virtual-APIC page"),
        (62, 0x1000, "PAGE_MODIFICATION_LOG_FULL: nmi_unblocking"),
        (62, 0, "PAGE_MODIFICATION_LOG_FULL"),
        (66, 0x800, "SPP_RELATED_EVENT: SPPT miss"),
        (66, 0x1000, "SPP_RELATED_EVENT: SPPT misconfiguration; nmi_unblocking"),
    ],
)
def test_describe_qualifications(reason: int, qualification: int, text: str) -> None:
    assert describe_exit(reason, qualification) == text


@pytest.mark.parametrize(
    ("vector", "qualification", "text"),
    [
        (1, 0x4005, "EXCEPTION_OR_NMI: breakpoint 0, breakpoint 2, single step"),
        (1, 0x1_2800, "EXCEPTION_OR_NMI: bus lock, debug register access, RTM region"),
        (14, 0xDEAD_F000, "EXCEPTION_OR_NMI: linear address 0xdeadf000"),
        (14, 0, "EXCEPTION_OR_NMI: linear address 0x0"),
        (2, 0, "EXCEPTION_OR_NMI"),
        (None, 0x10, "EXCEPTION_OR_NMI: qualification 0x10"),
    ],
)
def test_describe_exceptions(vector: int | None, qualification: int, text: str) -> None:
    assert describe_exit(0, qualification, vector) == text


@given(
    st.one_of(st.integers(0, (1 << 32) - 1), st.sampled_from(ExitReason)),
    st.integers(0, (1 << 64) - 1),
    st.none() | st.integers(0, 255),
)
def test_describe_never_fails_on_what_fits(reason: int, qualification: int, vector: int | None) -> None:
    assert describe_exit(reason, qualification, vector)


def test_no_qualification_of_any_exit_breaks_the_words() -> None:
    for reason in ExitReason:
        for n in range(64):
            assert describe_exit(reason, 1 << n)
        assert describe_exit(reason, (1 << 64) - 1)


def test_describe_wrong() -> None:
    with pytest.raises(MisuseError) as caught:
        describe_exit(1 << 32, 0)
    assert str(caught.value) == (
        "EXIT_REASON = 0x100000000 does not fit in 32 bits: give a value from 0x0 to 0xffffffff"
    )


def test_interruption_info() -> None:
    info = INTERRUPTION_INFO.encode(
        vector=14, type=InterruptionType.HARDWARE_EXCEPTION, error_valid=1, valid=1
    )
    assert info == 0x8000_0B0E
    assert INTERRUPTION_INFO.shift("nmi_unblocking") == 12
    assert [int(kind) for kind in InterruptionType] == [0, 2, 3, 4, 5, 6, 7]


def test_cr_access_layout() -> None:
    qualification = CR_ACCESS_QUALIFICATION.encode(cr=4, access_type=1, gpr=15)
    assert qualification == 0xF14
