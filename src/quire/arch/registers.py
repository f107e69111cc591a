"""Control registers, DR6, EFER and RFLAGS, as far as virtual memory and its entry checks read them.

Models the bits that exist on processors up to FRED. Which bits a given machine lets a guest set is the business of its
profile and of the VMX fixed-bit registers, not of these layouts.
"""

from quire.arch.layout import Field, Layout, address, bit, bits, ignored, reserved

__all__ = ["CR0", "CR3", "CR4", "DR6", "EFER", "GENERAL", "MOV_TO_CR3", "RFLAGS", "pcid"]

#: The general registers, by the numbers that instructions and exit qualifications use (SDM 2A §2.1.5).
GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))

CR0 = Layout(
    "CR0",
    64,
    "SDM 3A §2.5",
    (
        bit(0, "PE", "protection enable"),
        bit(1, "MP", "monitor coprocessor"),
        bit(2, "EM", "emulation"),
        bit(3, "TS", "task switched"),
        bit(4, "ET", "extension type, always 1"),
        bit(5, "NE", "numeric error"),
        # Writes to the nameless bits of the low half are dropped silently; only the high half faults.
        ignored(6, 15),
        bit(16, "WP", "write protect: read-only pages bind the supervisor too"),
        ignored(17),
        bit(18, "AM", "alignment mask"),
        ignored(19, 28),
        bit(29, "NW", "not write-through"),
        bit(30, "CD", "cache disable"),
        bit(31, "PG", "paging"),
        reserved(32, 63),
    ),
)

_ROOT: tuple[Field, ...] = (
    address(12, 51, meaning="physical address of the root paging structure"),
    reserved(52, 60),
    bit(61, "LAM_U57", "user pointers carry metadata in bits 62:57, if the processor has LAM; else reserved"),
    bit(62, "LAM_U48", "user pointers carry metadata in bits 62:48, if LAM_U57 = 0; else as LAM_U57"),
    reserved(63),
)

CR3 = Layout(
    "CR3",
    64,
    "SDM 3A §4.5",
    (
        ignored(0, 2),
        bit(3, "PWT", "page-level write-through of the root, if CR4.PCIDE = 0"),
        bit(4, "PCD", "page-level cache disable of the root, if CR4.PCIDE = 0"),
        ignored(5, 11),
        *_ROOT,
    ),
)

# The same register while CR4.PCIDE = 1: PWT and PCD are then bits of the PCID.
_CR3_PCIDE = Layout(
    "CR3_PCIDE", 64, "SDM 3A §4.5", (bits(0, 11, "pcid", "process-context identifier"), *_ROOT)
)


#: What MOV to CR3 takes while CR4.PCIDE = 1: the register, and whether translations stay.
MOV_TO_CR3 = Layout(
    "MOV_TO_CR3",
    64,
    "SDM 3A §4.10.4.1",
    (
        bits(0, 11, "pcid", "process-context identifier"),
        address(12, 51, meaning="physical address of the root paging structure"),
        reserved(52, 60),
        bit(61, "LAM_U57", "as in CR3"),
        bit(62, "LAM_U48", "as in CR3"),
        bit(63, "no_flush", "translations of the PCID are not invalidated; CR3 itself gets 0 here"),
    ),
)


def pcid(cr3: int) -> int:
    """Return the process-context identifier in bits 11:0 of `cr3`.

    SDM 3A §4.10.1. Only meaningful while CR4.PCIDE = 1; otherwise the current PCID is 0 whatever CR3 holds.
    """
    return _CR3_PCIDE.get(cr3, "pcid")


