"""How long an interruption takes: from the one call that asks for it to the end of the run.

A bare guest that loops without an exit runs in a thread; the time from the call of :meth:`Cpu.interrupt` to its return
from the engine is measured, under every Mmu and in both details. A test asks only that it ends
(tests/cpu/test_interrupt.py); how soon is for people to see.
"""

import statistics
import threading
import time

from measure import table

from quire.cpu import Detail
from quire.guest.boot.bare import BareGuest, bare_config
from quire.machine import MMUS
from quire.vcpu import Interrupted

_ROUNDS = 30
#: jmp to itself; and a loop that reads and writes memory: inc qword [rdi]; jmp back.
_LOOPS = {"nothing": bytes.fromhex("ebfe"), "read and write": bytes.fromhex("48ff07 ebfb")}


def _milliseconds(loop: bytes, mmu: str, detail: Detail) -> list[float]:
    """Return what each interruption took, from the call to the end of the run."""
    guest = BareGuest(loop, bare_config(mmu=mmu), detail=detail)
    guest.cpu.registers.write("rdi", 0x200000)
    taken = []
    try:
        guest.run(0.05)  # everything is backed and compiled
        for _ in range(_ROUNDS):
            ended: list[float] = []

            def run(ended: list[float] = ended) -> None:
                assert guest.vcpu.cpu.run() == Interrupted()
                ended.append(time.perf_counter())

            thread = threading.Thread(target=run)
            thread.start()
            time.sleep(0.002)
            asked = time.perf_counter()
            guest.vcpu.cpu.interrupt()
            thread.join()
            taken.append(1000 * (ended[0] - asked))
    finally:
        guest.close()
    return taken


def test_interruptions() -> None:
    shown = table("interruptions, ms", "loop", "Mmu and detail", "median", "longest")
    for name, loop in _LOOPS.items():
        for mmu in MMUS:
            for detail in Detail:
                taken = _milliseconds(loop, mmu, detail)
                setting = f"{mmu} {detail.name.lower()}"
                shown.add_row(name, setting, f"{statistics.median(taken):.2f}", f"{max(taken):.2f}")
