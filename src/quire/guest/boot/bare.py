"""Bare machine guests: one image in guest-physical memory, started in 64-bit mode at CPL 0, and nothing else.

The boot protocol. Guest-physical memory runs from 0 to `memory`. The page at 0x0 is the guest's. At 0x1000 lies a
GDT: null, 64-bit code (selector 0x08), data (0x10). At 0x2000 lies a PML4, at 0x3000 a page-directory-pointer
table, from 0x4000 a page directory for each GiB, which map the first 4 GiB at most, as far as there is memory, at
their own addresses with writable, executable supervisor pages of 2 MiB. The stack ends at 0x10000; the image lies
above that, where the caller says. RDI holds the size of memory in bytes, RSI the number of the vCPU, all other general
registers are 0; with several vCPUs all begin there at once, each with 1 KiB of stack below that of the one before, and
a local APIC in x2APIC mode. There is
no IDT and no TSS; interrupts are off. CR0 has PG, WP, NE, ET, MP and PE, CR4 has PAE, OSFXSR and OSXMMEXCPT, EFER has
SCE, LME, LMA and NXE. Port 0xE9 collects output, a write to port 0xF4 ends the guest with a status, HLT halts it.
"""

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from quire.arch import PAGE_SIZE, ExitReason, InterruptionType
from quire.arch.guest_state import ActivityState
from quire.cpu import Detail, make_cpu
from quire.devices import DEBUG_PORT, EXIT_PORT, ApicBus, DebugConsole, ExitPort, LocalApic
from quire.errors import MisuseError
from quire.exits import GuestStopped
from quire.guest.boot.long_mode import CODE_64, FLAT_DATA, TABLES, build_tables, start_long_mode
from quire.guest.boot.memory import GuestMemory
from quire.guest.boot.turns import SLICE, Turns
from quire.machine import GuestConfig, Machine, Vcpu
from quire.memory import OutOfFrames
from quire.tlb import Tlb
from quire.vcpu import Counting, Cpu, EntryFailure, Event, NotDelivered

__all__ = ["FIRST_FREE", "BareGuest", "BareOutcome", "bare_config"]

#: Where the boot tables and the first stack end, and an image may begin.
FIRST_FREE = 0x10000
_HLT = int(ActivityState.HLT)
_CODE, _DATA = 0x08, 0x10
_DESCRIPTORS = (0, CODE_64, FLAT_DATA)
_STACK = 1 << 10


@dataclass(frozen=True, slots=True)
class BareOutcome:
    """How a run ended: `reason` is halted, exited, stopped or interrupted, `text` says why a guest was stopped.

    `status` is what it wrote to the exit port. `exits` and `delivered` count VM exits by reason and events by
    vector, `invalidations` TLB operations by name, `events` what the Cpu counted.
    """

    reason: str
    status: int | None
    text: str
    output: bytes
    exits: dict[str, int]
    delivered: dict[int, int]
    invalidations: dict[str, int]
    events: dict[str, int]


def bare_config(**fields: Any) -> GuestConfig:
    """Return the hardware of a bare guest: a GuestConfig with these fields, by default 16 MiB under ept."""
    chosen: dict[str, Any] = {"kind": "machine", "memory": 16 << 20} | fields
    return GuestConfig(**chosen)


