"""The system instructions of a machine guest: what MOV CR, INVLPG, RDMSR and their kin do, to registers and to TLBs.

The VMCS guest-state area is where CR0, CR3, CR4, EFER and PAT are; this class changes them by the rules of the manual
and makes the walk's context and the modelled TLB follow. What the guest does wrong is a value, the exception that it
gets. Not modelled: debug breakpoints, MTRRs beyond values.
"""

from quire.arch import (
    ACCESS_RIGHTS,
    CR0,
    CR4,
    EFER,
    ENTRY_CONTROLS,
    LOW32,
    MOV_TO_CR3,
    WORD,
    Vector,
    is_canonical,
    paging_mode,
    pcid,
)
from quire.arch.apic import X2APIC_MSRS
from quire.arch.instruction_exits import INVPCID_DESCRIPTOR
from quire.devices.clock import Clock
from quire.devices.local_apic import LocalApic
from quire.devices.msrs import PLAIN_MSRS, Msr, legal_pat
from quire.mmu.paged import PagedMmu
from quire.paging import Context
from quire.tlb import Operation
from quire.vcpu import Event, Registers, TimeStamps, VmxState
from quire.vcpu.vmcs import word_of

__all__ = ["Processor"]

_GP = Event.exception(Vector.GP, 0)
_NO_FLUSH = MOV_TO_CR3.mask("no_flush")
_CR4_KNOWN = CR4.mask(
    "TSD",
    "DE",
    "PSE",
    "PAE",
    "MCE",
    "PGE",
    "PCE",
    "OSFXSR",
    "OSXMMEXCPT",
    "FSGSBASE",
    "PCIDE",
    "SMEP",
    "SMAP",
)
_CR4_FIXED, _CR0_FIXED = CR4.mask("VMXE"), CR0.mask("NE")
#: What shadow entries depend on: changes of it must exit.
_CR0_OWNED = CR0.mask("PE", "WP", "CD", "PG")
_CR4_OWNED = CR4.mask("PSE", "PAE", "PGE", "PCIDE", "SMEP", "SMAP", "LA57")
_NXE, _LMA = EFER.mask("NXE"), EFER.mask("LMA")
_EFER_KNOWN = EFER.mask("SCE", "LME", "LMA", "NXE")
_GUEST_CR3 = word_of("guest_cr3")
_TICKS = 1000  # that the time-stamp counter grows by each time it is read, in ticks that are nanoseconds
_VMCS_MSRS = {
    Msr.SYSENTER_CS: "guest_ia32_sysenter_cs",
    Msr.SYSENTER_ESP: "guest_ia32_sysenter_esp",
    Msr.SYSENTER_EIP: "guest_ia32_sysenter_eip",
    Msr.FS_BASE: "guest_fs_base",
    Msr.GS_BASE: "guest_gs_base",
}
_REGISTER_MSRS = {Msr.STAR: "star", Msr.KERNEL_GS_BASE: "kernel_gs_base"}
_OF_APIC = frozenset((Msr.APIC_BASE, Msr.TSC_DEADLINE, *X2APIC_MSRS))
_ADDRESSES = (Msr.SYSENTER_ESP, Msr.SYSENTER_EIP, Msr.FS_BASE, Msr.GS_BASE, Msr.KERNEL_GS_BASE)


