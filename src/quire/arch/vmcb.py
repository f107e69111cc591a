"""AMD's VMCB: each field with its offset and width, the exit codes, and what EXITINFO1 says of a nested page fault.

From appendix B and C of AMD's *Architecture Programmer's Manual*, volume 2: "APM 2" here. Holds no values and no rules:
Quire reads and names what AMD's processors leave, and does not check a VMCB.

Fails with MisuseError for a name that no field has.
"""

from dataclasses import dataclass
from enum import IntEnum

from quire.arch.faults import Vector
from quire.arch.layout import LOW32
from quire.errors import MisuseError, did_you_mean

__all__ = ["VMCB_FIELDS", "SvmExit", "VmcbField", "exit_code_name", "vmcb_field"]

_SAVE = 0x400  #: offset of the state-save area


@dataclass(frozen=True, slots=True)
class VmcbField:
    """One field: its name as Quire writes it, its offset in bytes from the start of the VMCB, its width in bits."""

    name: str
    offset: int
    bits: int

    @property
    def area(self) -> str:
        """The area that it lies in."""
        return "state save" if self.offset >= _SAVE else "control"


# Offset, width in bits, name: APM 2, tables B-1 and B-2, the latter from the start of its area.
_CONTROL = (
    (0x000, 16, "intercept_cr_reads"),
    (0x002, 16, "intercept_cr_writes"),
    (0x004, 16, "intercept_dr_reads"),
    (0x006, 16, "intercept_dr_writes"),
    (0x008, 32, "intercept_exceptions"),
    (0x00C, 32, "intercept_word_3"),
    (0x010, 32, "intercept_word_4"),
    (0x014, 32, "intercept_word_5"),
    (0x03C, 16, "pause_filter_threshold"),
    (0x03E, 16, "pause_filter_count"),
    (0x040, 64, "iopm_base_pa"),
    (0x048, 64, "msrpm_base_pa"),
    (0x050, 64, "tsc_offset"),
    (0x058, 32, "guest_asid"),
    (0x05C, 8, "tlb_control"),
    (0x060, 32, "interrupt_control"),
    (0x064, 32, "interrupt_vector"),
    (0x068, 64, "interrupt_shadow"),
    (0x070, 64, "exitcode"),
    (0x078, 64, "exitinfo1"),
    (0x080, 64, "exitinfo2"),
    (0x088, 64, "exitintinfo"),
    (0x090, 64, "nested_control"),
    (0x098, 64, "avic_apic_bar"),
    (0x0A0, 64, "ghcb_gpa"),
    (0x0A8, 64, "eventinj"),
    (0x0B0, 64, "n_cr3"),
    (0x0B8, 64, "virtualization_extensions"),
    (0x0C0, 32, "vmcb_clean"),
    (0x0C8, 64, "nrip"),
    (0x0D0, 8, "bytes_fetched"),
    (0x0E0, 64, "avic_backing_page"),
    (0x0F0, 64, "avic_logical_table"),
    (0x0F8, 64, "avic_physical_table"),
    (0x108, 64, "vmsa_pointer"),
    (0x110, 64, "vmgexit_rax"),
    (0x118, 8, "vmgexit_cpl"),
    (0x120, 16, "bus_lock_threshold"),
)
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr")
_SEGMENT_PARTS = ((0x0, 16, "selector"), (0x2, 16, "attributes"), (0x4, 32, "limit"), (0x8, 64, "base"))
_SEGMENT_BYTES = 16
_STATE = (
    (0x0CA, 8, "vmpl"),
    (0x0CB, 8, "cpl"),
    (0x0D0, 64, "efer"),
    (0x148, 64, "cr4"),
    (0x150, 64, "cr3"),
    (0x158, 64, "cr0"),
    (0x160, 64, "dr7"),
    (0x168, 64, "dr6"),
    (0x170, 64, "rflags"),
    (0x178, 64, "rip"),
    (0x1D8, 64, "rsp"),
    (0x1E0, 64, "s_cet"),
    (0x1E8, 64, "ssp"),
    (0x1F0, 64, "isst_address"),
    (0x1F8, 64, "rax"),
    (0x200, 64, "star"),
    (0x208, 64, "lstar"),
    (0x210, 64, "cstar"),
    (0x218, 64, "sfmask"),
    (0x220, 64, "kernel_gs_base"),
    (0x228, 64, "sysenter_cs"),
    (0x230, 64, "sysenter_esp"),
    (0x238, 64, "sysenter_eip"),
    (0x240, 64, "cr2"),
    (0x268, 64, "g_pat"),
    (0x270, 64, "dbgctl"),
    (0x278, 64, "br_from"),
    (0x280, 64, "br_to"),
    (0x288, 64, "last_excp_from"),
    (0x290, 64, "last_excp_to"),
    (0x2E0, 64, "spec_ctrl"),
)