CR4 = Layout(
    "CR4",
    64,
    "SDM 3A §2.5",
    (
        bit(0, "VME", "virtual-8086 mode extensions"),
        bit(1, "PVI", "protected-mode virtual interrupts"),
        bit(2, "TSD", "time stamp disable"),
        bit(3, "DE", "debugging extensions"),
        bit(4, "PSE", "page size extensions"),
        bit(5, "PAE", "physical address extension"),
        bit(6, "MCE", "machine-check enable"),
        bit(7, "PGE", "page global enable"),
        bit(8, "PCE", "performance-monitoring counter enable"),
        bit(9, "OSFXSR", "operating system uses FXSAVE and FXRSTOR"),
        bit(10, "OSXMMEXCPT", "operating system handles unmasked SIMD exceptions"),
        bit(11, "UMIP", "user-mode instruction prevention"),
        bit(12, "LA57", "57-bit linear addresses: 5-level paging"),
        bit(13, "VMXE", "VMX enable"),
        bit(14, "SMXE", "SMX enable"),
        reserved(15),
        bit(16, "FSGSBASE", "RDFSBASE and its family"),
        bit(17, "PCIDE", "process-context identifiers"),
        bit(18, "OSXSAVE", "XSAVE and extended states"),
        bit(19, "KL", "key locker"),
        bit(20, "SMEP", "supervisor-mode execution prevention"),
        bit(21, "SMAP", "supervisor-mode access prevention"),
        bit(22, "PKE", "protection keys for user-mode pages"),
        bit(23, "CET", "control-flow enforcement"),
        bit(24, "PKS", "protection keys for supervisor-mode pages"),
        bit(25, "UINTR", "user interrupts"),
        reserved(26),
        bit(27, "LASS", "linear-address-space separation: bit 63 of an address binds user and supervisor"),
        bit(28, "LAM_SUP", "supervisor pointers carry metadata: in bits 62:48, with 5-level paging in 62:57"),
        reserved(29, 31),
        bit(32, "FRED", "flexible return and event delivery"),
        reserved(33, 63),
    ),
)

EFER = Layout(
    "EFER",
    64,
    "SDM 3A §2.2.1",
    (
        bit(0, "SCE", "SYSCALL enable"),
        reserved(1, 7),
        bit(8, "LME", "IA-32e mode enable"),
        reserved(9),
        bit(10, "LMA", "IA-32e mode active"),
        bit(11, "NXE", "execute-disable enable"),
        reserved(12, 63),
    ),
)

DR6 = Layout(
    "DR6",
    64,
    "SDM 3B §17.2.3",
    (
        bits(0, 3, "B", "breakpoint conditions met: bit n for breakpoint n"),
        ignored(4, 10),  # read as 1
        bit(11, "BLD", "a bus lock was detected, if 0"),
        ignored(12),  # reads as 0
        bit(13, "BD", "the next instruction accesses a debug register"),
        bit(14, "BS", "a single step"),
        bit(15, "BT", "a task switch"),
        bit(16, "RTM", "the exception occurred in an RTM region with advanced debugging, if 0"),
        ignored(17, 31),  # read as 1
        reserved(32, 63),
    ),
)

RFLAGS = Layout(
    "RFLAGS",
    64,
    "SDM 1 §3.4.3",
    (
        bit(0, "CF", "carry"),
        # A field and not reserved: reserved_mask then is what must be 0, and this is what must be 1.
        bit(1, "always_1", "always 1"),
        bit(2, "PF", "parity"),
        reserved(3),
        bit(4, "AF", "auxiliary carry"),
        reserved(5),
        bit(6, "ZF", "zero"),
        bit(7, "SF", "sign"),
        bit(8, "TF", "trap"),
        bit(9, "IF", "interrupt enable"),
        bit(10, "DF", "direction"),
        bit(11, "OF", "overflow"),
        bits(12, 13, "IOPL", "I/O privilege level"),
        bit(14, "NT", "nested task"),
        reserved(15),
        bit(16, "RF", "resume"),
        bit(17, "VM", "virtual-8086 mode"),
        bit(18, "AC", "alignment check; with SMAP, access control"),
        bit(19, "VIF", "virtual interrupt"),
        bit(20, "VIP", "virtual interrupt pending"),
        bit(21, "ID", "CPUID is available"),
        reserved(22, 63),
    ),
)
