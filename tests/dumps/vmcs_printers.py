"""Prints a VMCS as hypervisors do, written from what they print and not from the parsers."""

from collections.abc import Iterator, Mapping

__all__ = ["kvm_5_vmcs", "kvm_6_vmcs", "printed_by_kvm", "xen_vmcs"]

_SEGMENTS = ("CS", "DS", "SS", "ES", "FS", "GS")
#: Fields that every KVM prints: without conditions on controls.
_ALWAYS = """
guest_cr0 cr0_read_shadow cr0_guest_host_mask guest_cr4 cr4_read_shadow cr4_guest_host_mask guest_cr3 guest_pdpte0
guest_pdpte1 guest_pdpte2 guest_pdpte3 guest_rsp guest_rip guest_rflags guest_dr7 guest_ia32_sysenter_esp
guest_ia32_sysenter_cs guest_ia32_sysenter_eip guest_ia32_efer guest_ia32_pat guest_ia32_debugctl
guest_pending_debug_exceptions guest_interruptibility_state guest_activity_state host_rip host_rsp
host_cs_selector host_ss_selector host_ds_selector host_es_selector host_fs_selector host_gs_selector host_tr_selector
host_fs_base host_gs_base host_tr_base host_gdtr_base host_idtr_base host_cr0 host_cr3 host_cr4 host_ia32_sysenter_esp
host_ia32_sysenter_cs host_ia32_sysenter_eip host_ia32_efer host_ia32_pat pin_based_controls
primary_processor_based_controls secondary_processor_based_controls vm_entry_controls vm_exit_controls exception_bitmap
page_fault_error_code_mask page_fault_error_code_match vm_entry_interruption_information vm_entry_exception_error_code
vm_entry_instruction_length vm_exit_interruption_information vm_exit_interruption_error_code vm_exit_instruction_length
exit_reason exit_qualification idt_vectoring_information idt_vectoring_error_code tsc_offset tpr_threshold
apic_access_address virtual_apic_address ept_pointer ple_gap ple_window virtual_processor_identifier
guest_gdtr_limit guest_gdtr_base guest_idtr_limit guest_idtr_base
"""


def printed_by_kvm() -> list[str]:
    """Return the names of the fields that :func:`kvm_5_vmcs` prints."""
    names = _ALWAYS.split()
    for segment in (*_SEGMENTS, "LDTR", "TR"):
        names += [
            f"guest_{segment.lower()}_{part}" for part in ("selector", "access_rights", "limit", "base")
        ]
    return names


def _segment(f: Mapping[str, int], name: str) -> str:
    low = name.lower()
    return (
        f"{name + ':':<5}sel=0x{f[f'guest_{low}_selector']:04x}, attr=0x{f[f'guest_{low}_access_rights']:05x}, "
        f"limit=0x{f[f'guest_{low}_limit']:08x}, base=0x{f[f'guest_{low}_base']:016x}"
    )


def _table(f: Mapping[str, int], name: str) -> str:
    low = name.lower()
    return f"{name}:{'':27}limit=0x{f[f'guest_{low}_limit']:08x}, base=0x{f[f'guest_{low}_base']:016x}"


def _shadowed(f: Mapping[str, int], n: int) -> str:
    return (
        f"CR{n}: actual=0x{f[f'guest_cr{n}']:016x}, shadow=0x{f[f'cr{n}_read_shadow']:016x}, "
        f"gh_mask={f[f'cr{n}_guest_host_mask']:016x}"
    )


def _guest(f: Mapping[str, int]) -> Iterator[str]:
    yield "*** Guest State ***"
    yield _shadowed(f, 0)
    yield _shadowed(f, 4)
    yield f"CR3 = 0x{f['guest_cr3']:016x}"
    yield f"PDPTR0 = 0x{f['guest_pdpte0']:016x}  PDPTR1 = 0x{f['guest_pdpte1']:016x}"
    yield f"PDPTR2 = 0x{f['guest_pdpte2']:016x}  PDPTR3 = 0x{f['guest_pdpte3']:016x}"
    yield f"RSP = 0x{f['guest_rsp']:016x}  RIP = 0x{f['guest_rip']:016x}"
    yield f"RFLAGS=0x{f['guest_rflags']:08x}         DR7 = 0x{f['guest_dr7']:016x}"
    yield _sysenter(f, "guest")
    for name in _SEGMENTS:
        yield _segment(f, name)
    yield _table(f, "GDTR")
    yield _segment(f, "LDTR")
    yield _table(f, "IDTR")
    yield _segment(f, "TR")


