"""A guest's tables in a dictionary of bytes: IDT, GDT, TSS and stacks for event delivery, with faults on demand."""

from quire.arch import EFER, IDT_GATE, RFLAGS, SEGMENT_DESCRIPTOR, GateType, InterruptionType, Vector
from quire.vcpu import DescriptorTable, Event, EventState, MemoryFault

IDT, GDT, LDT, TSS = 0x1000, 0x3000, 0x4000, 0x5000
KERNEL_CS, USER_CS, USER_SS, LDT_CS = 0x08, 0x1B, 0x23, 0x0C
HANDLER = 0xFFFF_8000_0000_1230
RSP0, IST1 = 0x9000, 0xA008
USER_RSP = 0x7008

INTERRUPT = Event(0x40, InterruptionType.EXTERNAL_INTERRUPT)
NMI = Event(2, InterruptionType.NMI)
INT_N = Event(0x40, InterruptionType.SOFTWARE_INTERRUPT, instruction_length=2)
INT3 = Event(3, InterruptionType.SOFTWARE_EXCEPTION, instruction_length=1)
INT1 = Event(1, InterruptionType.PRIVILEGED_SOFTWARE_EXCEPTION, instruction_length=1)
PF = Event.exception(Vector.PF, 7)
GP = Event.exception(Vector.GP, 0x10)
UD = Event.exception(Vector.UD)
DF = Event.exception(Vector.DF, 0)


def gate(**changes: int) -> int:
    """Return a present interrupt gate to the handler; `changes` replace its fields."""
    base = {
        "offset_low": HANDLER & 0xFFFF,
        "offset_middle": HANDLER >> 16 & 0xFFFF,
        "offset_high": HANDLER >> 32,
        "selector": KERNEL_CS,
        "type": GateType.INTERRUPT,
        "P": 1,
    }
    return IDT_GATE.encode(**(base | changes))


def code(**changes: int) -> int:
    """Return a present 64-bit code segment of level 0."""
    return SEGMENT_DESCRIPTOR.encode(**({"type": 0xB, "S": 1, "P": 1, "L": 1} | changes))


class FakeMemory:
    """Bytes by linear address; an access that touches an address in `faults` gives the fault there."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self.faults: dict[int, MemoryFault] = {}
        self.log: list[tuple[str, int, int, bool]] = []

    def put(self, gva: int, value: int, size: int = 8) -> None:
        self.bytes.update(enumerate(value.to_bytes(size, "little"), gva))

    def word(self, gva: int) -> int:
        return int.from_bytes(bytes(self.bytes.get(gva + n, 0) for n in range(8)), "little")

    def _fault(self, gva: int, size: int) -> MemoryFault | None:
        return next((self.faults[at] for at in range(gva, gva + size) if at in self.faults), None)

    def read(self, gva: int, size: int, *, supervisor: bool) -> bytes | MemoryFault:
        self.log.append(("read", gva, size, supervisor))
        fault = self._fault(gva, size)
        return fault if fault is not None else bytes(self.bytes.get(gva + n, 0) for n in range(size))

    def write(self, gva: int, data: bytes, *, supervisor: bool) -> MemoryFault | None:
        self.log.append(("write", gva, len(data), supervisor))
        fault = self._fault(gva, len(data))
        if fault is None:
            self.bytes.update(enumerate(data, gva))
        return fault


def tables() -> FakeMemory:
    """Return memory with a good gate at every vector, kernel and user code, and stacks in the TSS."""
    memory = FakeMemory()
    for vector in range(256):
        memory.put(IDT + 16 * vector, gate(), 16)
    memory.put(GDT + 0x08, code())
    memory.put(GDT + 0x18, code(DPL=3))
    memory.put(LDT + 0x08, code())
    memory.put(TSS + 4, RSP0)
    memory.put(TSS + 36, IST1)
    return memory


def user_state() -> EventState:
    """Return a vCPU that runs user code."""
    return EventState(
        rip=0x40_1000,
        rsp=USER_RSP,
        rflags=RFLAGS.encode(always_1=1, IF=1, TF=1, NT=1, CF=1),
        cs=USER_CS,
        ss=USER_SS,
        cpl=3,
        idtr=DescriptorTable(IDT, 0xFFF),
        gdtr=DescriptorTable(GDT, 0x27),
        tr=0x40,
        tss=DescriptorTable(TSS, 0x67),
        cr4=0,
        efer=EFER.encode(LMA=1, LME=1),
    )


def kernel_state() -> EventState:
    """Return a vCPU that runs kernel code on its stack."""
    state = user_state()
    state.cs, state.ss, state.cpl, state.rsp = KERNEL_CS, 0, 0, 0x8FF8
    return state


def slot(event: Event) -> int:
    """Return where the gate of the event is."""
    return IDT + 16 * event.vector


def frame(memory: FakeMemory, top: int, count: int) -> list[int]:
    """Return the pushed words, first pushed first."""
    return [memory.word(top - 8 * n) for n in range(1, count + 1)]
