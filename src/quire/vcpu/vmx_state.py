"""A vCPU in VMX operation: its VMCS, entered and left as the manual orders, with guest state and exit information.

Nothing is executed here; a Cpu does that. Entering checks the VMCS, exiting records why. For ring-3 process guests the
control registers in the VMCS are those of a 64-bit kernel with NX and write protection on.
"""

from quire.arch import (
    CR0,
    EPT_VIOLATION_QUALIFICATION,
    INTERRUPTIBILITY,
    INTERRUPTION_INFO,
    PRIMARY_CONTROLS,
    SECONDARY_CONTROLS,
    CpuProfile,
    ExitReason,
    Vector,
)
from quire.vcpu.checks import BrokenRule
from quire.vcpu.entry import enter
from quire.vcpu.event import Event
from quire.vcpu.process_state import process_state
from quire.vcpu.result import VmSucceed
from quire.vcpu.stop import Exit
from quire.vcpu.vmcs import LaunchState, Vmcs, word_of

__all__ = ["SHADOW", "EntryFailure", "VmxState"]

#: What keeps interrupts from coming in front of one instruction (SDM 3C §24.4.2).
SHADOW = INTERRUPTIBILITY.mask("blocking_by_sti", "blocking_by_mov_ss")

_VALID = INTERRUPTION_INFO.mask("valid")
_GLA_VALID = EPT_VIOLATION_QUALIFICATION.mask("gla_valid")
_CLEAR = LaunchState.CLEAR
_BLOCKING, _CR0 = word_of("guest_interruptibility_state"), word_of("guest_cr0")
_PAGED = CR0.mask("PE", "PG")
# Every exit writes these: words of the region spare the look-up of each name.
_REASON, _QUALIFICATION, _LENGTH = map(
    word_of, ("exit_reason", "exit_qualification", "vm_exit_instruction_length")
)
_INFORMATION = word_of("vm_exit_instruction_information")
_GPA, _GLA = map(word_of, ("guest_physical_address", "guest_linear_address"))
_INTERRUPTION, _INTERRUPTION_ERROR = map(
    word_of, ("vm_exit_interruption_information", "vm_exit_interruption_error_code")
)
_VECTORING, _VECTORING_ERROR = map(word_of, ("idt_vectoring_information", "idt_vectoring_error_code"))
_PENDING, _ERROR_CODE, _ENTRY_LENGTH = map(
    word_of,
    ("vm_entry_interruption_information", "vm_entry_exception_error_code", "vm_entry_instruction_length"),
)


class EntryFailure(Exception):
    """A VM entry that the checks refuse: every broken rule, the first of which decided the result."""

    def __init__(self, broken: tuple[BrokenRule, ...]) -> None:
        super().__init__("; ".join(str(one) for one in broken))
        self.broken = broken


