"""An engine of a few lines: it knows three instructions, and translates by asking the Mmu."""

from collections import Counter
from collections.abc import Callable

from quire.arch import GENERAL, Access, ExitReason, Vector
from quire.cpu import Detail
from quire.machine import Vcpu
from quire.paging import Status
from quire.vcpu import Exit, Interrupted, Stop, Syscall, Trap, TrapKind


class ToyRegisters(Counter[str]):
    """The registers, each 0 until it is written."""

    fpu = bytes(512)

    def read(self, name: str) -> int:
        return self[name]

    def write(self, name: str, value: int) -> None:
        self[name] = value & (1 << 64) - 1

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        return [self[name] for name in names]

    def write_many(self, values: dict[str, int]) -> None:
        for name, value in values.items():
            self.write(name, value)

    def save_fpu(self) -> bytes:
        return self.fpu

    def load_fpu(self, image: bytes) -> None:
        self.fpu = image


class ToyCpu:
    """Executes MOV of an immediate to a register (32 and 64 bits) and SYSCALL; anything else is #UD."""

    name = "toy"

    def __init__(self, vcpu: Vcpu, detail: Detail) -> None:
        self.registers, self._vcpu, self._asked = ToyRegisters(rflags=2), vcpu, False

    def run(self) -> Stop:
        while not self._asked:
            stop = self._one(self.registers["rip"])
            if stop is not None:
                return stop
        self._asked = False
        return Interrupted()

    def _one(self, rip: int) -> Stop | None:
        code = b""
        for gva in range(rip, rip + 10):
            status, found = self._vcpu.mmu.translate(gva, Access.FETCH)
            if status == Status.PAGE_FAULT:
                return Trap(TrapKind.PAGE_FAULT, Vector.PF, found, gva)
            if status:
                return Exit(ExitReason.EPT_VIOLATION, found, self._vcpu.mmu.fault_gpa, gla=gva)
            code += bytes(self._vcpu.host.memory.read(found, 1))
        wide = code[0] == 0x48
        if code[:2] == b"\x0f\x05":
            self.registers["rip"] += 2
            return Syscall()
        if code[wide] & 0xF8 != 0xB8:
            return Trap(TrapKind.EXCEPTION, Vector.UD)
        size = 8 if wide else 4
        self.registers[GENERAL[code[wide] & 7]] = int.from_bytes(code[wide + 1 :][:size], "little")
        self.registers["rip"] += wide + 1 + size
        return None

    def interrupt(self) -> None:
        self._asked = True

    def step(self, then: Callable[[], None]) -> None:
        then()  # nothing is ever done ahead

    def forget(self, gva: int | None) -> None: ...

    def forget_code(self, hpa: int, length: int) -> None: ...

    def close(self) -> None: ...


class CountingToy(ToyCpu):
    """One that counts, though it has nothing to count."""

    def events(self) -> dict[str, int]:
        return Counter()

    def instructions(self) -> int:
        return 0

    def walks(self) -> int:
        return 0