class BareGuest:
    """One machine guest: `image` at `load_gpa`, entered at `entry`, on the hardware that `config` describes.

    See :func:`bare_config`. With regions in `config` these are its memory: there must be some at the boot protocol's
    tables and at the image. The `engine` of that name executes it, recording as `detail` says; several vCPUs take turns
    of `slice_blocks` blocks.

    Deterministic: same image, same outcome. Raises MisuseError for an image that does not fit, and what making a
    machine raises. :attr:`machine` is there for whoever wants other handlers, controls or ports.
    """

    def __init__(
        self,
        image: bytes,
        config: GuestConfig | None = None,
        *,
        load_gpa: int = FIRST_FREE,
        entry: int | None = None,
        detail: Detail = Detail.EXITS,
        engine: str = "soft",
        slice_blocks: int = SLICE,
    ) -> None:
        config = bare_config() if config is None else config
        memory = config.memory
        if not FIRST_FREE <= load_gpa <= memory - len(image):
            raise MisuseError(
                f"An image of {len(image):#x} bytes at GPA {load_gpa:#x} is not within guest memory "
                f"{FIRST_FREE:#x} to {memory:#x}: load it elsewhere or give the guest more memory"
            )
        _check_memory(config, load_gpa, len(image))
        if slice_blocks < 1:
            raise MisuseError(f"A turn of {slice_blocks} blocks does nothing: give at least 1")
        self.console, self.exit_port = DebugConsole(), ExitPort()
        self.machine = Machine(config, make_cpu(engine, detail))
        try:
            self._turns = Turns(self.vcpus, slice_blocks, lambda: self.exit_port.status is not None)
        except BaseException:
            self.machine.discard()
            raise
        if config.vcpus > 1:
            bus = ApicBus()
            for one in self.vcpus:
                one.processor.apic = LocalApic(one.number, bus)
        self.machine.ports.attach(DEBUG_PORT, self.console)
        self.machine.ports.attach(EXIT_PORT, self.exit_port)
        self._memory = GuestMemory(self.machine)
        build_tables(self.write, memory, _DESCRIPTORS)
        self.write(load_gpa, image)
        for one in self.vcpus:
            start_long_mode(one, _CODE, _DATA, len(_DESCRIPTORS))
            stack = FIRST_FREE - one.number * _STACK
            start = {
                "rip": load_gpa if entry is None else entry,
                "rsp": stack,
                "rdi": memory,
                "rsi": one.number,
            }
            one.cpu.registers.write_many(start)

    @property
    def vcpus(self) -> list[Vcpu]:
        """Every vCPU, in order."""
        return self.machine.vcpus

    @property
    def vcpu(self) -> Vcpu:
        """The first vCPU, the only one of most guests."""
        return self.machine.vcpu

    @property
    def cpu(self) -> Cpu:
        """The engine of the first vCPU."""
        return self.machine.vcpu.cpu

    @property
    def tlb(self) -> Tlb:
        """The TLBs and walk caches of the first vCPU; each of :attr:`vcpus` has its own."""
        return self.machine.vcpu.tlb

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` to guest-physical memory; backs it first if need be."""
        self._memory.write(gpa, data)

    def read(self, gpa: int, length: int) -> bytes:
        """Return guest-physical memory."""
        return self._memory.read(gpa, length)

    def interrupt(self, vector: int) -> None:
        """Have the next :meth:`run` begin with external interrupt `vector`; it wakes a halted guest."""
        self.vcpu.vmx.inject(Event(vector, InterruptionType.EXTERNAL_INTERRUPT))
        self.vcpu.vmcs.write("guest_activity_state", ActivityState.ACTIVE)

    def run(self, timeout: float | None = None) -> BareOutcome:
        """Run until the guest halts, exits or cannot go on, or for `timeout` seconds; it may be run again."""
        timer = threading.Timer(timeout, self._turns.interrupt) if timeout is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        text = ""
        try:
            self._turns.run()
        except (GuestStopped, EntryFailure, NotDelivered) as end:
            text = str(end)
        except OutOfFrames as end:
            text = f"host memory exhausted: {end}"
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()
                self._turns.interrupted = False  # by a timer that came too late
        return self._outcome(text)

    def close(self) -> None:
        """Give memory and engine back."""
        self.machine.discard()

    @property
    def halted(self) -> bool:
        """Whether every vCPU is in the HLT state."""
        return all(one.vmcs.read("guest_activity_state") == _HLT for one in self.vcpus)

    def _outcome(self, text: str) -> BareOutcome:
        if text:
            reason = "stopped"
        elif self.exit_port.status is not None:
            reason = "exited"
        else:
            reason = "halted" if self.halted else "interrupted"
        exits: Counter[ExitReason] = Counter()
        invalidations: Counter[str] = Counter()
        delivered: Counter[int] = Counter()
        events: Counter[str] = Counter()
        counted = set(self.cpu.events()) if isinstance(self.cpu, Counting) else set()  # by every vCPU
        for one in self.vcpus:
            exits.update(one.exits)
            invalidations.update({done.name: count for done, count in one.mmu.invalidations.items()})
            delivered.update(one.vmx.delivered)
            found = one.cpu.events() if isinstance(one.cpu, Counting) else {}
            counted &= found.keys()
            events.update(found)
        return BareOutcome(
            reason=reason,
            status=self.exit_port.status,
            text=text,
            output=bytes(self.console.output),
            exits={exit.name: count for exit, count in sorted(exits.items())},
            delivered=dict(sorted(delivered.items())),
            invalidations=dict(sorted(invalidations.items())),
            events={name: events[name] for name in events if name in counted},
        )


def _check_memory(config: GuestConfig, load_gpa: int, length: int) -> None:
    """Raise MisuseError when a machine's regions have no memory where it starts."""
    regions = config.memory_regions()
    pages = -(-length // PAGE_SIZE) * PAGE_SIZE
    for what, start, size in (
        ("The boot protocol's tables", TABLES, FIRST_FREE - TABLES),
        ("The image", load_gpa, pages),
    ):
        if regions is not None and not regions.has_memory(start, size):
            raise MisuseError(
                f"{what} at GPA {start:#x} to {start + size:#x} would lie in no region with memory: give RAM there"
            )
