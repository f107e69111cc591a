"""What a counted access costs: loops of loads and stores in the soft Cpu, uncounted, counted in its code, and by hooks.

Each guest is one loop of assembled bytes over pages that one-dimensional tables map. An access costs the time of the
loop minus that of the same loop without accesses, divided by their number. The number of accesses that the Cpu counted
must be the number that the loop makes. Times are of the processor, not of the wall clock.
"""

import statistics
import time
from dataclasses import dataclass

from measure import table

from quire.arch import SKYLAKE_X
from quire.cpu import Detail
from quire.cpu.soft import SoftCpu
from quire.memory import HostMemory
from quire.paging import GUEST_FORMAT, Context, Rights, Tables, new_context
from quire.tlb import AddressSpace, Tlb
from quire.vcpu import Exit, Syscall

_CODE_AT, _DATA_AT = 0x400000, 0x10000000
_CODE_HPA, _DATA_HPA = 0x800000, 0x2000000
_CODE_BYTES, _MOST_PAGES = 64 << 12, 4096
_STEP = "4881c200100000" + "4821f2"  # add rdx, 4096; and rdx, rsi
_LOAD, _STORE = "488b0417", "48890417"  # mov rax, [rdi + rdx]; mov [rdi + rdx], rax
_NOP = "0f1f4000"  # as long as either


@dataclass(frozen=True)
class Loop:
    """A body that is repeated `copies` times in one block; it makes `copies` accesses over `pages` pages."""

    name: str
    body: str
    pages: int
    accesses: int = 8

    def code(self) -> bytes:
        """The whole guest: body, dec rcx, jnz back, syscall."""
        body = bytes.fromhex(self.body) * 8
        back = -(len(body) + 9)
        return (
            body
            + bytes.fromhex("48ffc9")
            + b"\x0f\x85"
            + back.to_bytes(4, "little", signed=True)
            + b"\x0f\x05"
        )


def _loops() -> list[tuple[Loop, Loop]]:
    """Each loop beside the one that does all but the access."""
    found = []
    for verb, access in (("load", _LOAD), ("store", _STORE)):
        found.append((Loop(f"{verb}, one page", access, 1), Loop("", _NOP, 1, 0)))
        for pages, note in (
            (2, ", in turn"),
            (32, ""),
            (128, ": L1 misses, L2 hits"),
            (_MOST_PAGES, ": all miss"),
        ):
            name = f"{verb}, {pages} pages{note}"
            found.append((Loop(name, _STEP + access, pages), Loop("", _STEP + _NOP, pages, 0)))
    return found


class _TableFrames:
    def __init__(self, memory: HostMemory) -> None:
        self.load, self.store = memory.load, memory.store
        self._next = 0x100

    def allocate_table(self) -> int:
        self._next += 1
        return self._next << 12

    def free_table(self, address: int) -> None:
        """Tables live as long as the memory."""


class Guest:
    """One soft Cpu with code at _CODE_AT and writable pages at _DATA_AT."""

    def __init__(self, detail: Detail, *, by_hooks: bool = False) -> None:
        self._memory = HostMemory(1 << 26)
        tables = Tables(_TableFrames(self._memory), GUEST_FORMAT)
        context = new_context(SKYLAKE_X, self._memory.size)
        context[Context.CR3] = tables.root
        for at in range(0, _CODE_BYTES, 4096):
            tables.map(_CODE_AT + at, _CODE_HPA + at, 4096, Rights.READ | Rights.EXECUTE)
        for at in range(0, _MOST_PAGES << 12, 4096):
            tables.map(_DATA_AT + at, _DATA_HPA + at, 4096, Rights.READ | Rights.WRITE)
        tlb = Tlb(SKYLAKE_X)
        tlb.enter(AddressSpace(1, 0, None))
        self._places: dict[Loop, int] = {}  # each loop has a code page of its own
        self.cpu = SoftCpu(self._memory, context, tlb, detail, self._no_exit, by_hooks=by_hooks)

    def seconds(self, loop: Loop, times: int) -> float:
        """Run `loop` `times` times and return how long it took, after a run that compiles and warms."""
        at = self._places.setdefault(loop, len(self._places) << 12)
        self._memory.write(_CODE_HPA + at, loop.code())
        took = 0.0
        for count in (1000, times):
            self.cpu.registers.write_many(
                {"rip": _CODE_AT + at, "rcx": count, "rdi": _DATA_AT, "rdx": 0, "rsi": (loop.pages << 12) - 1}
            )
            before = self._accesses()
            started = time.process_time()
            stop = self.cpu.run()
            took = time.process_time() - started
            assert isinstance(stop, Syscall), stop
            if self.cpu.detail is Detail.FULL:
                assert self._accesses() - before == loop.accesses * count
        return took

    def _accesses(self) -> int:
        events = self.cpu.events()
        return events["reads"] + events["writes"]

    @staticmethod
    def _no_exit(stop: Exit) -> None:
        raise AssertionError(stop)


def _measure(times: int, rounds: int) -> dict[str, dict[str, float]]:
    guests = {
        "exits": Guest(Detail.EXITS),
        "full": Guest(Detail.FULL),
        "full, by hooks": Guest(Detail.FULL, by_hooks=True),
    }
    samples: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for loop, empty in _loops():
            few = max(times // 20, 1000) if loop.pages == _MOST_PAGES else times
            for name, guest in guests.items():
                took = guest.seconds(loop, few) - guest.seconds(empty, few)
                samples.setdefault((loop.name, name), []).append(took / (few * loop.accesses) * 1e9)
        for name, guest in guests.items():
            took = guest.seconds(Loop("", "90", 1, 0), times)
            samples.setdefault(("block of 10 instructions", name), []).append(took / times * 1e9)
    figures: dict[str, dict[str, float]] = {}
    for (loop_name, detail), taken in samples.items():
        figures.setdefault(loop_name, {})[detail] = statistics.median(taken)
    return figures


def test_counted_access(small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    figures = benchmark.pedantic(_measure, (100_000 if small else 2_000_000, rounds), rounds=1)
    names = ("exits", "full", "full, by hooks")
    shown = table(f"nanoseconds each: median of {rounds}", "", *names, "by hooks / in code")
    for loop, taken in figures.items():
        ratio = taken["full, by hooks"] / taken["full"]
        shown.add_row(loop, *(f"{taken[name]:.1f}" for name in names), f"{ratio:.1f}")
    benchmark.extra_info["nanoseconds"] = figures
