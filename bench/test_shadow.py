"""Shadow paging where it is decided: MOV to CR3 between two roots, and entries that are fetched together.

A switch back to a root must cost no rebuild: it is compared with native, where it is no exit. Prefetch is measured
where it can help: a guest with more page tables than shadow pages are allowed reads in order.
"""

import json
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from measure import QUIRE, table
from workloads import need

from quire.guest.boot.bare import FIRST_FREE, BareGuest, bare_config

_SOURCE = Path(__file__).parent / "guests" / "passes.c"
_SWITCHES = 4000
_PREFETCH = (1, 8, 64)
#: 80 page tables, more than the 64 shadow pages allowed, so that every pass builds each anew.
_PAGES, _PASSES, _BOUND = 40960, 3, 64


def _image() -> bytes:
    """Return a guest that alternates between the boot protocol's root and a copy of it, reading behind each switch."""
    second = 0x20000
    return b"".join(
        (
            b"\xbe\x00\x20\x00\x00",  # mov esi, PML4 of the boot protocol
            b"\xbf" + second.to_bytes(4, "little"),  # mov edi, second
            b"\x48\x8b\x06\x48\x89\x07",  # mov rax, [rsi]; mov [rdi], rax
            b"\xb9" + (_SWITCHES // 2).to_bytes(4, "little"),  # mov ecx, SWITCHES / 2
            b"\x0f\x22\xdf\x48\x8b\x07",  # loop: mov cr3, rdi; mov rax, [rdi]
            b"\x0f\x22\xde\x48\x8b\x07",  # mov cr3, rsi; mov rax, [rdi]
            b"\xe2\xf2",  # loop
            b"\x31\xc0\xe6\xf4\xf4",  # xor eax, eax; out 0xf4, al; hlt
        )
    )


def _switch(mmu: str) -> float:
    """Return the microseconds of one switch."""
    guest = BareGuest(_image(), bare_config(mmu=mmu), load_gpa=FIRST_FREE)
    started = time.process_time()
    outcome = guest.run(60.0)
    took = time.process_time() - started
    guest.close()
    assert outcome.status == 0, outcome
    return took / _SWITCHES * 1e6


def test_switch(rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    mmus = ("native", "ept", "shadow")
    taken = benchmark.pedantic(lambda: [{mmu: _switch(mmu) for mmu in mmus} for _ in range(rounds)], rounds=1)
    shown = table(f"MOV to CR3 and one read: median of {rounds}", "", "microseconds", "of native")
    native = statistics.median(one["native"] for one in taken)
    for mmu in mmus:
        figure = statistics.median(one[mmu] for one in taken)
        shown.add_row(mmu, f"{figure:.1f}", f"{figure / native:.2f}")


@pytest.fixture(scope="module")
def passes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled guest."""
    made = tmp_path_factory.mktemp("guests") / "passes"
    subprocess.run([need("gcc"), "-O2", "-static", "-o", made, _SOURCE], check=True)
    return made


def test_prefetch(passes: Path, tmp_path: Path, benchmark) -> None:  # type: ignore[no-untyped-def]
    def run(count: int) -> dict[str, int]:
        report = tmp_path / "report.json"
        options = ("--shadow-pages", str(_BOUND), "--shadow-prefetch", str(count))
        command = (QUIRE, "run", "--mmu", "shadow", *options, "--report", "json", "-o", str(report), "--")
        started = time.perf_counter()
        subprocess.run([*command, str(passes), str(_PAGES), str(_PASSES)], check=True)
        found: dict[str, int] = json.loads(report.read_text())["memory"]["shadow"]
        return {**found, "milliseconds": round(1000 * (time.perf_counter() - started))}

    taken = benchmark.pedantic(lambda: {count: run(count) for count in _PREFETCH}, rounds=1)
    title = f"{_PASSES} passes over {_PAGES} pages, {_BOUND} shadow pages"
    shown = table(title, "entries at a time", "exits that filled", "entries filled beside", "seconds")
    for count, found in taken.items():
        seconds = f"{found['milliseconds'] / 1000:.1f}"
        shown.add_row(str(count), f"{found['filled']:_}", f"{found['prefetched']:_}", seconds)