def _fields() -> tuple[VmcbField, ...]:
    """Return every field by offset."""
    found = [VmcbField(name, offset, bits) for offset, bits, name in _CONTROL]
    found += [VmcbField(name, _SAVE + offset, bits) for offset, bits, name in _STATE]
    found += [
        VmcbField(f"{segment}_{part}", _SAVE + _SEGMENT_BYTES * n + offset, bits)
        for n, segment in enumerate(_SEGMENTS)
        for offset, bits, part in _SEGMENT_PARTS
    ]
    return tuple(sorted(found, key=lambda field: field.offset))


#: Every field that Quire names, by offset.
VMCB_FIELDS = _fields()
_BY_NAME = {field.name: field for field in VMCB_FIELDS}


def vmcb_field(name: str) -> VmcbField:
    """Return the VMCB field called `name`. Raises MisuseError, with the closest name, if there is none."""
    found = _BY_NAME.get(name)
    if found is None:
        raise MisuseError(f"No VMCB field is called {name!r}{did_you_mean(name, _BY_NAME)}: see VMCB_FIELDS")
    return found


class SvmExit(IntEnum):
    """Exit codes that stand alone (APM 2, appendix C); accesses to registers and exceptions come in ranges."""

    INTR = 0x60
    NMI = 0x61
    SMI = 0x62
    INIT = 0x63
    VINTR = 0x64
    CR0_SEL_WRITE = 0x65
    IDTR_READ = 0x66
    GDTR_READ = 0x67
    LDTR_READ = 0x68
    TR_READ = 0x69
    IDTR_WRITE = 0x6A
    GDTR_WRITE = 0x6B
    LDTR_WRITE = 0x6C
    TR_WRITE = 0x6D
    RDTSC = 0x6E
    RDPMC = 0x6F
    PUSHF = 0x70
    POPF = 0x71
    CPUID = 0x72
    RSM = 0x73
    IRET = 0x74
    SWINT = 0x75
    INVD = 0x76
    PAUSE = 0x77
    HLT = 0x78
    INVLPG = 0x79
    INVLPGA = 0x7A
    IOIO = 0x7B
    MSR = 0x7C
    TASK_SWITCH = 0x7D
    FERR_FREEZE = 0x7E
    SHUTDOWN = 0x7F
    VMRUN = 0x80
    VMMCALL = 0x81
    VMLOAD = 0x82
    VMSAVE = 0x83
    STGI = 0x84
    CLGI = 0x85
    SKINIT = 0x86
    RDTSCP = 0x87
    ICEBP = 0x88
    WBINVD = 0x89
    MONITOR = 0x8A
    MWAIT = 0x8B
    MWAIT_CONDITIONAL = 0x8C
    XSETBV = 0x8D
    RDPRU = 0x8E
    EFER_WRITE_TRAP = 0x8F
    INVLPGB = 0xA0
    INVLPGB_ILLEGAL = 0xA1
    INVPCID = 0xA2
    MCOMMIT = 0xA3
    TLBSYNC = 0xA4
    BUSLOCK = 0xA5
    IDLE_HLT = 0xA6
    NPF = 0x400
    AVIC_INCOMPLETE_IPI = 0x401
    AVIC_NOACCEL = 0x402
    VMGEXIT = 0x403


_SINGLE = {int(code): code.name for code in SvmExit}
_RANGES = (
    (0x00, 16, "read of CR{}"),
    (0x10, 16, "write of CR{}"),
    (0x20, 16, "read of DR{}"),
    (0x30, 16, "write of DR{}"),
    (0x90, 16, "write trap of CR{}"),
)
_EXCEPTIONS = 0x40
_VECTORS = {int(vector): f"#{vector.name}" for vector in Vector}
_INVALID = LOW32  # the low half of -1: VMRUN refused the state


def exit_code_name(code: int) -> str:
    """Return an exit code in words, of 32 or 64 bits; one that is not assigned is shown by number."""
    if code & _INVALID == _INVALID:
        return "INVALID: VMRUN refused the state in the VMCB"
    if code in _SINGLE:
        return _SINGLE[code]
    if _EXCEPTIONS <= code < _EXCEPTIONS + 32:
        vector = code - _EXCEPTIONS
        return f"exception {_VECTORS.get(vector, vector)}"
    for first, count, words in _RANGES:
        if first <= code < first + count:
            return words.format(code - first)
    return f"exit code {code:#x}, not assigned"