def _sysenter(f: Mapping[str, int], who: str) -> str:
    return (
        f"Sysenter RSP={f[f'{who}_ia32_sysenter_esp']:016x} CS:RIP={f[f'{who}_ia32_sysenter_cs']:04x}:"
        f"{f[f'{who}_ia32_sysenter_eip']:016x}"
    )


def _guest_end(f: Mapping[str, int]) -> Iterator[str]:
    yield (
        f"DebugCtl = 0x{f['guest_ia32_debugctl']:016x}  "
        f"DebugExceptions = 0x{f['guest_pending_debug_exceptions']:016x}"
    )
    yield (
        f"Interruptibility = {f['guest_interruptibility_state']:08x}  "
        f"ActivityState = {f['guest_activity_state']:08x}"
    )


def _host(f: Mapping[str, int], symbol: str = "") -> Iterator[str]:
    yield "*** Host State ***"
    yield f"RIP = 0x{f['host_rip']:016x}{symbol}  RSP = 0x{f['host_rsp']:016x}"
    yield " ".join(
        f"{one}={f[f'host_{one.lower()}_selector']:04x}" for one in ("CS", "SS", "DS", "ES", "FS", "GS", "TR")
    )
    yield f"FSBase={f['host_fs_base']:016x} GSBase={f['host_gs_base']:016x} TRBase={f['host_tr_base']:016x}"
    yield f"GDTBase={f['host_gdtr_base']:016x} IDTBase={f['host_idtr_base']:016x}"
    yield f"CR0={f['host_cr0']:016x} CR3={f['host_cr3']:016x} CR4={f['host_cr4']:016x}"
    yield _sysenter(f, "host")


def _events(f: Mapping[str, int]) -> Iterator[str]:
    yield (
        f"ExceptionBitmap={f['exception_bitmap']:08x} PFECmask={f['page_fault_error_code_mask']:08x} "
        f"PFECmatch={f['page_fault_error_code_match']:08x}"
    )
    yield (
        f"VMEntry: intr_info={f['vm_entry_interruption_information']:08x} "
        f"errcode={f['vm_entry_exception_error_code']:08x} ilen={f['vm_entry_instruction_length']:08x}"
    )
    yield (
        f"VMExit: intr_info={f['vm_exit_interruption_information']:08x} "
        f"errcode={f['vm_exit_interruption_error_code']:08x} ilen={f['vm_exit_instruction_length']:08x}"
    )
    yield f"        reason={f['exit_reason']:08x} qualification={f['exit_qualification']:016x}"
    yield (
        f"IDTVectoring: info={f['idt_vectoring_information']:08x} errcode={f['idt_vectoring_error_code']:08x}"
    )


def _kvm_end(f: Mapping[str, int]) -> Iterator[str]:
    yield f"TSC Offset = 0x{f['tsc_offset']:016x}"
    yield f"TPR Threshold = 0x{f['tpr_threshold']:02x}"
    yield (
        f"APIC-access addr = 0x{f['apic_access_address']:016x} virt-APIC addr = 0x{f['virtual_apic_address']:016x}"
    )
    yield f"EPT pointer = 0x{f['ept_pointer']:016x}"
    yield f"PLE Gap={f['ple_gap']:08x} Window={f['ple_window']:08x}"
    yield f"Virtual processor ID = 0x{f['virtual_processor_identifier']:04x}"


def kvm_5_vmcs(f: Mapping[str, int]) -> Iterator[str]:
    """Yield the lines of dump_vmcs in kernels before 5.15."""
    yield from _guest(f)
    yield f"EFER =     0x{f['guest_ia32_efer']:016x}  PAT = 0x{f['guest_ia32_pat']:016x}"
    yield from _guest_end(f)
    yield from _host(f)
    yield f"EFER = 0x{f['host_ia32_efer']:016x}  PAT = 0x{f['host_ia32_pat']:016x}"
    yield "*** Control State ***"
    yield (
        f"PinBased={f['pin_based_controls']:08x} CPUBased={f['primary_processor_based_controls']:08x} "
        f"SecondaryExec={f['secondary_processor_based_controls']:08x}"
    )
    yield f"EntryControls={f['vm_entry_controls']:08x} ExitControls={f['vm_exit_controls']:08x}"
    yield from _events(f)
    yield from _kvm_end(f)


