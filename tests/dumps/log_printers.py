"""Prints page faults, EPT misconfigurations, VMCBs and registers as kernels and QEMU do, by tables of its own."""

from collections.abc import Iterator, Mapping, Sequence

__all__ = ["ept_misconfiguration", "linux_oops", "qemu_registers", "vmcb", "vmcb_values"]

_ACCESSES = {0: "read access", 2: "write access", 16: "instruction fetch"}
_CAUSES = ((8, "reserved bit violation"), (32, "protection keys violation"))


def linux_oops(address: int, code: int, walk: Sequence[int], registers: Mapping[str, int]) -> Iterator[str]:
    """Yield the lines of a page fault in kernels of 5.x and 6.x; `walk` has PGD, P4D and so on, as far as it went."""
    who = "user" if code & 4 else "supervisor"
    cause = next((words for bit, words in _CAUSES if code & bit), "permissions violation")
    yield f"BUG: unable to handle page fault for address: {address:016x}"
    yield f"#PF: {who} {_ACCESSES[code & 0x12]} in {'user' if code & 4 else 'kernel'} mode"
    yield f"#PF: error_code(0x{code:04x}) - {cause if code & 1 else 'not-present page'}"
    yield " ".join(
        f"{name} {entry:x}" for name, entry in zip(("PGD", "P4D", "PUD", "PMD", "PTE"), walk, strict=False)
    )
    yield f"Oops: {code:04x} [#1] PREEMPT SMP NOPTI"
    yield "CPU: 0 PID: 77 Comm: insmod Not tainted 6.6.1 #3"
    yield "RIP: 0010:fault_here+0x11/0x30 [probe]"
    yield f"RSP: 0018:ffffc90000abcd50 EFLAGS: {registers['EFLAGS']:08x}"
    yield f"CS:  0010 DS: 0000 ES: 0000 CR0: {registers['CR0']:016x}"
    yield f"CR2: {address:016x} CR3: {registers['CR3']:016x} CR4: {registers['CR4']:016x}"


def ept_misconfiguration(gpa: int, entries: Sequence[int]) -> Iterator[str]:
    """Yield what KVM printed up to 4.x; `entries` from level 4 down."""
    yield "EPT: Misconfiguration."
    yield f"EPT: GPA: 0x{gpa:x}"
    for level, entry in zip((4, 3, 2, 1), entries, strict=False):
        yield f"ept_misconfig_inspect_spte: spte 0x{entry:x} level {level}"


#: Label, printf width (0 is decimal) and our name, in KVM's order.
_VMCB = (
    ("cr_read", 4, "intercept_cr_reads"),
    ("cr_write", 4, "intercept_cr_writes"),
    ("dr_read", 4, "intercept_dr_reads"),
    ("dr_write", 4, "intercept_dr_writes"),
    ("exceptions", 8, "intercept_exceptions"),
    ("pause filter count", 0, "pause_filter_count"),
    ("pause filter threshold", 0, "pause_filter_threshold"),
    ("iopm_base_pa", 16, "iopm_base_pa"),
    ("msrpm_base_pa", 16, "msrpm_base_pa"),
    ("tsc_offset", 16, "tsc_offset"),
    ("asid", 0, "guest_asid"),
    ("tlb_ctl", 0, "tlb_control"),
    ("int_ctl", 8, "interrupt_control"),
    ("int_vector", 8, "interrupt_vector"),
    ("int_state", 8, "interrupt_shadow"),
    ("exit_code", 8, "exitcode"),
    ("exit_info1", 16, "exitinfo1"),
    ("exit_info2", 16, "exitinfo2"),
    ("exit_int_info", 8, "exitintinfo"),
    ("nested_ctl", 0, "nested_control"),
    ("nested_cr3", 16, "n_cr3"),
    ("avic_vapic_bar", 16, "avic_apic_bar"),
    ("event_inj", 8, "eventinj"),
    ("virt_ext", 0, "virtualization_extensions"),
    ("next_rip", 16, "nrip"),
)
_VMCB_PAIRS = (
    ("cr0", "cr2"), ("cr3", "cr4"), ("dr6", "dr7"), ("rip", "rflags"), ("rsp", "rax"), ("star", "lstar"),
    ("cstar", "sfmask"), ("kernel_gs_base", "sysenter_cs"), ("sysenter_esp", "sysenter_eip"),
)  # fmt: skip
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr")


def vmcb_values() -> dict[str, int]:
    """Return each name that :func:`vmcb` prints, with the bits that it has room for."""
    found = {name: 4 * width or 16 for _, width, name in _VMCB} | {"tlb_control": 8, "cpl": 2, "efer": 64}
    found |= {"nested_control": 31, "virtualization_extensions": 31}
    found |= {name: 64 for pair in _VMCB_PAIRS for name in pair}
    for segment in _SEGMENTS:
        found |= {
            f"{segment}_selector": 16,
            f"{segment}_attributes": 16,
            f"{segment}_limit": 32,
            f"{segment}_base": 64,
        }
    return found


def vmcb(f: Mapping[str, int]) -> Iterator[str]:
    """Yield the lines of dump_vmcb of 5.x kernels, without the intercepts."""
    yield "VMCB Control Area:"
    for label, width, name in _VMCB:
        yield f"{label + ':':<20}" + (f"{f[name]:0{width}x}" if width else f"{f[name]}")
    yield "VMCB State Save Area:"
    for one in _SEGMENTS:
        yield (
            f"{one + ':':<5} s: {f[f'{one}_selector']:04x} a: {f[f'{one}_attributes']:04x} "
            f"l: {f[f'{one}_limit']:08x} b: {f[f'{one}_base']:016x}"
        )
    yield f"cpl:            {f['cpl']}                efer:         {f['efer']:016x}"
    for first, second in _VMCB_PAIRS:
        yield f"{first + ':':<15} {f[first]:016x} {second + ':':<13} {f[second]:016x}"


def qemu_registers(r: Mapping[str, int]) -> Iterator[str]:
    """Yield what ``info registers`` prints of a vCPU in long mode; segments are flat."""
    yield f"RAX={r['rax']:016x} RBX={0:016x} RCX={0:016x} RDX={0:016x}"
    yield f"RSI={0:016x} RDI={0:016x} RBP={0:016x} RSP={r['rsp']:016x}"
    yield f"RIP={r['rip']:016x} RFL={r['rflags']:08x} [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0"
    for name, selector, flags in (("CS", 0x10, 0x00A09B00), ("SS", 0x18, 0x00C09300), ("DS", 0, 0x00C00000)):
        yield f"{name} ={selector:04x} {0:016x} ffffffff {flags:08x} DPL=0"
    yield f"TR =0040 {r['tr']:016x} 0000206f 00008b00 DPL=0 TSS64-busy"
    yield f"GDT=     {r['gdt']:016x} 0000007f"
    yield f"CR0={r['cr0']:08x} CR2={0:016x} CR3={r['cr3']:016x} CR4={r['cr4']:08x}"
    yield f"EFER={r['efer']:016x}"
