"""CPUID as a guest sees it: feature bits and the leaves that user programs read (SDM 2A, CPUID).

The answer is what the soft Cpu executes and no more: SSE2 to SSE4.2, AES, LZCNT, ADX, no XSAVE and so no AVX, no RDRAND
(a guest's randomness is seeded), no BMI, of which it gets BLSI's CF, BZHI and BEXTR of 32 bits wrong. Leaves that are
not listed are zero.
"""

from quire.arch.layout import Layout, bit, bits, reserved
from quire.arch.profile import CpuProfile

__all__ = [
    "CPUID_1_ECX",
    "CPUID_1_EDX",
    "CPUID_7_EBX",
    "CPUID_80000008_EAX",
    "HWCAP",
    "cpuid",
    "machine_cpuid",
]

CPUID_1_EDX = Layout(
    "CPUID_1_EDX",
    32,
    "SDM 2A §3.3",
    (
        bit(0, "FPU", "x87"),
        bit(1, "VME", "virtual-8086 extensions"),
        bit(2, "DE", "debugging extensions"),
        bit(3, "PSE", "4 MiB pages in 32-bit paging"),
        bit(4, "TSC", "RDTSC"),
        bit(5, "MSR", "RDMSR and WRMSR"),
        bit(6, "PAE", "physical-address extension"),
        bit(7, "MCE", "machine-check exception"),
        bit(8, "CX8", "CMPXCHG8B"),
        bit(9, "APIC", "local APIC"),
        reserved(10),
        bit(11, "SEP", "SYSENTER"),
        bit(12, "MTRR", "memory type range registers"),
        bit(13, "PGE", "global pages"),
        bit(14, "MCA", "machine-check architecture"),
        bit(15, "CMOV", "conditional moves"),
        bit(16, "PAT", "page attribute table"),
        bit(17, "PSE36", "4 MiB pages above 4 GiB"),
        bit(18, "PSN", "processor serial number"),
        bit(19, "CLFSH", "CLFLUSH"),
        reserved(20),
        bit(21, "DS", "debug store"),
        bit(22, "ACPI", "thermal monitor"),
        bit(23, "MMX", "MMX"),
        bit(24, "FXSR", "FXSAVE"),
        bit(25, "SSE", "SSE"),
        bit(26, "SSE2", "SSE2"),
        bit(27, "SS", "self snoop"),
        bit(28, "HTT", "several logical processors"),
        bit(29, "TM", "thermal monitor 1"),
        reserved(30),
        bit(31, "PBE", "pending break enable"),
    ),
)

CPUID_1_ECX = Layout(
    "CPUID_1_ECX",
    32,
    "SDM 2A §3.3",
    (
        bit(0, "SSE3", "SSE3"),
        bit(1, "PCLMULQDQ", "carry-less multiplication"),
        bit(2, "DTES64", "64-bit debug store"),
        bit(3, "MONITOR", "MONITOR and MWAIT"),
        bit(4, "DS_CPL", "CPL-qualified debug store"),
        bit(5, "VMX", "virtual-machine extensions"),
        bit(6, "SMX", "safer-mode extensions"),
        bit(7, "EIST", "SpeedStep"),
        bit(8, "TM2", "thermal monitor 2"),
        bit(9, "SSSE3", "SSSE3"),
        bit(10, "CNXT_ID", "L1 context identifier"),
        bit(11, "SDBG", "silicon debug"),
        bit(12, "FMA", "fused multiply-add"),
        bit(13, "CMPXCHG16B", "CMPXCHG16B"),
        bit(14, "xTPR", "task-priority messages"),
        bit(15, "PDCM", "performance and debug capabilities"),
        reserved(16),
        bit(17, "PCID", "process-context identifiers"),
        bit(18, "DCA", "direct cache access"),
        bit(19, "SSE4_1", "SSE4.1"),
        bit(20, "SSE4_2", "SSE4.2"),
        bit(21, "x2APIC", "x2APIC"),
        bit(22, "MOVBE", "MOVBE"),
        bit(23, "POPCNT", "POPCNT"),
        bit(24, "TSC_DEADLINE", "APIC timer by TSC deadline"),
        bit(25, "AES", "AES instructions"),
        bit(26, "XSAVE", "XSAVE"),
        bit(27, "OSXSAVE", "CR4.OSXSAVE"),
        bit(28, "AVX", "AVX"),
        bit(29, "F16C", "half-precision conversions"),
        bit(30, "RDRAND", "RDRAND"),
        bit(31, "HYPERVISOR", "a hypervisor is present"),
    ),
)

