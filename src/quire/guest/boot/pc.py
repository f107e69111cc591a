"""A PC: a machine guest with a bus of devices, a clock, interrupts, a serial console, and a way to switch it off."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from quire.arch import CPUID_1_ECX, CPUID_1_EDX, LOW32, ExitReason
from quire.arch.apic import APIC_BASE
from quire.cpu import Detail, make_cpu
from quire.devices import (
    APIC_PAGE,
    CMOS,
    COM1,
    COM1_PIN,
    EXIT_PORT,
    IO_APIC_PAGE,
    SERIAL_PORTS,
    ApicBus,
    CmosClock,
    Ending,
    ExitPort,
    IoApic,
    LocalApic,
    MachineClock,
    Power,
    SerialPort,
)
from quire.devices.clock import CRYSTAL_HZ, TSC_HZ
from quire.devices.fw_cfg import FW_CFG_SELECTOR, FwCfg, fw_cfg_items
from quire.devices.power import KEYBOARD_COMMAND, RESET_CONTROL, SLEEP_CONTROL
from quire.devices.virtio import BalloonDevice, ConsoleDevice, VirtioDevice
from quire.exits import SKIP, ExitContext, Next
from quire.guest.boot.memory import DriverMemory, GuestMemory
from quire.guest.boot.turns import Turns
from quire.guest.boot.virtio_slots import VirtioSlots
from quire.machine import GuestConfig, Machine, Vcpu, reclaim
from quire.vcpu import Exit, sliced, time_stamps

__all__ = ["FIRST_DATE", "Pc", "Typed"]

#: The date that a guest is switched on at, unless somebody says another: so that a run is the same every time.
FIRST_DATE = datetime(2025, 1, 1, tzinfo=UTC)
#: Blocks in a turn of one of several vCPUs.
_TURN = 5_000
#: About how many nanoseconds of the clock a block takes.
_BLOCK = 5
#: Blocks after which input is looked for, though no timer is due.
_LOOK = 50_000
_PAGE = 4096
_SECOND = 1_000_000_000
#: Seconds after which a guest that waits for input alone is looked at again.
_LONGEST = 0.1
#: Bytes that the guest gets at a time: what the port's FIFO holds.
_INPUT = 16
_MHZ = 1_000_000
_MOST_LEAVES = 0x16


class Typed(Protocol):
    """Where the guest's input comes from."""

    @property
    def is_open(self) -> bool:
        """Whether more may come by and by."""
        ...

    def look(self) -> None:
        """Heed what a person types to others than the guest."""
        ...

    def take(self, most: int) -> bytes:
        """Return up to `most` bytes that are there."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait for more, for so long at most."""
        ...


