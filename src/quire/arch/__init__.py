"""The manual as data: bit layouts, registers, table entries, faults, exits, the VMCS, CPU profiles.

Contract of the room. Everything here is a constant or a pure function of integers: no state, no third-party import
(``quire --help`` imports it); CPU profiles alone are read from files, TOML beside the code or a user's own. Every bit
is declared once, in a :class:`~quire.arch.layout.Layout` that covers its whole width; masks for kernels, decoders and
documentation are derived from that. Every public layout cites the manual as ``SDM 3C §28.3.2``: volume and section of
Intel's *Software Developer's Manual* as numbered in 2020 to 2022, where chapter 28 of volume 3C is the VMX
support for address translation. Editions from December 2022 on number the chapters of volume 3C that follow
22 one higher; the 2016 edition has EPT at 28.2 and its caching at 28.3. What that manual lacks cites AMD's (``APM 2
§15.25.6``), the FRED specification 5.0 (``FRED §9``), or by its chapter's name the reference of Instruction Set
Extensions (``ISE §LAM``), whose chapters are numbered anew in each edition.

Imports nothing from Quire but :mod:`quire.errors`. Fails with MisuseError, and with FormatError for the file of a CPU
profile: what a guest does wrong is a value that the rooms below return. ``quire.arch.vmcs.encode`` is not offered here,
its name says nothing outside its module.
"""

