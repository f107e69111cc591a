"""The local APIC of a vCPU: interrupts that wait and are served, its timer, what it sends to others (SDM 3A §10).

Both modes: a page of registers (xAPIC), MSRs (x2APIC). Not modelled: SMI, thermal, performance and corrected-error
vectors beyond their registers, focus processors, arbitration. What the guest does wrong is a value, the #GP that it
gets in x2APIC mode, or bits of the error status register.
"""

from quire.arch import LOW32, Vector
from quire.arch.apic import (
    APIC_BASE,
    APIC_LVT,
    APIC_SPURIOUS,
    APIC_VERSION,
    X2APIC_ICR,
    X2APIC_MSRS,
    XAPIC_DESTINATION_SHIFT,
    ApicRegister,
    DeliveryMode,
)
from quire.devices.apic_bus import ApicBus, Interrupt, widened
from quire.devices.apic_timer import ApicTimer
from quire.devices.clock import Clock
from quire.vcpu import Event

__all__ = ["APIC_PAGE", "LocalApic"]

#: Where the page of every local APIC is after reset (SDM 3A §10.4.1).
APIC_PAGE = 0xFEE00000
_GP = Event.exception(Vector.GP, 0)
_FIRST_LEGAL = 16  # vectors below are exceptions (SDM 3A §10.5.2)
_CLASS = 0xF0
_SENT_ILLEGAL, _RECEIVED_ILLEGAL = 1 << 5, 1 << 6  # of the error status (SDM 3A §10.5.3)
_FLAT = 0xF  # of the destination format, in its top bits (SDM 3A §10.6.2.2)
_LVT_WRITABLE = {
    ApicRegister.LVT_CMCI: APIC_LVT.mask("vector", "mode", "masked"),
    ApicRegister.LVT_TIMER: APIC_LVT.mask("vector", "masked", "timer"),
    ApicRegister.LVT_THERMAL: APIC_LVT.mask("vector", "mode", "masked"),
    ApicRegister.LVT_PERFORMANCE: APIC_LVT.mask("vector", "mode", "masked"),
    ApicRegister.LVT_LINT0: APIC_LVT.mask("vector", "mode", "low", "level", "masked"),
    ApicRegister.LVT_LINT1: APIC_LVT.mask("vector", "mode", "low", "level", "masked"),
    ApicRegister.LVT_ERROR: APIC_LVT.mask("vector", "masked"),
}
_MASKED, _ENABLED = APIC_LVT.mask("masked"), APIC_SPURIOUS.mask("enabled")
_VERSION = APIC_VERSION.encode(version=0x14, last_lvt=len(_LVT_WRITABLE) - 1)
_READ_ONLY = frozenset(
    (ApicRegister.ID, ApicRegister.VERSION, ApicRegister.PPR, ApicRegister.LDR, ApicRegister.CURRENT_COUNT)
)
_XAPIC_ONLY = frozenset((ApicRegister.DFR, ApicRegister.ICR_HIGH))
_WRITE_ONLY = frozenset((ApicRegister.EOI, ApicRegister.SELF_IPI))


