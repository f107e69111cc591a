"""What the VMCS says about instructions and exceptions: whether each is a VM exit (SDM 3C §25.1.3).

Read anew when the VMCS changed. Not modelled: TPR shadow, APIC accesses, CR3-target values beyond four.
"""

from quire.arch import CR0, PRIMARY_CONTROLS, SECONDARY_CONTROLS, InterruptionType, Vector
from quire.arch.cr_access import CrAccess, CrExit
from quire.vcpu import Event, Vmcs

__all__ = ["ExecutionControls"]

_STATUS = CR0.mask("MP", "EM", "TS")
_LOW_MSRS, _HIGH_MSRS = range(0x2000), range(0xC0000000, 0xC0002000)
_EXCEPTIONS = (
    InterruptionType.HARDWARE_EXCEPTION,
    InterruptionType.SOFTWARE_EXCEPTION,
    InterruptionType.PRIVILEGED_SOFTWARE_EXCEPTION,
)


class ExecutionControls:
    """The controls in `vmcs`."""

    def __init__(self, vmcs: Vmcs) -> None:
        self._vmcs = vmcs
        self._generation = -1
        self._primary = self._secondary = 0

    def primary(self, name: str) -> bool:
        """Whether a primary processor-based control is 1."""
        self._refresh()
        return bool(PRIMARY_CONTROLS.get(self._primary, name))

    def secondary(self, name: str) -> bool:
        """Whether a secondary processor-based control is 1 and in use."""
        self._refresh()
        return bool(SECONDARY_CONTROLS.get(self._secondary, name))

    def cr_exits(self, access: CrExit, value: int) -> bool:
        """Whether a control-register access is a VM exit; `value` is what MOV to CR writes."""
        if access.access is CrAccess.MOV_FROM:
            return access.cr in (3, 8) and self.primary(f"cr{access.cr}_store_exiting")
        if access.access is CrAccess.MOV_TO:
            return self._write_exits(access.cr, value)
        read = self._vmcs.read
        mask, shadow = read("cr0_guest_host_mask"), read("cr0_read_shadow")
        if access.access is CrAccess.CLTS:
            return bool(mask & shadow & CR0.mask("TS"))
        # LMSW cannot clear PE, so a 0 there does not count.
        differs = (access.source ^ shadow) & mask & _STATUS
        return bool(differs or mask & access.source & ~shadow & CR0.mask("PE"))

    def port_exits(self, port: int, size: int) -> bool:
        """Whether I/O of `size` bytes at `port` is a VM exit."""
        if not self.primary("use_io_bitmaps"):
            return self.primary("unconditional_io_exiting")
        if port + size > 0x10000:
            return True
        return any(self._port_bit(number) for number in range(port, port + size))

    def msr_exits(self, number: int, *, write: bool) -> bool:
        """Whether RDMSR or WRMSR of `number` is a VM exit."""
        if not self.primary("use_msr_bitmaps"):
            return True
        if number in _LOW_MSRS:
            at = number
        elif number in _HIGH_MSRS:
            at = number - _HIGH_MSRS.start + 0x2000
        else:
            return True
        return self._bit(self._vmcs.read("msr_bitmaps_address"), at + (0x4000 if write else 0))

    def exception_exits(self, event: Event) -> bool:
        """Whether an exception is a VM exit: the exception bitmap, and the error code of a #PF."""
        if event.type not in _EXCEPTIONS:
            return False
        read = self._vmcs.read
        wanted = bool(read("exception_bitmap") >> event.vector & 1)
        if event.vector != Vector.PF:
            return wanted
        matches = (event.error_code or 0) & read("page_fault_error_code_mask") == read(
            "page_fault_error_code_match"
        )
        return wanted == matches

    def _refresh(self) -> None:
        vmcs = self._vmcs
        if self._generation == vmcs.generation:
            return
        self._generation = vmcs.generation
        self._primary = vmcs.read("primary_processor_based_controls")
        active = PRIMARY_CONTROLS.get(self._primary, "activate_secondary_controls")
        self._secondary = vmcs.read("secondary_processor_based_controls") if active else 0

    def _write_exits(self, number: int, value: int) -> bool:
        read = self._vmcs.read
        if number in (0, 4):
            changed = value ^ read(f"cr{number}_read_shadow")
            return bool(changed & read(f"cr{number}_guest_host_mask"))
        if number == 8:
            return self.primary("cr8_load_exiting")
        if number != 3 or not self.primary("cr3_load_exiting"):
            return False
        return value not in {read(f"cr3_target_value_{n}") for n in range(min(4, read("cr3_target_count")))}

    def _port_bit(self, port: int) -> bool:
        half = "b" if port >> 15 else "a"
        return self._bit(self._vmcs.read(f"io_bitmap_{half}_address"), port & 0x7FFF)

    def _bit(self, bitmap: int, number: int) -> bool:
        return bool(self._vmcs.memory.load(bitmap + (number >> 6 << 3)) >> (number & 63) & 1)
