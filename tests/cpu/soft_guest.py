"""A guest of the soft Cpu alone: hand-assembled code over page tables of its own, no hypervisor around it."""

import random

from quire.arch import SKYLAKE_X
from quire.cpu import Detail
from quire.cpu.soft import SoftCpu
from quire.cpu.soft.answered import FillSource
from quire.memory import HostMemory
from quire.paging import GUEST_FORMAT, Context, Rights, Tables, new_context
from quire.tlb import AddressSpace, Tlb
from quire.vcpu import Exit

CODE, DATA, STACK = 0x400000, 0x500000, 0x7FF000
CODE_HPA, DATA_HPA = 0x800000, 0x900000


class _Frames:
    def __init__(self, memory: HostMemory) -> None:
        self.load, self.store = memory.load, memory.store
        self.next = 0x100

    def allocate_table(self) -> int:
        self.next += 1
        return self.next << 12

    def free_table(self, address: int) -> None: ...


class Guest:
    """One page of code, 128 pages of data, one dimension."""

    def __init__(
        self,
        detail: Detail,
        code: str,
        *,
        code_rights: Rights = Rights.READ | Rights.EXECUTE,
        fills: FillSource | None = None,
        evictions: random.Random | None = None,
        by_hooks: bool = False,
    ) -> None:
        self.memory = HostMemory(1 << 25)
        self.tables = Tables(_Frames(self.memory), GUEST_FORMAT)
        self.context = new_context(SKYLAKE_X, self.memory.size)
        self.context[Context.CR3] = self.tables.root
        self.tables.map(CODE, CODE_HPA, 4096, code_rights)
        for n in range(128):
            self.tables.map(DATA + 4096 * n, DATA_HPA + 4096 * n, 4096, Rights.READ | Rights.WRITE)
        self.tlb = Tlb(SKYLAKE_X)
        self.tlb.enter(AddressSpace(1, 0, None))
        self.exits: list[Exit] = []
        self.cpu = SoftCpu(
            self.memory,
            self.context,
            self.tlb,
            detail,
            self.exits.append,
            fills=fills,
            evictions=evictions,
            by_hooks=by_hooks,
        )
        self.memory.write(CODE_HPA, bytes.fromhex(code))
        self.cpu.registers.write_many({"rip": CODE, "rdi": DATA, "rsp": DATA + 0x8000})
