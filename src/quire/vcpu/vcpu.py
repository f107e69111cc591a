"""One vCPU: its VMCS, entered and left as the manual orders, with guest state and exit information in it.

A vCPU does not execute; a Cpu does. Entering checks the VMCS, exiting records why. For ring-3 process guests the
control registers in the VMCS are those of a 64-bit kernel with NX and write protection on.
"""

from quire.arch import (
    CR0,
    CR4,
    EFER,
    ENTRY_CONTROLS,
    EPT_VIOLATION_QUALIFICATION,
    EXIT_CONTROLS,
    INTERRUPTION_INFO,
    PIN_BASED,
    PRIMARY_CONTROLS,
    RFLAGS,
    SECONDARY_CONTROLS,
    CpuProfile,
    ExitReason,
    VmInstructionError,
)
from quire.vcpu.entry_checks import BrokenRule, check_entry
from quire.vcpu.stop import Exit
from quire.vcpu.vmcs import LaunchState, Vmcs

__all__ = ["EntryFailure", "Vcpu"]


class EntryFailure(Exception):
    """A VM entry that the checks refuse: every broken rule, the first of which decided the result."""

    def __init__(self, broken: list[BrokenRule]) -> None:
        super().__init__("; ".join(str(one) for one in broken))
        self.broken = broken


class Vcpu:
    """The VMCS and its life: :meth:`enter` before the Cpu runs, :meth:`exit` when it stopped for an exit."""

    def __init__(self, vmcs: Vmcs, profile: CpuProfile, vpid: int) -> None:
        self.vmcs = vmcs
        self.profile = profile
        self.vpid = vpid
        self.entries = 0
        self.exits: dict[ExitReason, int] = {}
        self._checked = -1  # the VMCS generation whose fields all passed
        vmcs.write_many(
            pin_based_controls=PIN_BASED.encode(external_interrupt_exiting=1, nmi_exiting=1),
            primary_processor_based_controls=PRIMARY_CONTROLS.encode(
                hlt_exiting=1, unconditional_io_exiting=1, activate_secondary_controls=1
            ),
            secondary_processor_based_controls=SECONDARY_CONTROLS.encode(enable_vpid=1),
            vm_entry_controls=ENTRY_CONTROLS.encode(ia32e_guest=1, load_efer=1),
            vm_exit_controls=EXIT_CONTROLS.encode(host_address_space_size=1, save_efer=1, load_efer=1),
            virtual_processor_identifier=vpid,
            guest_cr0=CR0.encode(PE=1, MP=1, ET=1, NE=1, WP=1, AM=1, PG=1),
            guest_cr4=CR4.encode(PAE=1, OSFXSR=1, OSXMMEXCPT=1, VMXE=1),
            guest_ia32_efer=EFER.encode(SCE=1, LME=1, LMA=1, NXE=1),
            guest_rflags=RFLAGS.encode(always_1=1, IF=1),
            vmcs_link_pointer=(1 << 64) - 1,
        )

    def enable_ept(self, eptp: int) -> None:
        """Turn EPT on with the given pointer."""
        self.vmcs.write("ept_pointer", eptp)
        controls = self.vmcs.read("secondary_processor_based_controls")
        controls |= SECONDARY_CONTROLS.mask("enable_ept")
        self.vmcs.write("secondary_processor_based_controls", controls)

    def enter(self, rip: int, rsp: int, rflags: int) -> None:
        """Enter the guest: save the state that it starts from and check it. Raises EntryFailure.

        Only RIP, RSP and RFLAGS are checked anew when nothing else changed since the last entry.
        """
        vmcs = self.vmcs
        vmcs.write("guest_rip", rip)
        vmcs.write("guest_rsp", rsp)
        vmcs.write("guest_rflags", rflags)
        broken = check_entry(vmcs, self.profile, moving_only=self._checked == vmcs.generation)
        if broken:
            if broken[0].rule.result == VmInstructionError.ENTRY_CONTROL_FIELDS:
                vmcs.write("vm_instruction_error", VmInstructionError.ENTRY_CONTROL_FIELDS)
            else:
                vmcs.write("exit_reason", ExitReason.ENTRY_FAILURE_GUEST_STATE | 1 << 31)
            raise EntryFailure(broken)
        self._checked = vmcs.generation
        vmcs.launch_state = LaunchState.LAUNCHED
        self.entries += 1

    def exit(self, stop: Exit, rip: int, rsp: int, rflags: int) -> None:
        """Record a VM exit: reason, qualification, addresses, guest state (SDM 3C §27.2 and §27.3)."""
        vmcs = self.vmcs
        vmcs.record_exit(
            exit_reason=stop.reason,
            exit_qualification=stop.qualification,
            guest_physical_address=stop.gpa,
            vm_exit_instruction_length=stop.instruction_length,
            vm_exit_interruption_information=INTERRUPTION_INFO.encode(),
        )
        if stop.gla is not None and stop.qualification & EPT_VIOLATION_QUALIFICATION.mask("gla_valid"):
            vmcs.record_exit(guest_linear_address=stop.gla)
        vmcs.write("guest_rip", rip)
        vmcs.write("guest_rsp", rsp)
        vmcs.write("guest_rflags", rflags)
        self.count(stop.reason)

    def count(self, reason: ExitReason) -> None:
        """Count one exit for `reason`."""
        self.exits[reason] = self.exits.get(reason, 0) + 1