class Pc:
    """The machine that `config` describes, which has a bus, run by `engine`, recording as `detail` says.

    `sent` gets each byte that the guest sends to its serial port, `sent_virtual` those to its virtio console. `typed`
    is asked for more whenever the guest has read all that was there. Behind `devices` in the virtio slots are a balloon
    for `balloon` bytes and the console. Its clock shows `date` at first. Raises what making a machine raises.
    """

    def __init__(
        self,
        config: GuestConfig,
        sent: Callable[[int], None],
        typed: Typed,
        *,
        date: datetime = FIRST_DATE,
        detail: Detail = Detail.EXITS,
        engine: str = "soft",
        devices: Sequence[VirtioDevice] = (),
        sent_virtual: Callable[[int], None] | None = None,
        balloon: int = 0,
    ) -> None:
        self.machine = machine = Machine(config, make_cpu(engine, detail))
        self.memory = GuestMemory(machine)
        self._typed = typed
        self.ending: Ending | None = None  #: how the guest ended itself
        self.stop_at: int | None = None  #: the moment at which a run is to end, None for never
        self.given_up: Callable[[], bool] = lambda: False  #: whether the guest does nothing useful any more
        self.exit_port = ExitPort()
        self.clock = MachineClock([time_stamps(one.cpu) for one in machine.vcpus])
        self.apic_bus = ApicBus()
        self.apic_bus.heard = self._end_turn
        self.apics = [self._add_apic(one) for one in machine.vcpus]
        self.io_apic = IoApic(self.apic_bus)
        self.serial = SerialPort(sent)
        self.serial.changed = self.io_apic.attach(COM1_PIN, self.serial.interrupts)
        power, ports = Power(self._end), machine.ports
        ports.attach_several(COM1, SERIAL_PORTS, self.serial)
        ports.attach(EXIT_PORT, self.exit_port)
        ports.attach_several(CMOS, 2, CmosClock(self.clock, date))
        ports.attach_several(FW_CFG_SELECTOR, 2, FwCfg(fw_cfg_items(config.memory, config.vcpus)))
        for first, count in ((KEYBOARD_COMMAND, 1), (RESET_CONTROL, 1), (SLEEP_CONTROL, 2)):
            ports.attach_several(first, count, power, offset=first)
        machine.bus.attach(IO_APIC_PAGE, _PAGE, self.io_apic)
        machine.bus.attach(APIC_PAGE, _PAGE, _OwnApic(self))
        self.console = ConsoleDevice(sent if sent_virtual is None else sent_virtual)
        self.balloon = BalloonDevice(balloon, config.memory, partial(reclaim, machine))
        every = [*devices, self.balloon, self.console]
        self.virtio = VirtioSlots(machine.bus, self.io_apic, DriverMemory(machine), every, self._end_turn)
        self.console.arrived = self.virtio.transports[-1].wake
        machine.handlers[ExitReason.CPUID] = self._cpuid
        for one in machine.vcpus:
            one.vmx.allow_unrestricted()
        for one in machine.vcpus[1:]:
            one.handle_exit(Exit(ExitReason.INIT_SIGNAL))
        self.turns = Turns(machine.vcpus, _TURN, lambda: self.ended, self)
        self.number = 0  #: of the vCPU at work

    @property
    def ended(self) -> bool:
        """Whether the guest has ended itself, or has given up."""
        return self.ending is not None or self.exit_port.status is not None or self.given_up()

    @property
    def apic(self) -> LocalApic:
        """The local APIC of the vCPU at work."""
        return self.apics[self.number]

    def begin_turn(self, number: int, at_work: int) -> None:
        """vCPU `number` is about to run; what is due by now happens first."""
        self.number = number
        self.clock.begin_turn(number, at_work)
        self.machine.vcpus[number].processor.follow_clock()
        for one in self.apics:
            one.expire()
        if self.stop_at is not None and self.clock.now() >= self.stop_at:
            self.turns.interrupt()
        self._typed.look()
        listener = self._listener
        if listener is not None and (data := self._typed.take(_INPUT)):
            listener.put(data)
        self.virtio.work()

    def blocks_left(self) -> int:
        """Return after about how many blocks a timer is due."""
        if self.virtio.has_work:
            return 1
        moment = self._next_moment()
        if moment is None:
            return _LOOK
        return min(max((moment - self.clock.now()) // _BLOCK, self.clock.share), _LOOK)

    def idle(self) -> bool:
        """Nobody has anything to do: let time pass until a timer is due; return False if none ever is.

        While somebody may type, time passes for both: a guest that waits for a second waits for one.
        """
        if self.virtio.has_work:
            return True
        moment = self._next_moment()
        awaits = self._listener is not None and self._typed.is_open
        if awaits:
            left = _LONGEST if moment is None else (moment - self.clock.now()) / _SECOND
            self._typed.wait(min(left, _LONGEST))
        if moment is None:
            return awaits
        self.clock.skip_to(moment)
        return True

    def close(self) -> None:
        """Give memory and engines back."""
        self.machine.discard()

    @property
    def _listener(self) -> SerialPort | ConsoleDevice | None:
        """Who gets what is typed: the serial port if the guest has opened it for reading."""
        return next((one for one in (self.serial, self.console) if one.wants_input), None)

    def _next_moment(self) -> int | None:
        moments = [self.stop_at, *(one.timer.moment for one in self.apics)]
        return min((moment for moment in moments if moment is not None), default=None)

    def _end_turn(self) -> None:
        """A device has been given work, or there is an interrupt: both are seen to between turns."""
        sliced(self.machine.vcpus[self.number].cpu).begin_slice(1)

    def _end(self, how: Ending) -> None:
        self.ending = how

    def _add_apic(self, vcpu: Vcpu) -> LocalApic:
        base = APIC_BASE.encode(EN=1, BSP=vcpu.number == 0, base=APIC_PAGE)
        made = vcpu.processor.apic = LocalApic(vcpu.number, self.apic_bus, self.clock, base=base)
        vcpu.processor.clock = self.clock
        vcpu.processor.time_stamps = time_stamps(vcpu.cpu)
        return made

    def _cpuid(self, context: ExitContext, stop: Exit) -> Next:
        """Answer CPUID as a processor of this PC: with its APIC's ID and the frequencies of its clocks."""
        del stop
        registers = context.cpu.registers
        leaf, subleaf = (value & LOW32 for value in registers.read_many(("rax", "rcx")))
        eax, ebx, ecx, edx = context.cpuid(leaf, subleaf)
        count = len(self.apics)
        if leaf == 0:
            eax = _MOST_LEAVES
        elif leaf == 1:
            ebx = ebx & 0xFFFF | count << 16 | self.number << 24
            ecx = ecx & ~CPUID_1_ECX.mask("HYPERVISOR") | CPUID_1_ECX.mask("x2APIC", "TSC_DEADLINE")
            edx |= CPUID_1_EDX.mask("HTT") if count > 1 else 0
        elif leaf == 0x15:
            eax, ebx, ecx, edx = 1, TSC_HZ // CRYSTAL_HZ, CRYSTAL_HZ, 0
        elif leaf == 0x16:
            eax, ebx, ecx, edx = TSC_HZ // _MHZ, TSC_HZ // _MHZ, 100, 0
        registers.write_many({"rax": eax, "rbx": ebx, "rcx": ecx, "rdx": edx})
        return SKIP


class _OwnApic:
    """The page of local APICs: each vCPU finds its own there."""

    def __init__(self, pc: Pc) -> None:
        self._pc = pc

    def read(self, offset: int, size: int) -> int:
        return self._pc.apic.read(offset, size)

    def write(self, offset: int, value: int, size: int) -> None:
        self._pc.apic.write(offset, value, size)
