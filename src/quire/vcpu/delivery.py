"""Delivery of one event through the guest's IDT in IA-32e mode: SDM 3A §6.12, SDM 3A §6.14 and SDM 3A §7.7.

Models the whole path: gate, code segment, stack switch by privilege level or interrupt stack table, the frame,
the flags; each check in the order of the manual, each refusal with its error code. Does not model protected and
real mode, task gates, shadow stacks and user interrupts. What the guest does wrong is a value: :class:`Nested`
for an exception, :class:`Exit` for a VM exit that a memory access met. Fails with MisuseError for an event that
is not delivered through the IDT, and with NotDelivered, which is one, outside IA-32e mode.
"""

from dataclasses import dataclass
from typing import Protocol

from quire.arch import (
    ACCESS_RIGHTS,
    CR4,
    EFER,
    GATE_SIZE,
    IDT_GATE,
    RFLAGS,
    SEGMENT_DESCRIPTOR,
    SELECTOR,
    SELECTOR_ERROR,
    WORD,
    GateType,
    InterruptionType,
    Vector,
    access_rights,
    gate_offset,
    is_canonical,
    ist_offset,
    rsp_offset,
)
from quire.errors import MisuseError
from quire.vcpu.event import Event
from quire.vcpu.stop import Exit

__all__ = [
    "DescriptorTable",
    "EventState",
    "LinearMemory",
    "MemoryFault",
    "Nested",
    "NotDelivered",
    "deliver",
]

_CODE, _CONFORMING, _ACCESSED = 8, 4, 1
_LEAVING = RFLAGS.mask("TF", "NT", "RF", "VM")
_TYPE_BYTE = 5  # of a descriptor: the one that holds the accessed flag


class NotDelivered(MisuseError):
    """An event for a processor outside IA-32e mode, whose way there is not modelled: the guest cannot go on."""


@dataclass(frozen=True, slots=True)
class DescriptorTable:
    """Where a descriptor table or the TSS is: linear `base`, and `limit`, the offset of its last byte."""

    base: int
    limit: int


@dataclass(slots=True)
class EventState:
    """The state of a vCPU that event delivery reads and writes, by the manual's names.

    `rip` is at the instruction that the event interrupts. `ldtr` is None while LDTR is unusable. Access rights
    are as in the VMCS. `blocking_by_sti_or_mov_ss` and `nmi_blocking` are bits of the interruptibility state.
    """

    rip: int
    rsp: int
    rflags: int
    cs: int
    ss: int
    cpl: int
    idtr: DescriptorTable
    gdtr: DescriptorTable
    tr: int
    tss: DescriptorTable
    cr4: int
    efer: int
    ldtr: DescriptorTable | None = None
    cs_access_rights: int = 0
    ss_access_rights: int = 0
    nmi_blocking: bool = False
    blocking_by_sti_or_mov_ss: bool = False

    @property
    def linear_bits(self) -> int:
        """Width in bits of a canonical linear address: 57 with CR4.LA57, else 48."""
        return 57 if CR4.get(self.cr4, "LA57") else 48


@dataclass(frozen=True, slots=True)
class Nested:
    """An exception that delivery met: `cr2` is the linear address of a page fault, None of any other."""

    vector: int
    error_code: int | None = None
    cr2: int | None = None


#: What an access by linear address may come to instead of data.
MemoryFault = Nested | Exit


class LinearMemory(Protocol):
    """The guest's memory by linear address, as the processor accesses it while it delivers an event.

    `supervisor` accesses are supervisor-mode ones whatever the CPL: tables, TSS, and the stack of an inner
    level (SDM 3A §4.6). An access may cross a page; no byte is written if any of its bytes faults.
    """

    def read(self, gva: int, size: int, *, supervisor: bool) -> bytes | MemoryFault:
        """Return `size` bytes from `gva`, or why not."""
        ...

    def write(self, gva: int, data: bytes, *, supervisor: bool) -> MemoryFault | None:
        """Write `data` at `gva`; return None, or why not."""
        ...


