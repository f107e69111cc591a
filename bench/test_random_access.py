"""A C guest that reads memory at random: 1 GiB, where every read walks, and 32 pages, where none does.

Targets (issue 2): 2.5 M reads/s at random through 4K x 4K tables with ``--detail exits``, with 5 M the aim; the loop
over 32 pages at least at half of plain Unicorn's speed (its own TLB, no paging, no hook, the same instructions).
"""

import statistics
import subprocess
import time
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from measure import QUIRE, table
from unicorn import UC_ARCH_X86, UC_MODE_64, Uc
from unicorn.x86_const import UC_X86_REG_RDI, UC_X86_REG_RDX, UC_X86_REG_RIP, UC_X86_REG_RSI
from workloads import need

from quire.arch import SKYLAKE_X, Side
from quire.study.big_tables import big_tables
from quire.tlb import AddressSpace, Tlb
from quire.trace import records, replay_walks

_SOURCE = Path(__file__).parent / "guests" / "random_read.c"
_CONFIGS = {
    "ept 4K x 4K": ("--mmu", "ept", "--guest-page", "4K", "--host-page", "4K"),
    "ept 4K x 2M": ("--mmu", "ept", "--guest-page", "4K", "--host-page", "2M"),
    "ept 2M x 2M": ("--mmu", "ept", "--guest-page", "2M", "--host-page", "2M"),
    "native 4K": ("--mmu", "native", "--guest-page", "4K"),
    "shadow 4K x 4K": ("--mmu", "shadow", "--guest-page", "4K", "--host-page", "4K"),
    "native 2M": ("--mmu", "native", "--guest-page", "2M"),
    "shadow 2M x 2M": ("--mmu", "shadow", "--guest-page", "2M", "--host-page", "2M"),
}
#: Shadow in its steady state walks as native does: the Mmu that each is compared with (issue 4: within 5 %).
_AS_FAST_AS = {"shadow 4K x 4K": "native 4K", "shadow 2M x 2M": "native 2M"}
_HOT_PAGES = 32
_CODE_AT, _DATA_AT = 0x10000, 0x200000


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled guest."""
    made = tmp_path_factory.mktemp("guests") / "random_read"
    subprocess.run([need("gcc"), "-O2", "-static", "-o", made, _SOURCE], check=True)
    return made


def _run(prefix: tuple[str, ...], guest: Path, pages: int, reads: int) -> dict[str, float]:
    """Return millions a second by phase."""
    done = subprocess.run(
        [*prefix, str(guest), str(pages), str(reads)], check=True, capture_output=True, text=True
    )
    return {phase: float(figure) for phase, figure in (line.split() for line in done.stdout.splitlines())}


def _loop(guest: Path) -> bytes:
    with guest.open("rb") as file:
        elf = ELFFile(file)
        symbols = elf.get_section_by_name(".symtab")
        start, end = (
            symbols.get_symbol_by_name(name)[0]["st_value"] for name in ("read_loop", "read_loop_end")
        )
        section = elf.get_section_by_name(".text")
        offset = start - section["sh_addr"]
        return section.data()[offset : offset + end - start]


def _plain_unicorn(code: bytes, pages: int, reads: int) -> float:
    """Return the million reads a second of the guest's loop in Unicorn alone."""
    engine = Uc(UC_ARCH_X86, UC_MODE_64)
    engine.mem_map(_CODE_AT, 0x1000)
    engine.mem_write(_CODE_AT, code)
    engine.mem_map(_DATA_AT, pages << 12)
    for page in range(pages):
        engine.mem_write(_DATA_AT + (page << 12), b"\1")
    took = 0.0
    for count in (1000, reads):  # the first compiles
        for register, value in (
            (UC_X86_REG_RDI, _DATA_AT),
            (UC_X86_REG_RSI, (pages << 12) - 8),
            (UC_X86_REG_RDX, count),
        ):
            engine.reg_write(register, value)
        started = time.perf_counter()
        engine.emu_start(_CODE_AT, _CODE_AT + len(code))
        took = time.perf_counter() - started
        assert engine.reg_read(UC_X86_REG_RIP) == _CODE_AT + len(code)
    return reads / took / 1e6


