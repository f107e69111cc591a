"""What AMD's processors say otherwise than Intel's where people paste it: EFER, and #NPF's EXITINFO1 (APM 2 §15.25.6).

Models the names and places, so that an AMD value is read as AMD's. AMD's rules are not checked anywhere in Quire.
"""

from quire.arch.layout import Layout, bit, reserved

__all__ = ["AMD_EFER", "AMD_PF_ERROR", "NPF_EXITINFO1", "describe_amd_page_fault", "describe_npf"]

AMD_EFER = Layout(
    "AMD_EFER",
    64,
    "APM 2 §3.1.7",
    (
        bit(0, "SCE", "SYSCALL enable"),
        reserved(1, 7),
        bit(8, "LME", "long mode enable"),
        reserved(9),
        bit(10, "LMA", "long mode active"),
        bit(11, "NXE", "no-execute enable"),
        bit(12, "SVME", "secure virtual machine enable"),
        bit(13, "LMSLE", "long mode segment limit enable"),
        bit(14, "FFXSR", "fast FXSAVE and FXRSTOR"),
        bit(15, "TCE", "translation cache extension: INVLPG keeps upper-level entries of other addresses"),
        reserved(16),
        bit(17, "MCOMMIT", "MCOMMIT enable"),
        bit(18, "INTWB", "WBINVD and WBNOINVD may be interrupted"),
        reserved(19),
        bit(20, "UAIE", "upper address ignore: bits 63:57 of data addresses are not looked at"),
        bit(21, "AIBRSE", "automatic IBRS"),
        reserved(22, 63),
    ),
)

AMD_PF_ERROR = Layout(
    "AMD_PF_ERROR",
    32,
    "APM 2 §8.4.2",
    (
        bit(0, "P", "the page was present: the access broke a rule; 0, a not-present entry"),
        bit(1, "RW", "the access was a write"),
        bit(2, "US", "the access was a user-mode access"),
        bit(3, "RSV", "a reserved bit was set in an entry"),
        bit(4, "ID", "the access was an instruction fetch"),
        bit(5, "PK", "protection keys forbade the access"),
        bit(6, "SS", "the access was to a shadow stack"),
        reserved(7, 30),
        bit(31, "RMP", "the RMP check of SNP failed"),
    ),
)

NPF_EXITINFO1 = Layout(
    "NPF_EXITINFO1",
    64,
    "APM 2 §15.25.6",
    (
        bit(0, "P", "the nested page was present: the access broke a rule; 0, a not-present entry"),
        bit(1, "RW", "the access was a write"),
        bit(2, "US", "the access was a user-mode one, as every access of nested paging is"),
        bit(3, "RSV", "a reserved bit was set in a nested entry"),
        bit(4, "ID", "the access was an instruction fetch"),
        reserved(5),
        bit(6, "SS", "the access was to a shadow stack"),
        reserved(7, 30),
        bit(31, "RMP", "the RMP check of SNP failed"),
        bit(32, "final", "while the final guest-physical address was translated"),
        bit(33, "table", "while a guest page table was translated"),
        bit(34, "ENC", "the guest's effective C-bit was 1"),
        bit(35, "SIZEM", "sizes of the page and of its RMP entry differ"),
        bit(36, "VMPL", "the VMPL permission check failed"),
        bit(37, "SSS", "the supervisor shadow-stack bit of the leaf"),
        reserved(38, 63),
    ),
)


def describe_amd_page_fault(error_code: int) -> str:
    """Return in words an error code that only AMD delivers, with RMP = 1 (APM 2 §8.4.2). MisuseError if too wide."""
    said = AMD_PF_ERROR.decode(error_code)
    who = "user" if said["US"] else "supervisor"
    what = "instruction fetch" if said["ID"] else "write" if said["RW"] else "read"
    return f"{who} {what}: forbidden by the reverse map table of SNP, which only AMD has"


def describe_npf(exitinfo1: int) -> str:
    """Return EXITINFO1 of a nested page fault in words (APM 2 §15.25.6). MisuseError if it is wider than 64 bits."""
    said = NPF_EXITINFO1.decode(exitinfo1)
    what = "instruction fetch" if said["ID"] else "write" if said["RW"] else "read"
    why = "page not present"
    if said["RMP"]:
        why = "forbidden by the reverse map table"
    elif said["P"]:
        why = "a reserved bit is set in a nested entry" if said["RSV"] else "forbidden by access rights"
    of = (
        "a guest page table" if said["table"] else "the final guest-physical address" if said["final"] else ""
    )
    return f"nested page fault: {what}, {why}{f', of {of}' if of else ''}"