class LocalApic:
    """The APIC of vCPU `number`, on `bus`. Without a `clock` its timer never expires.

    It is on, in x2APIC mode, as software enables it, if `base` does not say otherwise.
    """

    def __init__(
        self, number: int, bus: ApicBus, clock: Clock | None = None, *, base: int | None = None
    ) -> None:
        self.number = number
        self._bus = bus
        bus.receivers.append(self)
        on = APIC_BASE.encode(EN=1, EXTD=1, BSP=number == 0, base=APIC_PAGE)
        self.base = on if base is None else base
        self.timer = ApicTimer(clock)
        self.init = False  #: an INIT waits
        self.startup: int | None = (
            None  #: vector of a start-up message that waits, after that INIT if there is one
        )
        self.reset()
        if base is None:
            self._spurious |= _ENABLED

    def reset(self) -> None:
        """Be as after power-up or INIT, but for IA32_APIC_BASE and the ID (SDM 3A §10.4.7)."""
        self._requested = self._serving = self._level = 0  # a bit a vector: IRR, ISR, TMR
        self._tpr = self._errors = self._new_errors = 0
        self._logical, self._format = 0, LOW32
        self._spurious = 0xFF
        self._command = 0
        self._lvt = dict.fromkeys(_LVT_WRITABLE, _MASKED)
        self.timer.stop()
        self.nmi = False  #: a non-maskable interrupt waits

    @property
    def is_x2apic(self) -> bool:
        """Whether its registers are MSRs."""
        return bool(APIC_BASE.get(self.base, "EXTD"))

    @property
    def task_priority(self) -> int:
        """The class that CR8 holds: interrupts of it and below wait."""
        return self._tpr >> 4

    @task_priority.setter
    def task_priority(self, value: int) -> None:
        self._tpr = value << 4
        self._lowered()

    @property
    def priority(self) -> int:
        """The processor priority: that of the task, or of what is in service (SDM 3A §10.8.3.1)."""
        serving = max(self._serving.bit_length() - 1, 0)
        return self._tpr if self._tpr & _CLASS >= serving & _CLASS else serving & _CLASS

    def write_base(self, value: int) -> Event | None:
        """Write IA32_APIC_BASE: modes change by the rules of SDM 3A §10.12.5."""
        said, before = APIC_BASE.decode(value), APIC_BASE.decode(self.base)
        if value & APIC_BASE.reserved_mask or (said["EXTD"] and not said["EN"]):
            return _GP
        if (before["EXTD"] and said["EN"] and not said["EXTD"]) or (not before["EN"] and said["EXTD"]):
            return _GP
        if before["EN"] and not said["EN"]:
            self.reset()
        self.base = value
        return None

    def read_msr(self, number: int) -> int | Event:
        """Return what RDMSR of `number` gives, or the #GP."""
        index = number - X2APIC_MSRS.start
        if not self.is_x2apic or index in _XAPIC_ONLY or index in _WRITE_ONLY:
            return _GP
        if index == ApicRegister.ICR:
            return self._command
        found = self._read(index)
        return _GP if found is None else found

    def write_msr(self, number: int, value: int) -> Event | None:
        """Do what WRMSR of `number` does; return the #GP for one that cannot be written so."""
        index = number - X2APIC_MSRS.start
        if not self.is_x2apic or index in _XAPIC_ONLY or index in _READ_ONLY:
            return _GP
        if index == ApicRegister.ICR:
            if value & X2APIC_ICR.reserved_mask:
                return _GP
            self._send(value)
            return None
        if value >> 32 or (index in (ApicRegister.EOI, ApicRegister.ESR) and value):
            return _GP
        if index == ApicRegister.SELF_IPI:
            if value >> 8:
                return _GP
            self._request(value, level=False)
            self._bus.heard()
            return None
        return None if self._write(index, value) else _GP

    def read(self, offset: int, size: int) -> int:
        """Return what a load from its page reads: registers are 32 bits wide, each at a multiple of 16 bytes."""
        del size
        if self.is_x2apic or not APIC_BASE.get(self.base, "EN"):
            return -1
        index = offset >> 4
        if offset & 0xF or index in _WRITE_ONLY:
            return 0
        if index == ApicRegister.ID:
            return self.number << XAPIC_DESTINATION_SHIFT
        if index == ApicRegister.DFR:
            return self._format
        if index in (ApicRegister.ICR, ApicRegister.ICR_HIGH):
            return self._command & LOW32 if index == ApicRegister.ICR else self._command >> 32
        if index == ApicRegister.LDR:
            return self._logical
        return self._read(index) or 0

    def write(self, offset: int, value: int, size: int) -> None:
        """Do what a store to its page does."""
        del size
        if offset & 0xF or self.is_x2apic or not APIC_BASE.get(self.base, "EN"):
            return
        index, value = offset >> 4, value & LOW32
        if index == ApicRegister.DFR:
            self._format = value | LOW32 >> 4
        elif index == ApicRegister.LDR:
            self._logical = value & 0xFF << XAPIC_DESTINATION_SHIFT
        elif index == ApicRegister.ICR_HIGH:
            self._command = self._command & LOW32 | (value & 0xFF << XAPIC_DESTINATION_SHIFT) << 32
        elif index == ApicRegister.ICR:
            high = self._command >> 32
            self._send(
                high << 32 | value & ~X2APIC_ICR.reserved_mask & LOW32, high >> XAPIC_DESTINATION_SHIFT
            )
        elif index not in _READ_ONLY and index != ApicRegister.SELF_IPI:
            self._write(index, value)

    def matches(self, destination: int) -> bool:
        """Whether it is one of a logical destination (SDM 3A §10.6.2.2, §10.12.10.2)."""
        if self.is_x2apic:
            own = self._x2apic_logical()
            return own >> 16 == destination >> 16 and bool(own & destination & 0xFFFF)
        own = self._logical >> XAPIC_DESTINATION_SHIFT
        if self._format >> 28 == _FLAT:
            return bool(own & destination)
        return own >> 4 == destination >> 4 and bool(own & destination & 0xF)

    def take(self, interrupt: Interrupt) -> None:
        """Do what a message asks for."""
        if interrupt.mode is DeliveryMode.NMI:
            self.nmi = True
        elif interrupt.mode is DeliveryMode.INIT:
            self.init, self.startup = True, None
        elif interrupt.mode is DeliveryMode.STARTUP:
            self.startup = interrupt.vector
        elif interrupt.mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST):
            self._request(interrupt.vector, level=interrupt.level)

    def expire(self) -> None:
        """Request what the timer delivers, if it has expired."""
        entry = self._lvt[ApicRegister.LVT_TIMER]
        if self.timer.expired() and not entry & _MASKED:
            self._request(APIC_LVT.get(entry, "vector"), level=False)

    def next_vector(self) -> int | None:
        """Return the vector that is to be delivered next, None if there is none of higher class than the priority."""
        if not self._requested or not self._spurious & _ENABLED:
            return None
        highest = self._requested.bit_length() - 1
        return highest if highest & _CLASS > self.priority & _CLASS else None

    def accept(self, vector: int) -> None:
        """The vCPU takes `vector`: it is in service until the guest writes EOI (SDM 3A §10.8.4)."""
        self._requested &= ~(1 << vector)
        self._serving |= 1 << vector

    def _read(self, index: int) -> int | None:
        """Return a register that both modes have, None for one that is not there."""
        for first, vectors in (
            (ApicRegister.ISR, self._serving),
            (ApicRegister.TMR, self._level),
            (ApicRegister.IRR, self._requested),
        ):
            if first <= index < first + 8:
                return vectors >> 32 * (index - first) & LOW32
        if index in self._lvt:
            return self._lvt[ApicRegister(index)]
        others: dict[int, int] = {
            ApicRegister.ID: self.number,
            ApicRegister.VERSION: _VERSION,
            ApicRegister.TPR: self._tpr,
            ApicRegister.PPR: self.priority,
            ApicRegister.LDR: self._x2apic_logical(),
            ApicRegister.SPURIOUS: self._spurious,
            ApicRegister.ESR: self._errors,
            ApicRegister.INITIAL_COUNT: self.timer.initial,
            ApicRegister.CURRENT_COUNT: self.timer.current,
            ApicRegister.DIVIDE: self.timer.divide,
        }
        return others.get(index)

    def _write(self, index: int, value: int) -> bool:
        """Write a register that both modes have; return False for one that cannot be written."""
        if index == ApicRegister.EOI:
            self._end()
        elif index == ApicRegister.TPR:
            self._tpr = value & 0xFF
            self._lowered()
        elif index == ApicRegister.SPURIOUS:
            self._spurious = value & ~APIC_SPURIOUS.reserved_mask
            if not value & _ENABLED:
                self._lvt = {one: entry | _MASKED for one, entry in self._lvt.items()}
        elif index == ApicRegister.ESR:
            self._errors, self._new_errors = self._new_errors, 0
        elif index == ApicRegister.INITIAL_COUNT:
            self.timer.start(value)
        elif index == ApicRegister.DIVIDE:
            self.timer.set_divide(value)
        elif index in self._lvt:
            self._write_lvt(ApicRegister(index), value)
        else:
            return False
        return True

    def _write_lvt(self, register: ApicRegister, value: int) -> None:
        value &= _LVT_WRITABLE[register]
        if not self._spurious & _ENABLED:
            value |= _MASKED
        self._lvt[register] = value
        if register is ApicRegister.LVT_TIMER:
            self.timer.set_mode(APIC_LVT.get(value, "timer"))

    def _end(self) -> None:
        """EOI: the highest vector in service is done."""
        if not self._serving:
            return
        vector = self._serving.bit_length() - 1
        self._serving &= ~(1 << vector)
        if self._level >> vector & 1:
            self._bus.end(vector)
        self._lowered()

    def _lowered(self) -> None:
        """The priority may be lower than it was: what waits for that can be delivered."""
        if self.next_vector() is not None:
            self._bus.heard()

    def _send(self, command: int, destination: int | None = None) -> None:
        """Send what the interrupt command asks for; in xAPIC mode the `destination` is not where X2APIC_ICR has it."""
        self._command = command
        said = X2APIC_ICR.decode(command)
        mode = said["mode"]
        if mode in (DeliveryMode.SMI, DeliveryMode.EXTERNAL, 3):
            return  # reserved, or what nobody listens to
        if mode == DeliveryMode.INIT and said["level"] and not said["assert"]:
            return  # the end of an INIT, which processors since the Pentium 4 ignore
        if mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST) and said["vector"] < _FIRST_LEGAL:
            self._new_errors |= _SENT_ILLEGAL
            return
        to = said["destination"] if destination is None else widened(destination)
        interrupt = Interrupt(said["vector"], DeliveryMode(mode), to, bool(said["logical"]))
        self._bus.send(interrupt, self, said["shorthand"])

    def _request(self, vector: int, *, level: bool) -> None:
        if vector < _FIRST_LEGAL:
            self._new_errors |= _RECEIVED_ILLEGAL
            return
        self._requested |= 1 << vector
        self._level = self._level & ~(1 << vector) | level << vector

    def _x2apic_logical(self) -> int:
        """Return the logical ID that x2APIC mode derives from the ID (SDM 3A §10.12.10.2)."""
        return self.number >> 4 << 16 | 1 << (self.number & 0xF)