class Processor:
    """System registers of `vmx`, whose translations are those of `mmu`. `registers` is set when the Cpu is made."""

    registers: Registers

    def __init__(self, vmx: VmxState, mmu: PagedMmu) -> None:
        self.cr2 = self._cr8 = 0
        self.apic: LocalApic | None = None  #: of a guest with several vCPUs, or with devices
        self.clock: Clock | None = None  #: by which the time-stamp counter runs, of a guest with devices
        self.time_stamps: TimeStamps | None = None  #: an engine that reads it itself
        self.debug = [0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400]
        self._vmx, self._mmu = vmx, mmu
        self._msrs = {number: msr.reset for number, msr in PLAIN_MSRS.items()}
        self._tsc = 0
        self._settled: tuple[int, ...] = ()
        # Under shadow paging hardware has another CR3 than the guest, and write protection and NX whatever it says.
        self._hidden: dict[str, int] | None = {} if mmu.page_faults_exit else None
        self._cr0_fixed = _CR0_FIXED | (CR0.mask("WP") if mmu.page_faults_exit else 0)
        read = vmx.vmcs.read
        self.reset(*(read(f"guest_{name}") for name in ("cr0", "cr3", "cr4", "ia32_efer")))

    def reset(self, cr0: int, cr3: int, cr4: int, efer: int) -> None:
        """Give the guest these control registers; bits of them that are not its own it reads as they are here."""
        owned = (_CR0_OWNED, _CR4_OWNED) if self._hidden is not None else (0, 0)
        self._vmx.vmcs.write_many(
            guest_cr0=cr0 | self._cr0_fixed,
            cr0_guest_host_mask=self._cr0_fixed | owned[0],
            cr0_read_shadow=cr0 | _CR0_FIXED,
            guest_cr4=cr4 | _CR4_FIXED,
            cr4_guest_host_mask=_CR4_FIXED | owned[1],
            cr4_read_shadow=cr4 & ~_CR4_FIXED,
        )
        self._write("cr3", cr3)
        self._set_long_mode(efer)

    def _read(self, name: str) -> int:
        """Return CR3 or EFER as the guest has it."""
        if self._hidden is not None:
            return self._hidden[name]
        return self._vmx.vmcs.read(f"guest_{name}")

    def _write(self, name: str, value: int) -> None:
        """Set CR3 or EFER as the guest has it; hardware's CR3 under shadow paging is the Mmu's."""
        if self._hidden is not None:
            self._hidden[name] = value
            if name == "cr3":
                return
            value |= _NXE
        if name == "cr3":
            # Not by Vmcs.write: no control changes with CR3, so that nobody need look at all fields.
            self._vmx.vmcs.words[_GUEST_CR3] = value
        else:
            self._vmx.vmcs.write(f"guest_{name}", value)

    def settle(self) -> None:
        """Make context and address space follow the VMCS, where a handler may have changed control registers."""
        cr0, cr4, cr3, efer = self.visible(0), self.visible(4), self._read("cr3"), self._read("ia32_efer")
        state = cr0, cr4, efer, cr3
        before, self._settled = self._settled, ()  # until there was a frame for what follows
        if state != before:
            if state[:3] != before[:3]:
                self._settle_controls(cr0, cr4, efer)
            mmu = self._mmu
            mmu.guest_context[Context.CR3] = cr3
            mmu.pcid = pcid(cr3) if CR4.get(cr4, "PCIDE") else 0
            mmu.follow()
            mmu.forget(None)
            if mmu.tlb is not None:
                mmu.enter_tlb(mmu.tlb)
        self._settled = state

    def _settle_controls(self, cr0: int, cr4: int, efer: int) -> None:
        for field, value in (
            (Context.NXE, EFER.get(efer, "NXE")),
            (Context.WP, CR0.get(cr0, "WP")),
            (Context.CD, CR0.get(cr0, "CD")),
            (Context.SMEP, CR4.get(cr4, "SMEP")),
            (Context.SMAP, CR4.get(cr4, "SMAP")),
            (Context.PSE, CR4.get(cr4, "PSE")),
            (Context.PGE, CR4.get(cr4, "PGE")),
            (Context.MODE, paging_mode(cr0, cr4, efer)),
            (Context.PAT, self._msrs[Msr.PAT]),
        ):
            self._mmu.guest_context[field] = value

    def visible(self, number: int) -> int:
        """Return CR0 or CR4 as the guest reads it: host-owned bits from the read shadow (SDM 3C §24.6.6)."""
        read = self._vmx.vmcs.read
        mask = read(f"cr{number}_guest_host_mask")
        return read(f"guest_cr{number}") & ~mask | read(f"cr{number}_read_shadow") & mask

    def read_cr(self, number: int) -> int:
        """Return control register `number` as MOV from CR reads it."""
        if number in (0, 4):
            return self.visible(number)
        return {2: self.cr2, 3: self._read("cr3"), 8: self._task_priority()}[number]

    def write_cr(self, number: int, value: int) -> Event | None:
        """Write control register `number` as MOV to CR does."""
        if number == 0:
            return self._write_cr0(value)
        if number == 3:
            return self._write_cr3(value)
        if number == 4:
            return self._write_cr4(value)
        if number == 2:
            self.cr2 = value
        elif value > 0xF:
            return _GP
        elif self.apic is not None:
            self.apic.task_priority = value
        else:
            self._cr8 = value
        return None

    def _task_priority(self) -> int:
        return self._cr8 if self.apic is None else self.apic.task_priority

    def _read_tsc(self) -> int:
        """Return the time-stamp counter; without a clock it is the guest's reading that makes time pass."""
        if self.clock is not None:
            self.clock.spend(
                _TICKS
            )  # or a guest that waits for time to pass would read it a hundred times as often
            return self.clock.now() + self._tsc & WORD
        self._tsc = self._tsc + _TICKS & WORD
        return self._tsc

    def _write_tsc(self, value: int) -> None:
        if self.clock is None:
            self._tsc = value
            return
        self._tsc = value - self.clock.now()
        self.follow_clock()
        if self.apic is not None:
            self.apic.timer.set_deadline(self.apic.timer.deadline, value)

    def follow_clock(self) -> None:
        """Have the engine read the time-stamp counter as the clock goes now: its vCPU is about to run."""
        if self.clock is not None and self.time_stamps is not None:
            value = self.clock.now() + self._tsc & WORD
            self.time_stamps.set_tsc(value, self.clock.share, self._msrs[Msr.TSC_AUX])

    def _write_apic(self, number: int, value: int) -> Event | None:
        assert self.apic is not None
        if number == Msr.APIC_BASE:
            return self.apic.write_base(value)
        if number == Msr.TSC_DEADLINE:
            self.apic.timer.set_deadline(value, self._read_tsc())
            return None
        return self.apic.write_msr(number, value)

    def _read_apic(self, number: int) -> int | Event:
        assert self.apic is not None
        if number == Msr.APIC_BASE:
            return self.apic.base
        return self.apic.timer.deadline if number == Msr.TSC_DEADLINE else self.apic.read_msr(number)

    def read_msr(self, number: int) -> int | Event:
        """Return MSR `number`, or the #GP for one that does not exist."""
        if number in _VMCS_MSRS:
            return self._vmx.vmcs.read(_VMCS_MSRS[Msr(number)])
        if number in _REGISTER_MSRS:
            return self.registers.read(_REGISTER_MSRS[Msr(number)])
        if number == Msr.EFER:
            return self._read("ia32_efer")
        if number == Msr.TSC:
            return self._read_tsc()
        if self.apic is not None and number in _OF_APIC:
            return self._read_apic(number)
        plain = self._msrs.get(number)  # type: ignore[call-overload]
        return _GP if plain is None else plain

    def write_msr(self, number: int, value: int) -> Event | None:
        """Write MSR `number`; return the #GP for one that does not exist or a value that it cannot have."""
        if number in _ADDRESSES and not is_canonical(value):
            return _GP
        if number in _VMCS_MSRS:
            self._vmx.vmcs.write(_VMCS_MSRS[Msr(number)], value & (LOW32 if number == 0x174 else WORD))
        elif number in _REGISTER_MSRS:
            self.registers.write(_REGISTER_MSRS[Msr(number)], value)
        elif number == Msr.EFER:
            return self._write_efer(value)
        elif number == Msr.TSC:
            self._write_tsc(value)
        elif self.apic is not None and number in _OF_APIC:
            return self._write_apic(number, value)
        else:
            return self._write_plain(number, value)
        return None

    def invpcid(self, kind: int, descriptor: int) -> Event | None:
        """Execute INVPCID of type `kind` with the 128-bit `descriptor` (SDM 2A §3.3)."""
        said = INVPCID_DESCRIPTOR.decode(descriptor)
        enabled = CR4.get(self._vmx.vmcs.read("guest_cr4"), "PCIDE")
        if kind > 3 or (kind < 2 and descriptor & INVPCID_DESCRIPTOR.reserved_mask):
            return _GP
        if (kind < 2 and not enabled and said["pcid"]) or (kind == 0 and not is_canonical(said["gva"])):
            return _GP
        operation = (
            Operation.INVPCID_ADDRESS,
            Operation.INVPCID_CONTEXT,
            Operation.INVPCID_ALL,
            Operation.INVPCID_ALL_RETAINING_GLOBALS,
        )[kind]
        self._mmu.execute(operation, pcid=said["pcid"], gva=said["gva"])
        return None

    def invlpg(self, gva: int) -> None:
        """Execute INVLPG of the page at `gva`."""
        self._mmu.execute(Operation.INVLPG, gva=gva)

    def page_fault(self, gva: int) -> None:
        """Note what a #PF does before it is delivered: cached translations of its address go (SDM 3A §4.10.4.1)."""
        self._mmu.changed()
        self._mmu.apply(Operation.PAGE_FAULT, gva=gva)

    def _write_cr0(self, value: int) -> Event | None:
        """SDM 2B §4.3, MOV to CR0."""
        value |= CR0.mask("ET")
        flags, paged = CR0.decode(value), CR0.get(self.visible(0), "PG")
        if (
            value & CR0.reserved_mask
            or (flags["PG"] and not flags["PE"])
            or (flags["NW"] and not flags["CD"])
            or not self._switch_paging(bool(flags["PG"]), bool(paged))
        ):
            return _GP
        self._flip(0, value & ~CR0.ignored_mask, self._cr0_fixed)
        leaves = paged and not flags["PG"]
        self._mmu.execute(Operation.MOV_CR0_PG) if leaves else self._mmu.apply(Operation.MOV_CR0_OTHER)
        return None

    def _switch_paging(self, paged: bool, before: bool) -> bool:
        """Enter or leave IA-32e mode with paging, as EFER.LME says; return False where that is #GP (SDM 3A §9.8.5)."""
        efer = self._read("ia32_efer")
        if paged and not before and EFER.get(efer, "LME"):
            if not CR4.get(self.visible(4), "PAE"):
                return False
            self._set_long_mode(efer | _LMA)
        elif before and not paged and efer & _LMA:
            rights = self._vmx.vmcs.read("guest_cs_access_rights")
            if ACCESS_RIGHTS.get(rights, "L") or CR4.get(self.visible(4), "PCIDE"):
                return False
            self._set_long_mode(efer & ~_LMA)
        return True

    def _set_long_mode(self, efer: int) -> None:
        """Set EFER with another LMA; VM entry's control says the same (SDM 3C §27.2, §26.3.1.1)."""
        self._write("ia32_efer", efer)
        vmcs, mask = self._vmx.vmcs, ENTRY_CONTROLS.mask("ia32e_guest")
        vmcs.write("vm_entry_controls", vmcs.read("vm_entry_controls") & ~mask | (mask if efer & _LMA else 0))

    def _write_cr3(self, value: int) -> Event | None:
        """SDM 2B §4.3, MOV to CR3, and SDM 3A §4.10.4.1."""
        enabled = CR4.get(self._vmx.vmcs.read("guest_cr4"), "PCIDE")
        keep = bool(enabled and value & _NO_FLUSH)
        value &= ~_NO_FLUSH if enabled else WORD
        if value >> self._vmx.profile.maxphyaddr:
            return _GP
        self._write("cr3", value)
        self.settle()
        self._mmu.execute(Operation.MOV_CR3_KEEP if keep else Operation.MOV_CR3)
        return None

    def _write_cr4(self, value: int) -> Event | None:
        """SDM 2B §4.3, MOV to CR4, and SDM 3A §4.10.4.1."""
        before = CR4.decode(self.visible(4))
        if value & ~_CR4_KNOWN or (self._read("ia32_efer") & _LMA and not value & CR4.mask("PAE")):
            return _GP
        after = CR4.decode(value)
        sets_pcide = after["PCIDE"] and not before["PCIDE"]
        if sets_pcide and (pcid(self._read("cr3")) or not self._read("ia32_efer") & _LMA):
            return _GP
        self._flip(4, value, _CR4_FIXED)
        operations = [
            operation
            for operation, happened in (
                (Operation.MOV_CR4_PGE, before["PGE"] != after["PGE"]),
                (Operation.MOV_CR4_PCIDE, before["PCIDE"] > after["PCIDE"]),
                (Operation.MOV_CR4_PAE, before["PAE"] != after["PAE"]),
                (Operation.MOV_CR4_SMEP, before["SMEP"] < after["SMEP"]),
            )
            if happened
        ]
        for operation in operations or (Operation.MOV_CR4_OTHER,):
            self._mmu.execute(operation)
        return None

    def _flip(self, number: int, value: int, fixed: int) -> None:
        """Change the bits of CR0 or CR4 that differ from what the guest reads; `fixed` ones in the shadow alone."""
        vmcs = self._vmx.vmcs
        changed = self.visible(number) ^ value
        vmcs.write(f"guest_cr{number}", vmcs.read(f"guest_cr{number}") ^ changed & ~fixed)
        vmcs.write(f"cr{number}_read_shadow", vmcs.read(f"cr{number}_read_shadow") ^ changed)
        self.settle()

    def _write_efer(self, value: int) -> Event | None:
        """SDM 3A §2.2.1. LMA is the processor's; LME cannot change while paging is on."""
        before = self._read("ia32_efer")
        if value & ~_EFER_KNOWN or ((value ^ before) & EFER.mask("LME") and CR0.get(self.visible(0), "PG")):
            return _GP
        self._write("ia32_efer", value & ~_LMA | before & _LMA)
        self.settle()
        return None

    def _write_plain(self, number: int, value: int) -> Event | None:
        known = PLAIN_MSRS.get(number)  # type: ignore[call-overload]
        if known is None:
            return _GP
        msr = Msr(number)
        if (value ^ self._msrs[msr]) & ~known.writable or (known.address and not is_canonical(value)):
            return _GP
        if not known.kept:
            return None
        if msr is Msr.PAT:
            if not legal_pat(value):
                return _GP
            self._vmx.vmcs.write("guest_ia32_pat", value)
            self._mmu.guest_context[Context.PAT] = value
        self._msrs[msr] = value
        if msr is Msr.TSC_AUX:
            self.follow_clock()
        return None