@dataclass(frozen=True, slots=True)
class _Handler:
    """Where the event goes: the gate, the code segment that it names, and the level that this runs at."""

    gate: int
    selector: int
    descriptor: int
    descriptor_at: int
    cpl: int


def deliver(event: Event, state: EventState, memory: LinearMemory) -> MemoryFault | None:
    """Deliver `event` once: return None with `state` at the first instruction of the handler, or what stopped it.

    `state` changes only on success; of the frame, words above the one that faulted may have been written, as on
    a processor. Raises MisuseError for an event of type OTHER_EVENT, NotDelivered unless EFER.LMA = 1.
    """
    if event.type is InterruptionType.OTHER_EVENT:
        raise MisuseError(
            f"Event {event} is not delivered through the IDT: make it pending in the vCPU instead"
        )
    if not EFER.get(state.efer, "LMA"):
        raise NotDelivered(
            f"{_name(event)} at RIP {state.rip:#x} while EFER = {state.efer:#x} has LMA = 0: exceptions and interrupts "
            "are delivered in IA-32e mode only, which the guest must enter before its first"
        )
    gate = _read_gate(event, state, memory)
    if not isinstance(gate, int):
        return gate
    handler = _find_handler(event, gate, state, memory)
    if not isinstance(handler, _Handler):
        return handler
    stack = _find_stack(event, handler, state, memory)
    if not isinstance(stack, int):
        return stack
    if not is_canonical(stack, state.linear_bits):
        return Nested(Vector.SS, int(event.external))
    if not is_canonical(gate_offset(gate), state.linear_bits):
        return Nested(Vector.GP, int(event.external))
    rsp = _push_frame(event, stack, handler.cpl, state, memory)
    if not isinstance(rsp, int):
        return rsp
    fault = _mark_accessed(handler, memory)
    if fault is not None:
        return fault
    _commit(event, handler, rsp, state)
    return None


def _name(event: Event) -> str:
    """Return ``#GP`` of an exception, else ``interrupt 0x20``."""
    exception = event.type is InterruptionType.HARDWARE_EXCEPTION and event.vector in set(Vector)
    return f"#{Vector(event.vector).name}" if exception else f"interrupt {event.vector:#x}"


def _read_gate(event: Event, state: EventState, memory: LinearMemory) -> int | MemoryFault:
    """Return the gate of the event's vector, checked."""
    code = SELECTOR_ERROR.encode(EXT=int(event.external), IDT=1, index=event.vector)
    offset = event.vector * GATE_SIZE
    if offset + GATE_SIZE - 1 > state.idtr.limit:
        return Nested(Vector.GP, code)
    found = memory.read(state.idtr.base + offset & WORD, GATE_SIZE, supervisor=True)
    if not isinstance(found, bytes):
        return found
    gate = int.from_bytes(found, "little")
    if IDT_GATE.get(gate, "type") not in (GateType.INTERRUPT, GateType.TRAP):
        return Nested(Vector.GP, code)
    # INT1 does not ask for permission: of the software events it alone is external.
    if event.software and not event.external and IDT_GATE.get(gate, "DPL") < state.cpl:
        return Nested(Vector.GP, code)
    if not IDT_GATE.get(gate, "P"):
        return Nested(Vector.NP, code)
    return gate


def _selector_error(event: Event, selector: int) -> int:
    """Return the error code that names `selector`."""
    return SELECTOR_ERROR.encode(
        EXT=int(event.external), TI=SELECTOR.get(selector, "TI"), index=SELECTOR.get(selector, "index")
    )


