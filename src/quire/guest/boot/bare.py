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
from collections.abc import Sequence
from dataclasses import dataclass, replace

from quire.arch import (
    ACCESS_RIGHTS,
    CR0,
    CR4,
    EFER,
    PAGE_SIZE,
    PDE_2M,
    PDPTE,
    PML4E,
    RFLAGS,
    SKYLAKE_X,
    CpuProfile,
    ExitReason,
    InterruptionType,
)
from quire.arch.guest_state import ActivityState
from quire.cpu.soft import Detail
from quire.cpu.soft.ring0 import MachineCpu
from quire.devices import DEBUG_PORT, EXIT_PORT, DebugConsole, ExitPort, LocalApic
from quire.errors import MisuseError
from quire.exits import GuestStopped
from quire.guest.boot.turns import SLICE, Turns, machine_cpu
from quire.machine import CachingMode, GuestConfig, Hypervisor
from quire.memory import OutOfFrames
from quire.mmu import NumaConfig, Region, ShadowOptions
from quire.tlb import Tlb, TlbOptions
from quire.vcpu import EntryFailure, Event

__all__ = ["FIRST_FREE", "BareGuest", "BareOutcome"]

_GDT, _PML4, _PDPT, _DIRECTORIES = 0x1000, 0x2000, 0x3000, 0x4000
#: Where the boot tables and the first stack end, and an image may begin.
FIRST_FREE = 0x10000
_MOST_DIRECTORIES = 4
_LARGE = 2 << 20
_HLT = int(ActivityState.HLT)
_CODE, _DATA = 0x08, 0x10
_DESCRIPTORS = (0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
_FLAT = 0xFFFFFFFF
_CODE_RIGHTS = ACCESS_RIGHTS.encode(type=11, S=1, P=1, L=1, G=1)
_DATA_RIGHTS = ACCESS_RIGHTS.encode(type=3, S=1, P=1, DB=1, G=1)
_TSS_RIGHTS = ACCESS_RIGHTS.encode(type=11, P=1)
_SHADOW, _TLB = ShadowOptions(), TlbOptions()
_UNUSABLE = ACCESS_RIGHTS.mask("unusable")
_MOST_VCPUS, _STACK = 16, 1 << 10


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


class BareGuest:
    """One machine guest: `image` at `load_gpa`, entered at `entry`, `memory` bytes, under `mmu` native, ept or shadow.

    With `numa` the host has nodes, and the vCPUs run on `vcpu_nodes`, by default all where numa says. With `regions`
    these are its memory: there must be some at the boot protocol's tables and at the image.

    Deterministic: same image, same outcome. Raises MisuseError for an image that does not fit, and what making a
    hypervisor raises. :attr:`hypervisor` is there for whoever wants other handlers, controls or ports.
    """

    def __init__(
        self,
        image: bytes,
        *,
        load_gpa: int = FIRST_FREE,
        entry: int | None = None,
        memory: int = 16 << 20,
        mmu: str = "ept",
        host_page: int = 4 << 10,
        detail: Detail = Detail.EXITS,
        shadow: ShadowOptions = _SHADOW,
        caching: CachingMode = CachingMode.MODELLED,
        seed: int = 0,
        check_flushes: bool = False,
        profile: CpuProfile = SKYLAKE_X,
        tlb: TlbOptions = _TLB,
        vpid: int = 1,
        vcpus: int = 1,
        slice_blocks: int = SLICE,
        numa: NumaConfig | None = None,
        vcpu_nodes: Sequence[int] = (),
        regions: Sequence[Region] = (),
        wxorx: bool = False,
        name: str = "",
    ) -> None:
        if not FIRST_FREE <= load_gpa <= memory - len(image):
            raise MisuseError(
                f"An image of {len(image):#x} bytes at GPA {load_gpa:#x} is not within guest memory "
                f"{FIRST_FREE:#x} to {memory:#x}: load it elsewhere or give the guest more memory"
            )
        config = GuestConfig(
            mmu=mmu,
            memory=memory,
            host_page=host_page,
            kind="machine",
            shadow=shadow,
            caching=caching,
            seed=seed,
            check_flushes=check_flushes,
            profile=profile,
            tlb=tlb,
            vpid=vpid,
            numa=numa,
            regions=tuple(regions),
            wxorx=wxorx,
            name=name,
        )
        _check_memory(config, load_gpa, len(image))
        if not 1 <= vcpus <= _MOST_VCPUS:
            raise MisuseError(f"A guest with {vcpus} vCPUs cannot be made: give 1 to {_MOST_VCPUS}")
        if slice_blocks < 1:
            raise MisuseError(f"A turn of {slice_blocks} blocks does nothing: give at least 1")
        if vcpu_nodes and (numa is None or len(vcpu_nodes) != vcpus):
            raise MisuseError(
                f"{len(vcpu_nodes)} nodes cannot be given to {vcpus} vCPUs: give numa, and one node for each vCPU"
            )
        self.console, self.exit_port = DebugConsole(), ExitPort()
        self.hypervisor = self._make(_placed(config, vcpus, vcpu_nodes), detail)
        self.hypervisor.ports.attach(DEBUG_PORT, self.console)
        self.hypervisor.ports.attach(EXIT_PORT, self.exit_port)
        self._build_tables(memory)
        self.write(load_gpa, image)
        for number, one in enumerate(self.vcpus):
            _set_state(one, number, load_gpa if entry is None else entry, memory)
        self._turns = Turns(self.vcpus, slice_blocks, lambda: self.exit_port.status is not None)

    @property
    def vcpus(self) -> list[Hypervisor]:
        """Every vCPU, the first being :attr:`hypervisor`."""
        return self.hypervisor.vcpus

    @property
    def cpu(self) -> MachineCpu:
        """The Cpu of the first vCPU."""
        return machine_cpu(self.hypervisor)

    @property
    def tlb(self) -> Tlb:
        """The TLBs and walk caches of the first vCPU; each of :attr:`vcpus` has its own."""
        return self.hypervisor.tlb

    @staticmethod
    def _make(configs: Sequence[GuestConfig], detail: Detail) -> Hypervisor:
        """Return the first vCPU, with the others made, each as its configuration says."""
        vcpus = len(configs)

        def make_cpu(hypervisor: Hypervisor) -> MachineCpu:
            return MachineCpu(hypervisor, detail, in_slices=vcpus > 1)

        first = Hypervisor(configs[0], make_cpu)
        try:
            for config in configs[1:]:
                Hypervisor(config, make_cpu, first=first)
        except BaseException:
            for one in reversed(first.vcpus.copy()):
                one.close()
            raise
        if vcpus > 1:
            peers: list[LocalApic] = []
            for number, one in enumerate(first.vcpus):
                one.processor.apic = LocalApic(number, peers)
        return first

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` to guest-physical memory; backs it first if need be."""
        for at, count in _pages(gpa, len(data)):
            hpa = self.hypervisor.mmu.reach(at, write=True)
            self.hypervisor.forget_code(hpa, count)
            with self.hypervisor.noting_writes(hpa):
                self.hypervisor.host.memory.write(hpa, data[at - gpa : at - gpa + count])

    def read(self, gpa: int, length: int) -> bytes:
        """Return guest-physical memory."""
        reach, read = self.hypervisor.mmu.reach, self.hypervisor.host.memory.read
        return b"".join(bytes(read(reach(at), count)) for at, count in _pages(gpa, length))

    def interrupt(self, vector: int) -> None:
        """Have the next :meth:`run` begin with external interrupt `vector`; it wakes a halted guest."""
        self.hypervisor.vcpu.inject(Event(vector, InterruptionType.EXTERNAL_INTERRUPT))
        self.hypervisor.vcpu.vmcs.write("guest_activity_state", ActivityState.ACTIVE)

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
        for one in reversed(self.vcpus[1:]):
            one.close()
        self.hypervisor.discard()

    @property
    def halted(self) -> bool:
        """Whether every vCPU is in the HLT state."""
        return all(one.vcpu.vmcs.read("guest_activity_state") == _HLT for one in self.vcpus)

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
        for one in self.vcpus:
            exits.update(one.vcpu.exits)
            invalidations.update({done.name: count for done, count in one.mmu.invalidations.items()})
            delivered.update(machine_cpu(one).delivered)
            events.update(one.cpu.events())
        return BareOutcome(
            reason=reason,
            status=self.exit_port.status,
            text=text,
            output=bytes(self.console.output),
            exits={exit.name: count for exit, count in sorted(exits.items())},
            delivered=dict(sorted(delivered.items())),
            invalidations=dict(sorted(invalidations.items())),
            events=dict(events),
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


def _set_state(vcpu: Hypervisor, number: int, entry: int, memory: int) -> None:
    """Put the first state of vCPU `number` into its VMCS and its registers."""
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
    vcpu.vcpu.vmcs.write_many(**fields)
    stack = FIRST_FREE - number * _STACK
    rflags = RFLAGS.encode(always_1=1)
    vcpu.cpu.registers.write_many(
        {"rip": entry, "rsp": stack, "rdi": memory, "rsi": number, "rflags": rflags}
    )


def _pages(gpa: int, length: int) -> list[tuple[int, int]]:
    """Return address and length of the pieces of a range that cross no page."""
    pieces = []
    while length > 0:
        count = min(length, PAGE_SIZE - (gpa & PAGE_SIZE - 1))
        pieces.append((gpa, count))
        gpa, length = gpa + count, length - count
    return pieces


def _placed(config: GuestConfig, vcpus: int, nodes: Sequence[int]) -> list[GuestConfig]:
    """Return what each vCPU gets: a VPID of its own if there are any, its node if they are given."""
    found = []
    for number in range(vcpus):
        one = replace(config, vpid=config.vpid + number if config.vpid else 0)
        if nodes and config.numa is not None:
            one = replace(one, numa=replace(config.numa, vcpu_node=nodes[number]))
        found.append(one)
    return found