class VmxState:
    """The VMCS and its life: :meth:`enter` before the Cpu runs, :meth:`exit` when it stopped for an exit."""

    def __init__(self, vmcs: Vmcs, profile: CpuProfile, vpid: int) -> None:
        self.vmcs = vmcs
        self.profile = profile
        self.vpid = vpid
        self.entries = 0
        self._emulates = False  # a guest without protection or paging
        self.emulations = (
            0  #: entries that did not take place: Quire emulates a guest that no processor could enter
        )
        self.exits: dict[ExitReason, int] = {}
        self.delivered: dict[int, int] = {}  #: events delivered through the guest's IDT, by vector
        vmcs.write_many(**process_state(profile, vpid))

    def enable_ept(self, eptp: int) -> None:
        """Turn EPT on with the given pointer."""
        self.vmcs.write("ept_pointer", eptp)
        controls = self.vmcs.read("secondary_processor_based_controls")
        controls |= SECONDARY_CONTROLS.mask("enable_ept")
        self.vmcs.write("secondary_processor_based_controls", controls)

    def allow_unrestricted(self) -> None:
        """Let the guest be without protection and paging: by the control for that, or its hypervisor emulates it then.

        The control takes EPT, and a processor that has it.
        """
        controls = self.vmcs.read("secondary_processor_based_controls")
        by_processor = self.profile.vmx.offers("secondary", "unrestricted_guest")
        if SECONDARY_CONTROLS.get(controls, "enable_ept") and by_processor:
            controls |= SECONDARY_CONTROLS.mask("unrestricted_guest")
            self.vmcs.write("secondary_processor_based_controls", controls)
        else:
            self._emulates = True

    def intercept_paging(self) -> None:
        """Make every #PF, MOV to and from CR3, and INVLPG a VM exit: what shadow paging lives on."""
        read = self.vmcs.read
        controls = PRIMARY_CONTROLS.mask("cr3_load_exiting", "cr3_store_exiting", "invlpg_exiting")
        self.vmcs.write_many(
            exception_bitmap=read("exception_bitmap") | 1 << Vector.PF,
            primary_processor_based_controls=read("primary_processor_based_controls") | controls,
        )

    def enter(self, rip: int, rsp: int, rflags: int) -> None:
        """Enter the guest: save the state that it starts from and check it. Raises EntryFailure.

        VMLAUNCH the first time, VMRESUME from then on; see :func:`quire.vcpu.entry.enter`. A guest without protection
        or paging that may be so is entered as an unrestricted one, or emulated: see :meth:`allow_unrestricted`.
        """
        vmcs = self.vmcs
        vmcs.save_pointers(rip, rsp, rflags)
        if self._emulates and ~vmcs.words[_CR0] & _PAGED:
            self.emulations += 1
            return
        result = enter(vmcs, self.profile, launch=vmcs.launch_state is _CLEAR)
        if not isinstance(result, VmSucceed):
            raise EntryFailure(result.broken)
        self.entries += 1

    def exit(self, stop: Exit, rip: int, rsp: int, rflags: int) -> None:
        """Record a VM exit: reason, qualification, addresses, guest state (SDM 3C §27.2 and §27.3)."""
        vmcs = self.vmcs
        words, reason, qualification = vmcs.words, stop.reason, stop.qualification
        words[_REASON] = reason
        words[_QUALIFICATION] = qualification
        words[_GPA] = stop.gpa
        words[_LENGTH] = stop.instruction_length
        words[_INFORMATION] = stop.instruction_information
        if stop.interruption is None is stop.idt_vectoring:
            words[_INTERRUPTION] = words[_INTERRUPTION_ERROR] = 0
            words[_VECTORING] = words[_VECTORING_ERROR] = 0
        else:
            words[_INTERRUPTION], words[_INTERRUPTION_ERROR] = _event_words(stop.interruption)
            words[_VECTORING], words[_VECTORING_ERROR] = _event_words(stop.idt_vectoring)
        if qualification & _GLA_VALID and stop.gla is not None:
            words[_GLA] = stop.gla
        pending = words[_PENDING]
        if pending & _VALID:  # every exit takes back what the entry injected (SDM 3C §24.8.3)
            words[_PENDING] = pending & ~_VALID
        vmcs.save_pointers(rip, rsp, rflags)
        exits = self.exits
        exits[reason] = exits.get(reason, 0) + 1

    @property
    def injection(self) -> Event | None:
        """The event that the next VM entry delivers, from its interruption information (SDM 3C §26.6.1)."""
        words = self.vmcs.words
        information = words[_PENDING]
        if not information & _VALID:
            return None
        return Event.of(information, words[_ERROR_CODE], words[_ENTRY_LENGTH], injected=True)

    @property
    def in_shadow(self) -> bool:
        """Whether STI or MOV SS blocks events in front of the next instruction."""
        return bool(self.vmcs.words[_BLOCKING] & SHADOW)

    def end_shadow(self) -> None:
        """The instruction behind STI or MOV SS has been carried out."""
        if self.in_shadow:
            blocking = self.vmcs.read("guest_interruptibility_state")
            self.vmcs.write("guest_interruptibility_state", blocking & ~SHADOW)

    def take_exception(self) -> int | None:
        """Return the error code of the exception that VM entry injects, None without one, and take it: delivered."""
        words = self.vmcs.words
        if not words[_PENDING] & _VALID:
            return None
        words[_PENDING] = 0
        return words[_ERROR_CODE]

    def inject(self, event: Event) -> None:
        """Have the next VM entry deliver `event`: an event that an exit cut off, for instance."""
        words = self.vmcs.words
        words[_PENDING] = event.information
        words[_ERROR_CODE] = event.error_code or 0
        words[_ENTRY_LENGTH] = event.instruction_length


def _event_words(event: Event | None) -> tuple[int, int]:
    """Return the two fields of exit information that describe `event`; not valid if there is none."""
    return (0, 0) if event is None else (event.information, event.error_code or 0)