def test_random(guest: Path, small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    pages, reads = (1 << 14, 2_000_000) if small else (1 << 18, 20_000_000)
    need_memory = "256M" if small else "3G"
    prefixes = {
        name: (QUIRE, "run", "--memory", need_memory, "--detail", "exits", "--report", "none", *config, "--")
        for name, config in _CONFIGS.items()
    }

    def measure() -> dict[str, list[dict[str, float]]]:
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in ("this machine", *prefixes)}
        for _ in range(rounds):
            taken["this machine"].append(_run((), guest, pages, reads))
            for name, prefix in prefixes.items():
                taken[name].append(_run(prefix, guest, pages, reads))
        return taken

    taken = benchmark.pedantic(measure, rounds=1)
    title = f"random 8-byte reads over {pages >> 8} MiB, --detail exits: median of {rounds}"
    shown = table(title, "", "M reads/s", "range", "M first touches/s", "target")
    for name, phases in taken.items():
        figures = [one["read"] for one in phases]
        figure = statistics.median(figures)
        touch = statistics.median(one["touch"] for one in phases)
        goal = ""
        if name == "ept 4K x 4K":
            goal = f"2.5 (aim 5): {'reached' if figure >= 2.5 else 'MISSED'}"
        if name in _AS_FAST_AS:
            pairs = zip(phases, taken[_AS_FAST_AS[name]], strict=True)
            ratio = statistics.median(ours["read"] / theirs["read"] for ours, theirs in pairs)
            goal = f"0.95 of {_AS_FAST_AS[name]}: {ratio:.3f}, {'reached' if ratio >= 0.95 else 'MISSED'}"
        shown.add_row(
            name, f"{figure:.2f}", f"{min(figures):.2f} to {max(figures):.2f}", f"{touch:.4f}", goal
        )
    benchmark.extra_info["million_reads_a_second"] = taken


def _replayed(pages: int, reads: int) -> float:
    """Return the million reads a second of a replay of as many random reads, with walks behind walk caches."""
    tables = big_tables(pages << 12, 4096, 4096)
    stream = records(tables.addresses(reads, 1), Side.LOAD)
    for _ in range(2):  # the first compiles
        tlb = Tlb(SKYLAKE_X)
        tlb.enter(AddressSpace(1, 0, 1))
        started = time.perf_counter()
        replay_walks(tlb, stream, tables.memory, tables.context)
        took = time.perf_counter() - started
    return reads / took / 1e6


def test_random_in_full_detail(guest: Path, small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    """Reads that miss: in full detail at most 4 times the replay's time (aim 2.5), a first touch 1.2 times exits'."""
    pages, reads = (1 << 14, 500_000) if small else (1 << 18, 4_000_000)
    prefixes = {
        detail: (QUIRE, "run", "--memory", "3G", "--detail", detail, "--report", "none", "--")
        for detail in ("exits", "full")
    }

    def measure() -> dict[str, list[dict[str, float]]]:
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in (*prefixes, "replay")}
        for _ in range(rounds):
            for name, prefix in prefixes.items():
                taken[name].append(_run(prefix, guest, pages, reads))
            taken["replay"].append({"read": _replayed(pages, reads)})
        return taken

    taken = benchmark.pedantic(measure, rounds=1)
    shown = table(
        f"random reads of {pages >> 8} MiB: median of {rounds}", "", "ns a read", "us a first touch", ""
    )
    ns = {name: 1e3 / statistics.median(one["read"] for one in all_of) for name, all_of in taken.items()}
    us = {name: 1 / statistics.median(one["touch"] for one in taken[name]) for name in prefixes}
    for name in taken:
        shown.add_row(name, f"{ns[name]:.0f}", f"{us[name]:.1f}" if name in us else "", "")
    for name, found, limit in (
        ("full / replay", ns["full"] / ns["replay"], 4.0),
        ("first touch, full / exits", us["full"] / us["exits"], 1.2),
    ):
        verdict = "reached" if found <= limit else "MISSED"
        shown.add_row(name, f"{found:.2f}", "", f"at most {limit:g}: {verdict}")
    benchmark.extra_info["million_a_second"] = taken


def test_hot(guest: Path, small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    reads = 5_000_000 if small else 200_000_000
    code = _loop(guest)
    quire = (QUIRE, "run", "--report", "none")

    def measure() -> dict[str, list[float]]:
        taken: dict[str, list[float]] = {
            "plain Unicorn": [],
            "ept 4K x 4K, exits": [],
            "ept 4K x 4K, full": [],
        }
        for _ in range(rounds):
            taken["plain Unicorn"].append(_plain_unicorn(code, _HOT_PAGES, reads))
            for detail in ("exits", "full"):
                speed = _run((*quire, "--detail", detail, "--"), guest, _HOT_PAGES, reads)["read"]
                taken[f"ept 4K x 4K, {detail}"].append(speed)
        return taken

    taken = benchmark.pedantic(measure, rounds=1)
    shown = table(
        f"the same loop over 32 pages: median of {rounds}", "", "M reads/s", "range", "of plain", "target"
    )
    plain = statistics.median(taken["plain Unicorn"])
    for name, figures in taken.items():
        ratio = statistics.median(figures) / plain
        goal = f"at least 0.5: {'reached' if ratio >= 0.5 else 'MISSED'}" if name.endswith("exits") else ""
        span = f"{min(figures):.1f} to {max(figures):.1f}"
        shown.add_row(name, f"{statistics.median(figures):.1f}", span, f"{ratio:.2f}", goal)
    benchmark.extra_info["million_reads_a_second"] = taken