from quire.arch.amd import AMD_EFER, AMD_PF_ERROR, NPF_EXITINFO1, describe_amd_page_fault
from quire.arch.apic import APIC_BASE, APIC_LVT, APIC_SPURIOUS, APIC_VERSION, X2APIC_ICR
from quire.arch.capabilities import (
    VMCS_REVISION,
    VMX_BASIC,
    VMX_CONTROLS,
    VMX_MISC,
    VMX_VMCS_ENUM,
    Allowed,
    VmxCapabilities,
    VmxMsr,
)
from quire.arch.controls import (
    ENTRY_CONTROLS,
    EXIT_CONTROLS,
    PIN_BASED,
    PRIMARY_CONTROLS,
    SECONDARY_CONTROLS,
    SECONDARY_EXIT_CONTROLS,
    TERTIARY_CONTROLS,
    VM_FUNCTION_CONTROLS,
)
from quire.arch.cpuid import (
    CPUID_1_ECX,
    CPUID_1_EDX,
    CPUID_7_EBX,
    CPUID_80000008_EAX,
    HWCAP,
    cpuid,
    machine_cpuid,
)
from quire.arch.entries import (
    INDEX_BITS,
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGES,
    PDE,
    PDE_2M,
    PDPTE,
    PDPTE_1G,
    PML4E,
    PML5E,
    PTE,
    physical_reserved,
)
from quire.arch.ept import (
    EPT_MEMORY_TYPES,
    EPT_PDE,
    EPT_PDE_2M,
    EPT_PDPTE,
    EPT_PDPTE_1G,
    EPT_PML4E,
    EPT_PML5E,
    EPT_PTE,
    EPTP,
    SPPT_ENTRY,
    ep4ta,
    ept_layout,
    ept_misconfiguration,
)
from quire.arch.exit_words import describe_exit
from quire.arch.exits import (
    APIC_ACCESS_QUALIFICATION,
    CR_ACCESS_QUALIFICATION,
    DEBUG_QUALIFICATION,
    ENTRY_FAILURE,
    EPT_VIOLATION_QUALIFICATION,
    EXIT_REASON,
    INTERRUPTION_INFO,
    NMI_UNBLOCKING_QUALIFICATION,
    SPP_QUALIFICATION,
    TASK_SWITCH_QUALIFICATION,
    ExitReason,
    InterruptionType,
)
from quire.arch.faults import (
    PF_ERROR,
    Access,
    Vector,
    describe_page_fault,
)
from quire.arch.geometry import Held, Side, TlbGeometry, WalkCacheGeometry
from quire.arch.guest_state import (
    BNDCFGS,
    DEBUGCTL,
    INTERRUPTIBILITY,
    LBR_CTL,
    MSR_ENTRY,
    PENDING_DEBUG_EXCEPTIONS,
    PERF_GLOBAL_CTRL,
    RTIT_CTL,
    S_CET,
    ActivityState,
)
from quire.arch.instruction_exits import (
    INVPCID_DESCRIPTOR,
    INVPCID_INFORMATION,
    IO_QUALIFICATION,
    MOV_DR_QUALIFICATION,
)
from quire.arch.known_profiles import ARCHITECTURE, SKYLAKE_X, profile_by_name, profile_names
from quire.arch.layout import (
    LOW32,
    WORD,
    Field,
    Kind,
    Layout,
    address,
    bit,
    bits,
    ignored,
    reserved,
)
from quire.arch.legacy import (
    PAE_PDE,
    PAE_PDE_2M,
    PAE_PDPTE,
    PAE_PTE,
    PDE_4M,
    PDE_32,
    PTE_32,
    pse36_reserved,
)
from quire.arch.memory_types import (
    PAT_RESET,
    MemoryType,
    combined_memory_type,
    pat_index,
    pat_memory_type,
)
from quire.arch.modes import (
    PagingMode,
    entry_layout,
    gva_index,
    is_canonical,
    level_shift,
    linear_width,
    page_size,
    paging_mode,
)
from quire.arch.newer_msrs import (
    FRED_CONFIG,
    PASID,
    TME_ACTIVATE,
    TME_CAPABILITY,
    UINTR_MISC,
    UINTR_TT,
)
from quire.arch.profile import EPT_VPID_CAP, CpuProfile
from quire.arch.registers import (
    CR0,
    CR3,
    CR4,
    DR6,
    EFER,
    GENERAL,
    MOV_TO_CR3,
    RFLAGS,
    pcid,
)
from quire.arch.replacement import Replacement
from quire.arch.routing_tables import PASID_DIRECTORY_ENTRY, PASID_TABLE_ENTRY, PID_POINTER, UITT_ENTRY, UPID
from quire.arch.segments import (
    ACCESS_RIGHTS,
    GATE_SIZE,
    IDT_GATE,
    SEGMENT_DESCRIPTOR,
    SELECTOR,
    SELECTOR_ERROR,
    GateType,
    access_rights,
    gate_offset,
    ist_offset,
    rsp_offset,
)
from quire.arch.vmcs import (
    NO_VMCS,
    VMCS_ENCODING,
    VMCS_FIELDS,
    VmcsField,
    VmcsType,
    VmcsWidth,
    VmInstructionError,
    field_by_encoding,
    field_by_name,
)
from quire.arch.vmcs_layouts import VMCS_LAYOUTS

