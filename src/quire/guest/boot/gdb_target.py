"""A machine that boots, as a debugger sees it: a thread for each vCPU."""

from quire.arch import GENERAL, PAGE_SIZE, RFLAGS, WORD, Access
from quire.arch.modes import is_canonical
from quire.guest.boot.boot_session import BootSession
from quire.guest.gdb.registers import REGISTERS, values_of, with_fpu
from quire.machine import Vcpu
from quire.paging import Context, Status
from quire.vcpu import Registers, breaking

__all__ = ["BootTarget"]

_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
_POINTERS = ("rip", "rsp", "rflags")


class BootTarget:
    """The guest of `session`."""

    def __init__(self, session: BootSession) -> None:
        self._session = session
        self._vcpus = session.pc.machine.vcpus
        self._places: frozenset[int] = frozenset()
        self._armed = self._places  # where engines stop
        self.current = 1

    @property
    def threads(self) -> int:
        """How many vCPUs there are."""
        return len(self._vcpus)

    def name(self, thread: int) -> str:
        """Return what a person calls a thread."""
        return f"vCPU {thread - 1}"

    def registers(self, thread: int) -> list[int]:
        """Return the value of every register."""
        one = self._vcpus[thread - 1]
        others = {name: one.vmcs.read(f"guest_{name}_selector") for name in _SEGMENTS}
        others |= {f"cr{number}": one.processor.read_cr(number) for number in (0, 2, 3, 4, 8)}
        others["efer"] = one.vmcs.read("guest_ia32_efer")
        others["eflags"] = one.cpu.registers.read("rflags")
        return values_of(one.cpu.registers.read, one.cpu.registers.save_fpu(), others)

    def write_register(self, thread: int, number: int, value: int) -> bool:
        """Set a general, x87 or SSE register, RIP or RFLAGS, to what the VM entry that follows takes."""
        registers: Registers = self._vcpus[thread - 1].cpu.registers
        name = REGISTERS[number].name
        if name == "rip" and not is_canonical(value):
            return False
        if name == "eflags":
            value |= RFLAGS.mask("always_1")
            if value & (RFLAGS.reserved_mask | RFLAGS.mask("VM")):
                return False
        if name in GENERAL or name in ("rip", "eflags"):
            registers.write("rflags" if name == "eflags" else name, value)
            return True
        image = with_fpu(registers.save_fpu(), name, value)
        if image is None:
            return False
        registers.load_fpu(image)
        return True

    def read(self, thread: int, address: int, length: int, *, physical: bool) -> bytes:
        """Return memory, as much as there is."""
        found = bytearray()
        while len(found) < length:
            here = address + len(found)
            if here > WORD:
                break
            gpa = here if physical else self._translate(thread, here)
            count = min(length - len(found), PAGE_SIZE - here % PAGE_SIZE)
            if gpa is None or not 0 <= gpa <= self._session.spec.config.memory - count:
                break
            found += self._session.pc.memory.read(gpa, count)
        return bytes(found)

    def write(self, thread: int, address: int, data: bytes, *, physical: bool) -> bool:
        """Write memory; False where there is none."""
        if len(self.read(thread, address, len(data), physical=physical)) < len(data):
            return False
        done = 0
        while done < len(data):
            here = address + done
            gpa = here if physical else self._translate(thread, here)
            assert gpa is not None
            count = min(len(data) - done, PAGE_SIZE - here % PAGE_SIZE)
            self._session.pc.memory.write(gpa, data[done : done + count])
            done += count
        return True

    def set_breakpoints(self, places: frozenset[int]) -> None:
        """Stop at these addresses on every vCPU; engines are told when the guest goes on, of all at once."""
        self._places = places
        if not places:  # perhaps it goes on without a debugger
            self._arm()

    def _arm(self) -> None:
        """Tell engines where to stop, if that has changed."""
        if self._armed == self._places:
            return
        self._armed = self._places
        for one in self._vcpus:
            engine = breaking(one.cpu)
            engine.forget()
            for place in sorted(self._places):
                engine.at(place)

    def go_on(self) -> str | None:
        """Run until a breakpoint or an interruption."""
        self._arm()
        standing = self._vcpus[self.current - 1]
        if standing.guest_rip in self._places and (ended := self.step(self.current)) is not None:
            return ended
        self._session.run()
        self.current = next(
            (one.number + 1 for one in self._vcpus if one.guest_rip in self._places),
            self._session.pc.number + 1,
        )
        return self._how_ended()

    def step(self, thread: int) -> str | None:
        """Execute one instruction; a halted vCPU stays where it is."""
        self._arm()
        self.current = thread
        self._session.step(self._vcpus[thread - 1])
        return self._how_ended()

    def interrupt(self) -> None:
        """End the run."""
        self._session.end()

    def _how_ended(self) -> str | None:
        session = self._session
        if session.reason is not None:
            return session.reason
        return "the guest has ended" if session.pc.ended else None

    def _translate(self, thread: int, address: int) -> int | None:
        """Return the GPA of a linear address, as the supervisor reads it; None without a page."""
        one: Vcpu = self._vcpus[thread - 1]
        one.processor.settle()
        smap = one.mmu.guest_context[Context.SMAP]
        one.mmu.guest_context[Context.SMAP] = 0  # a debugger may read what the supervisor may not
        walk = one.mmu.walk(address, Access.READ, user=False)
        one.mmu.guest_context[Context.SMAP] = smap
        untouched = walk.status is Status.EPT_VIOLATION and walk.gpa == walk.fault_gpa  # nothing backs it yet
        return walk.gpa if walk.status is Status.OK or untouched else None