def _find_handler(event: Event, gate: int, state: EventState, memory: LinearMemory) -> _Handler | MemoryFault:
    """Return the gate's code segment, checked: 64-bit, present, not less privileged than the CPL."""
    selector = IDT_GATE.get(gate, "selector")
    code = _selector_error(event, selector)
    offset = SELECTOR.get(selector, "index") * 8
    table = state.ldtr if SELECTOR.get(selector, "TI") else state.gdtr
    if not selector & ~SELECTOR.mask("RPL") or table is None or offset + 7 > table.limit:
        return Nested(Vector.GP, code)
    found = memory.read(table.base + offset & WORD, 8, supervisor=True)
    if not isinstance(found, bytes):
        return found
    descriptor = int.from_bytes(found, "little")
    said = SEGMENT_DESCRIPTOR.decode(descriptor)
    if not said["S"] or not said["type"] & _CODE or said["DPL"] > state.cpl or not said["L"] or said["DB"]:
        return Nested(Vector.GP, code)
    if not said["P"]:
        return Nested(Vector.NP, code)
    cpl = state.cpl if said["type"] & _CONFORMING else said["DPL"]
    return _Handler(gate, selector, descriptor, table.base + offset & WORD, cpl)


def _find_stack(
    event: Event, handler: _Handler, state: EventState, memory: LinearMemory
) -> int | MemoryFault:
    """Return the stack pointer before alignment: from the interrupt stack table, the inner level, or as it was."""
    number = IDT_GATE.get(handler.gate, "IST")
    if number:
        offset = ist_offset(number)
    elif handler.cpl != state.cpl:
        offset = rsp_offset(handler.cpl)
    else:
        return state.rsp
    if offset + 7 > state.tss.limit:
        return Nested(Vector.TS, _selector_error(event, state.tr))
    found = memory.read(state.tss.base + offset & WORD, 8, supervisor=True)
    return int.from_bytes(found, "little") if isinstance(found, bytes) else found


def _push_frame(
    event: Event, stack: int, cpl: int, state: EventState, memory: LinearMemory
) -> int | MemoryFault:
    """Push SS, RSP, RFLAGS, CS, RIP and the error code from `stack`, aligned down; return the new RSP."""
    rflags = state.rflags
    if event.fault and not event.injected:
        rflags |= RFLAGS.mask("RF")
    back = state.rip + event.instruction_length if event.software else state.rip
    words = [state.ss, state.rsp, rflags, state.cs, back & WORD]
    if event.error_code is not None:
        words.append(event.error_code)
    rsp = stack & ~0xF
    for word in words:
        rsp = rsp - 8 & WORD
        if not is_canonical(rsp, state.linear_bits):
            return Nested(Vector.SS, int(event.external))
        fault = memory.write(rsp, word.to_bytes(8, "little"), supervisor=cpl < 3)
        if fault is not None:
            return fault
    return rsp


def _mark_accessed(handler: _Handler, memory: LinearMemory) -> MemoryFault | None:
    """Set the accessed flag of the code-segment descriptor, which loading CS does (SDM 3A §3.4.5.1)."""
    marked = handler.descriptor | _ACCESSED << SEGMENT_DESCRIPTOR.shift("type")
    if marked == handler.descriptor:
        return None
    data = marked.to_bytes(8, "little")[_TYPE_BYTE : _TYPE_BYTE + 1]
    return memory.write(handler.descriptor_at + _TYPE_BYTE & WORD, data, supervisor=True)


def _commit(event: Event, handler: _Handler, rsp: int, state: EventState) -> None:
    """Write the new state: nothing can fail any more."""
    gate_type = IDT_GATE.get(handler.gate, "type")
    state.rflags &= ~(_LEAVING | (RFLAGS.mask("IF") if gate_type == GateType.INTERRUPT else 0))
    if handler.cpl != state.cpl:
        state.ss = handler.cpl  # a null selector whose RPL is the new CPL
        state.ss_access_rights = ACCESS_RIGHTS.encode(DPL=handler.cpl, unusable=1)
    state.cs = handler.selector & ~SELECTOR.mask("RPL") | handler.cpl
    state.cs_access_rights = access_rights(handler.descriptor) | _ACCESSED
    state.cpl = handler.cpl
    state.rip = gate_offset(handler.gate)
    state.rsp = rsp
    state.blocking_by_sti_or_mov_ss = False
    if event.type is InterruptionType.NMI:
        state.nmi_blocking = True
