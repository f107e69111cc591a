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

import struct
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from quire.arch import (
    ACCESS_RIGHTS,
    CR0,
    CR4,
    EFER,
    LOW32,
    PAGE_SIZE,
    PDE_2M,
    PDPTE,
    PML4E,
    RFLAGS,
    ExitReason,
    InterruptionType,
)
from quire.arch.guest_state import ActivityState
from quire.cpu import Detail, make_cpu
from quire.devices import DEBUG_PORT, EXIT_PORT, DebugConsole, ExitPort, LocalApic
from quire.errors import MisuseError
from quire.exits import GuestStopped
from quire.guest.boot.turns import SLICE, Turns
from quire.machine import GuestConfig, Machine, Vcpu
from quire.memory import OutOfFrames
from quire.tlb import Tlb
from quire.vcpu import Counting, Cpu, EntryFailure, Event

__all__ = ["FIRST_FREE", "BareGuest", "BareOutcome", "bare_config"]

_GDT, _PML4, _PDPT, _DIRECTORIES = 0x1000, 0x2000, 0x3000, 0x4000
#: Where the boot tables and the first stack end, and an image may begin.
FIRST_FREE = 0x10000
_MOST_DIRECTORIES = 4
_LARGE = 2 << 20
_HLT = int(ActivityState.HLT)
_CODE, _DATA = 0x08, 0x10
_DESCRIPTORS = (0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
_FLAT = LOW32
_CODE_RIGHTS = ACCESS_RIGHTS.encode(type=11, S=1, P=1, L=1, G=1)
_DATA_RIGHTS = ACCESS_RIGHTS.encode(type=3, S=1, P=1, DB=1, G=1)
_TSS_RIGHTS = ACCESS_RIGHTS.encode(type=11, P=1)
_UNUSABLE = ACCESS_RIGHTS.mask("unusable")
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
            peers: list[LocalApic] = []
            for one in self.vcpus:
                one.processor.apic = LocalApic(one.number, peers)
        self.machine.ports.attach(DEBUG_PORT, self.console)
        self.machine.ports.attach(EXIT_PORT, self.exit_port)
        self._build_tables(memory)
        self.write(load_gpa, image)
        for one in self.vcpus:
            _set_state(one, load_gpa if entry is None else entry, memory)

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
        for at, count in _pages(gpa, len(data)):
            hpa = self.machine.mmu.reach(at, write=True)
            self.machine.forget_code(hpa, count)
            with self.machine.vcpu.noting_writes(hpa):
                self.machine.host.memory.write(hpa, data[at - gpa : at - gpa + count])

    def read(self, gpa: int, length: int) -> bytes:
        """Return guest-physical memory."""
        reach, read = self.machine.mmu.reach, self.machine.host.memory.read
        return b"".join(bytes(read(reach(at), count)) for at, count in _pages(gpa, length))

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
        except (GuestStopped, EntryFailure) as end:
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

    def _build_tables(self, memory: int) -> None:
        """Write the GDT and the tables of the boot protocol."""
        self.write(_GDT, struct.pack(f"<{len(_DESCRIPTORS)}Q", *_DESCRIPTORS))
        large = min(memory // _LARGE, _MOST_DIRECTORIES * 512)
        directories = -(-large // 512)
        self.write(_PML4, PML4E.encode(P=1, RW=1, addr=_PDPT).to_bytes(8, "little"))
        entries = [PDPTE.encode(P=1, RW=1, addr=_DIRECTORIES + PAGE_SIZE * n) for n in range(directories)]
        self.write(_PDPT, struct.pack(f"<{directories}Q", *entries))
        pages = [PDE_2M.encode(P=1, RW=1, PS=1, addr=_LARGE * n) for n in range(large)]
        self.write(_DIRECTORIES, struct.pack(f"<{large}Q", *pages))


def _check_memory(config: GuestConfig, load_gpa: int, length: int) -> None:
    """Raise MisuseError when a machine's regions have no memory where it starts."""
    regions = config.memory_regions()
    pages = -(-length // PAGE_SIZE) * PAGE_SIZE
    for what, start, size in (
        ("The boot protocol's tables", _GDT, FIRST_FREE - _GDT),
        ("The image", load_gpa, pages),
    ):
        if regions is not None and not regions.has_memory(start, size):
            raise MisuseError(
                f"{what} at GPA {start:#x} to {start + size:#x} would lie in no region with memory: give RAM there"
            )


def _set_state(vcpu: Vcpu, entry: int, memory: int) -> None:
    """Put the first state of `vcpu` into its VMCS and its registers."""
    vcpu.processor.reset(
        CR0.encode(PE=1, MP=1, ET=1, NE=1, WP=1, PG=1),
        _PML4,
        CR4.encode(PAE=1, OSFXSR=1, OSXMMEXCPT=1),
        EFER.encode(SCE=1, LME=1, LMA=1, NXE=1),
    )
    fields = {
        "guest_gdtr_base": _GDT,
        "guest_gdtr_limit": 8 * len(_DESCRIPTORS) - 1,
        "guest_idtr_base": 0,
        "guest_idtr_limit": 0,
    }
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"):
        rights = {"cs": _CODE_RIGHTS, "tr": _TSS_RIGHTS, "ldtr": _UNUSABLE}.get(name, _DATA_RIGHTS)
        selector = {"cs": _CODE, "tr": 0, "ldtr": 0}.get(name, _DATA)
        fields[f"guest_{name}_selector"] = selector
        fields[f"guest_{name}_base"] = 0
        fields[f"guest_{name}_limit"] = 0xFFFF if name in ("tr", "ldtr") else _FLAT
        fields[f"guest_{name}_access_rights"] = rights
    vcpu.vmcs.write_many(**fields)
    stack = FIRST_FREE - vcpu.number * _STACK
    rflags = RFLAGS.encode(always_1=1)
    vcpu.cpu.registers.write_many(
        {"rip": entry, "rsp": stack, "rdi": memory, "rsi": vcpu.number, "rflags": rflags}
    )


def _pages(gpa: int, length: int) -> list[tuple[int, int]]:
    """Return address and length of the pieces of a range that cross no page."""
    pieces = []
    while length > 0:
        count = min(length, PAGE_SIZE - (gpa & PAGE_SIZE - 1))
        pieces.append((gpa, count))
        gpa, length = gpa + count, length - count
    return pieces
