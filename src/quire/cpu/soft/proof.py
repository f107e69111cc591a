"""A small guest, run once in a process before the engine's own code counts any other: are its counts right?

It does what emitted operations could get wrong: accesses by the thousand to one page, more pages than a set has ways, a
read-modify-write, a repeated instruction, an access of two pages, an instruction of the engine's own that stores, and a
fault within a block. What it comes to is known from the manual: Skylake's first level has 16 sets of 4 ways, so that of
6 pages of a set each access misses there.
"""

from functools import cache
from importlib.metadata import version

from quire.arch import SKYLAKE_X
from quire.cpu.detail import Detail
from quire.cpu.soft.soft import SoftCpu
from quire.cpu.soft.tcg.emitted import EmittedCounts
from quire.cpu.soft.tcg.offsets import knows_library
from quire.memory import HostMemory
from quire.paging import GUEST_FORMAT, Context, Rights, Tables, new_context
from quire.tlb import AddressSpace, Tlb
from quire.vcpu import Stop, Trap

__all__ = ["EXPECTED", "counts_of_proof", "why_hooks"]

_CODE, _DATA, _NOWHERE = 0x400000, 0x500000, 0x900000
_CODE_HPA, _DATA_HPA, _TABLES_HPA = 0x200000, 0x100000, 0x300000
_SIZE, _PAGES, _PAGE = 1 << 22, 96, 4096
_GUEST = bytes.fromhex(
    "b928000000"  # mov ecx, 40
    "488b07 48014708 488906 50 5b ffc9 75f0"  # mov rax,[rdi]; add [rdi+8],rax; mov [rsi],rax; push; pop; dec ecx; jnz
    "b905000000 488d7e40 f348ab"  # mov ecx, 5; lea rdi,[rsi+64]; rep stosq
    "488b86fc0f0000"  # mov rax, [rsi + 4092]
    "0fae8600020000"  # fxsave [rsi + 512]
    "ba03000000"  # mov edx, 3
    "4989f1 b906000000"  # mov r9, rsi; mov ecx, 6
    "498b01 4981c100000100 ffc9 75f2 ffca 75e6"  # mov rax,[r9]; add r9,0x10000; dec ecx; jnz; dec edx; jnz
    "48ffc3 488b06 498b00 488b06"  # inc rbx; mov rax,[rsi]; mov rax,[r8], which faults; mov rax,[rsi]
)
_FAULTS_AT = _CODE + len(_GUEST) - 6
#: 40 passes of 3 loads and 3 stores; 5 and 55 stores of REP STOSQ and FXSAVE; 18 loads of 6 pages, one of two, one.
EXPECTED = {
    "reads": 140,
    "writes": 180,
    "splits": 1,
    "blocks": 68,
    "instructions": 378,
    "walks": 10,
    "dirty_walks": 1,
    "guest_references": 13,
    "l1d_misses": 21,
    "l1i_misses": 1,
    "l2d_misses": 8,
    "l2i_misses": 1,
}


class _Frames:
    """Frames for the guest's tables, one behind the other."""

    def __init__(self, memory: HostMemory) -> None:
        self.load, self.store = memory.load, memory.store
        self._next = _TABLES_HPA

    def allocate_table(self) -> int:
        self._next += _PAGE
        return self._next

    def free_table(self, address: int) -> None:
        """Keep it."""


def counts_of_proof(*, by_hooks: bool = False) -> tuple[dict[str, int], Stop, int, bool]:
    """Run the guest; return its counts, why and where it stopped, and whether the engine's own code counted."""
    memory = HostMemory(_SIZE)
    tables = Tables(_Frames(memory), GUEST_FORMAT)
    context = new_context(SKYLAKE_X, memory.size)
    context[Context.CR3] = tables.root
    tables.map(_CODE, _CODE_HPA, _PAGE, Rights.READ | Rights.EXECUTE)
    for n in range(_PAGES):
        tables.map(_DATA + _PAGE * n, _DATA_HPA + _PAGE * n, _PAGE, Rights.READ | Rights.WRITE)
    tlb = Tlb(SKYLAKE_X)
    tlb.enter(AddressSpace(1, 0, None))
    cpu = SoftCpu(memory, context, tlb, Detail.FULL, lambda _: None, by_hooks=by_hooks)
    memory.write(_CODE_HPA, _GUEST)
    start = {"rip": _CODE, "rdi": _DATA, "rsi": _DATA + _PAGE, "rsp": _DATA + 3 * _PAGE, "r8": _NOWHERE}
    cpu.registers.write_many(start)
    stop = cpu.run()
    found = cpu.events(), stop, cpu.registers.read("rip"), isinstance(cpu.counts, EmittedCounts)
    cpu.close()
    memory.close()
    return found


@cache
def why_hooks() -> str | None:
    """Return why hooks count in full detail, and not the engine's own code; None if that does."""
    found, stop, rip, emitted = counts_of_proof()
    if not emitted and knows_library():
        return (
            "there is no room near the engine, whose address space is full, or no place for one more engine"
        )
    if not emitted:
        return f"this build of Unicorn {version('unicorn')} is not one whose code generator Quire knows"
    faulted = isinstance(stop, Trap) and (stop.gva, rip) == (_NOWHERE, _FAULTS_AT)
    if faulted and found | EXPECTED == found:
        return None
    return "a small guest of known counts was counted otherwise. This is a bug in Quire: please report it"
