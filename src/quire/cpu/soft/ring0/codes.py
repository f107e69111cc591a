"""SVM exit codes as the engine reports them (AMD64 Architecture Programmer's Manual 2, appendix C)."""

from enum import IntEnum

__all__ = ["ALWAYS_UNDEFINED", "INTERCEPT", "Intercept"]

#: Instructions that exit whatever the controls say, and that no guest is offered: #UD. By Capstone's names.
ALWAYS_UNDEFINED = (
    "vmcall",
    "vmclear",
    "vmlaunch",
    "vmptrld",
    "vmptrst",
    "vmread",
    "vmresume",
    "vmwrite",
    "vmxoff",
    "vmxon",
    "invept",
    "invvpid",
    "getsec",
)

#: What the engine adds to an exit code when it hands it to UC_HOOK_INTR.
INTERCEPT = 0x100


class Intercept(IntEnum):
    """Exit codes, less :data:`INTERCEPT`. SYSCALL is ours: SVM has no such intercept."""

    READ_CR = 0x00  #: plus the register's number, to 0x0F
    WRITE_CR = 0x10
    READ_DR = 0x20
    WRITE_DR = 0x30
    EXCEPTION = 0x40  #: plus the vector, to 0x5F
    RDTSC = 0x6E  #: RDTSCP too
    RDPMC = 0x6F
    CPUID = 0x72
    RSM = 0x73
    SOFTWARE_INTERRUPT = 0x75  #: INT n and INT3
    INVD = 0x76
    HLT = 0x78
    INVLPG = 0x79
    IO = 0x7B
    MSR = 0x7C
    WBINVD = 0x89  #: INVD too
    MONITOR = 0x8A
    MWAIT = 0x8B
    SYSCALL = 0x200