def kvm_6_vmcs(f: Mapping[str, int], cpu: int = 3) -> Iterator[str]:
    """Yield the lines of dump_vmcs in kernels of 6.x, tertiary controls as 0."""
    yield f"VMCS 00000000deadbeef, last attempted VM-entry on CPU {cpu}"
    yield from _guest(f)
    yield f"EFER= 0x{f['guest_ia32_efer']:016x}"
    yield f"PAT = 0x{f['guest_ia32_pat']:016x}"
    yield from _guest_end(f)
    yield from _host(f)
    yield f"EFER= 0x{f['host_ia32_efer']:016x}"
    yield f"PAT = 0x{f['host_ia32_pat']:016x}"
    yield "*** Control State ***"
    yield (
        f"CPUBased=0x{f['primary_processor_based_controls']:08x} "
        f"SecondaryExec=0x{f['secondary_processor_based_controls']:08x} TertiaryExec=0x{0:016x}"
    )
    yield (
        f"PinBased=0x{f['pin_based_controls']:08x} EntryControls={f['vm_entry_controls']:08x} "
        f"ExitControls={f['vm_exit_controls']:08x}"
    )
    yield from _events(f)
    yield from _kvm_end(f)


def xen_vmcs(f: Mapping[str, int]) -> Iterator[str]:
    """Yield the lines of Xen's vmcs_dump_vcpu of 4.12 and later."""
    yield "*** Guest State ***"
    yield _shadowed(f, 0)
    yield _shadowed(f, 4)
    yield f"CR3 = 0x{f['guest_cr3']:016x}"
    yield f"PDPTE0 = 0x{f['guest_pdpte0']:016x}  PDPTE1 = 0x{f['guest_pdpte1']:016x}"
    yield f"PDPTE2 = 0x{f['guest_pdpte2']:016x}  PDPTE3 = 0x{f['guest_pdpte3']:016x}"
    rsp, rip = f["guest_rsp"], f["guest_rip"]
    yield f"RSP = 0x{rsp:016x} (0x{rsp:016x})  RIP = 0x{rip:016x} (0x{rip:016x})"
    yield f"RFLAGS=0x{f['guest_rflags']:08x} (0x{f['guest_rflags']:08x})  DR7 = 0x{f['guest_dr7']:016x}"
    yield _sysenter(f, "guest")
    yield "       sel  attr  limit   base"
    for name in (*_SEGMENTS, "GDTR", "LDTR", "IDTR", "TR"):
        low = name.lower()
        tail = f"{f[f'guest_{low}_limit']:08x} {f[f'guest_{low}_base']:016x}"
        if name in ("GDTR", "IDTR"):
            yield f"{name}:            {tail}"
        else:
            yield f"{name:>4}: {f[f'guest_{low}_selector']:04x} {f[f'guest_{low}_access_rights']:05x} {tail}"
    yield f"EFER(VMCS) = 0x{f['guest_ia32_efer']:016x}  PAT = 0x{f['guest_ia32_pat']:016x}"
    yield "PreemptionTimer = 0x00000000  SM Base = 0x00000000"
    yield from _guest_end(f)
    yield from _host(f, " (vmx_asm_vmexit_handler)")
    yield f"EFER = 0x{f['host_ia32_efer']:016x}  PAT = 0x{f['host_ia32_pat']:016x}"
    yield "*** Control State ***"
    yield f"PinBased={f['pin_based_controls']:08x} CPUBased={f['primary_processor_based_controls']:08x}"
    yield f"SecondaryExec={f['secondary_processor_based_controls']:08x} TertiaryExec={0:016x}"
    yield f"EntryControls={f['vm_entry_controls']:08x} ExitControls={f['vm_exit_controls']:08x}"
    yield from _events(f)
    yield f"TSC Offset = 0x{f['tsc_offset']:016x}  TSC Multiplier = 0x{0:016x}"
    yield f"TPR Threshold = 0x{f['tpr_threshold']:02x}  PostedIntrVec = 0x00"
    yield f"EPT pointer = 0x{f['ept_pointer']:016x}  EPTP index = 0x0000"
    yield f"PLE Gap={f['ple_gap']:08x} Window={f['ple_window']:08x}"
    yield f"Virtual processor ID = 0x{f['virtual_processor_identifier']:04x} VMfunc controls = {0:016x}"