CPUID_7_EBX = Layout(
    "CPUID_7_EBX",
    32,
    "SDM 2A §3.3",
    (
        bit(0, "FSGSBASE", "RDFSBASE and its family"),
        reserved(1, 6),
        bit(7, "SMEP", "supervisor-mode execution prevention"),
        reserved(8, 9),
        bit(10, "INVPCID", "INVPCID"),
        reserved(11, 18),
        bit(19, "ADX", "ADCX and ADOX"),
        bit(20, "SMAP", "supervisor-mode access prevention"),
        reserved(21, 31),
    ),
)

CPUID_80000008_EAX = Layout(
    "CPUID_80000008_EAX",
    32,
    "APM 3 §E.4.7",
    (
        bits(0, 7, "physical_bits", "MAXPHYADDR: how many bits a physical address has"),
        bits(8, 15, "linear_bits", "how many bits a linear address has"),
        bits(
            16,
            23,
            "guest_physical_bits",
            "GuestPhysBits: how many a guest may use, as its hypervisor can map; 0 is all",
        ),
        reserved(24, 31),
    ),
)

_FEATURES_EDX = CPUID_1_EDX.mask(
    "FPU",
    "DE",
    "PSE",
    "TSC",
    "MSR",
    "PAE",
    "MCE",
    "CX8",
    "APIC",
    "SEP",
    "MTRR",
    "PGE",
    "MCA",
    "CMOV",
    "PAT",
    "PSE36",
    "CLFSH",
    "MMX",
    "FXSR",
    "SSE",
    "SSE2",
)
_FEATURES_ECX = CPUID_1_ECX.mask(
    "SSE3", "PCLMULQDQ", "SSSE3", "CMPXCHG16B", "SSE4_1", "SSE4_2", "MOVBE", "POPCNT", "AES", "HYPERVISOR"
)
#: CPUID.80000001H:ECX: LAHF in 64-bit mode, LZCNT.
_EXTENDED_ECX = 1 << 0 | 1 << 5
#: What Linux passes as AT_HWCAP: CPUID.1:EDX.
HWCAP = _FEATURES_EDX

_VENDOR = b"GenuineIntel"
_SIGNATURE = 0x00050654  # family 6, model 0x55, stepping 4
_LINE = 64

# (type: 1 data, 2 instruction, 3 unified; level; ways; sets), the deterministic cache parameters of leaf 4.
_CACHES = ((1, 1, 8, 64), (2, 1, 8, 64), (3, 2, 16, 1024), (3, 3, 11, 32768))


def _vendor(at: int) -> int:
    return int.from_bytes(_VENDOR[at : at + 4], "little")


#: Leaves that do not depend on the profile.
_SAME_FOR_ALL: dict[int, tuple[int, int, int, int]] = {
    0: (7, _vendor(0), _vendor(8), _vendor(4)),
    1: (_SIGNATURE, _LINE // 8 << 8 | 1 << 16, _FEATURES_ECX, _FEATURES_EDX),
    2: (0x00FEFF01, 0, 0, 0),  # "ask leaf 4"
    0x80000000: (0x80000008, 0, 0, 0),
}


def cpuid(profile: CpuProfile, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """Return EAX, EBX, ECX, EDX of a CPUID leaf on `profile`; zeros for a leaf that is not modelled. SDM 2A §3.3."""
    if leaf == 4:
        return _cache(subleaf)
    if leaf == 7 and subleaf == 0:
        return 0, CPUID_7_EBX.mask("FSGSBASE", "ADX"), 0, 0
    if leaf == 0x80000001:
        return 0, 0, _EXTENDED_ECX, 1 << 11 | int(profile.nx) << 20 | int(profile.page_1g) << 26 | 1 << 29
    if leaf == 0x80000008:
        widths = CPUID_80000008_EAX.encode(physical_bits=profile.maxphyaddr, linear_bits=profile.linear_bits)
        return widths, 0, 0, 0
    return _SAME_FOR_ALL.get(leaf, (0, 0, 0, 0))


def machine_cpuid(profile: CpuProfile, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """Return a leaf as a guest in ring 0 sees it: with PCID, INVPCID, SMEP and SMAP. SDM 2A §3.3."""
    eax, ebx, ecx, edx = cpuid(profile, leaf, subleaf)
    if leaf == 1:
        ecx |= CPUID_1_ECX.mask("PCID")
    if leaf == 7 and subleaf == 0:
        ebx |= CPUID_7_EBX.mask("SMEP", "INVPCID", "SMAP")
    if leaf == 0x80000001:
        edx |= 1 << 27  # RDTSCP
    return (eax, ebx, ecx, edx)


def _cache(subleaf: int) -> tuple[int, int, int, int]:
    if subleaf >= len(_CACHES):
        return (0, 0, 0, 0)
    kind, level, ways, sets = _CACHES[subleaf]
    return (kind | level << 5 | 1 << 8, (_LINE - 1) | (ways - 1) << 22, sets - 1, 0)