__all__ = [  # noqa: RUF022 - grouped by module, as the room is read
    # What AMD's processors say otherwise
    "AMD_EFER",
    "AMD_PF_ERROR",
    "NPF_EXITINFO1",
    "describe_amd_page_fault",
    # MSRs of newer processors
    "FRED_CONFIG",
    "PASID",
    "PASID_DIRECTORY_ENTRY",
    "PASID_TABLE_ENTRY",
    "PID_POINTER",
    "TME_ACTIVATE",
    "TME_CAPABILITY",
    "UINTR_MISC",
    "UINTR_TT",
    "UITT_ENTRY",
    "UPID",
    # How bits are declared
    "LOW32",
    "WORD",
    "Field",
    "Kind",
    "Layout",
    "address",
    "bit",
    "bits",
    "ignored",
    "reserved",
    # Registers
    "CR0",
    "CR3",
    "CR4",
    "DR6",
    "EFER",
    "GENERAL",
    "MOV_TO_CR3",
    "RFLAGS",
    "pcid",
    # Segments and gates
    "ACCESS_RIGHTS",
    "GATE_SIZE",
    "IDT_GATE",
    "SEGMENT_DESCRIPTOR",
    "SELECTOR",
    "SELECTOR_ERROR",
    "GateType",
    "access_rights",
    "gate_offset",
    "ist_offset",
    "rsp_offset",
    # Guest paging-structure entries
    "INDEX_BITS",
    "PAGE_SHIFT",
    "PAGES",
    "PAGE_SIZE",
    "PDE",
    "PDE_2M",
    "PDPTE",
    "PDPTE_1G",
    "PML4E",
    "PML5E",
    "PTE",
    "physical_reserved",
    # Entries of 32-bit and PAE paging
    "PAE_PDE",
    "PAE_PDE_2M",
    "PAE_PDPTE",
    "PAE_PTE",
    "PDE_32",
    "PDE_4M",
    "PTE_32",
    "pse36_reserved",
    # Paging modes
    "PagingMode",
    "entry_layout",
    "gva_index",
    "is_canonical",
    "level_shift",
    "linear_width",
    "page_size",
    "paging_mode",
    # Extended page tables
    "EPTP",
    "EPT_MEMORY_TYPES",
    "EPT_PDE",
    "EPT_PDE_2M",
    "EPT_PDPTE",
    "EPT_PDPTE_1G",
    "EPT_PML4E",
    "EPT_PML5E",
    "EPT_PTE",
    "SPPT_ENTRY",
    "ep4ta",
    "ept_layout",
    "ept_misconfiguration",
    # Memory types
    "PAT_RESET",
    "MemoryType",
    "combined_memory_type",
    "pat_index",
    "pat_memory_type",
    # Exceptions
    "PF_ERROR",
    "Access",
    "Vector",
    "describe_page_fault",
    # VM exits
    "APIC_ACCESS_QUALIFICATION",
    "CR_ACCESS_QUALIFICATION",
    "DEBUG_QUALIFICATION",
    "ENTRY_FAILURE",
    "EPT_VIOLATION_QUALIFICATION",
    "EXIT_REASON",
    "INTERRUPTION_INFO",
    "INVPCID_DESCRIPTOR",
    "INVPCID_INFORMATION",
    "IO_QUALIFICATION",
    "MOV_DR_QUALIFICATION",
    "NMI_UNBLOCKING_QUALIFICATION",
    "SPP_QUALIFICATION",
    "TASK_SWITCH_QUALIFICATION",
    "ExitReason",
    "InterruptionType",
    "describe_exit",
    # VM-execution, VM-entry and VM-exit controls
    "ENTRY_CONTROLS",
    "EXIT_CONTROLS",
    "PIN_BASED",
    "PRIMARY_CONTROLS",
    "SECONDARY_CONTROLS",
    "SECONDARY_EXIT_CONTROLS",
    "TERTIARY_CONTROLS",
    "VM_FUNCTION_CONTROLS",
    # Capabilities of VMX
    "VMCS_REVISION",
    "VMX_BASIC",
    "VMX_CONTROLS",
    "VMX_MISC",
    "VMX_VMCS_ENUM",
    "Allowed",
    "VmxCapabilities",
    "VmxMsr",
    # Guest state besides registers and segments
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
    # The VMCS
    "NO_VMCS",
    "VMCS_ENCODING",
    "VMCS_FIELDS",
    "VMCS_LAYOUTS",
    "VmInstructionError",
    "VmcsField",
    "VmcsType",
    "VmcsWidth",
    "field_by_encoding",
    "field_by_name",
    # The local APIC
    "APIC_BASE",
    "APIC_LVT",
    "APIC_SPURIOUS",
    "APIC_VERSION",
    "X2APIC_ICR",
    # CPUID
    "CPUID_1_ECX",
    "CPUID_1_EDX",
    "CPUID_7_EBX",
    "CPUID_80000008_EAX",
    "HWCAP",
    "cpuid",
    "machine_cpuid",
    # Processor models
    "ARCHITECTURE",
    "EPT_VPID_CAP",
    "SKYLAKE_X",
    "CpuProfile",
    "Held",
    "Replacement",
    "Side",
    "TlbGeometry",
    "WalkCacheGeometry",
    "profile_by_name",
    "profile_names",
]
