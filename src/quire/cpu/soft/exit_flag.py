"""The flag under which the engine looks for requests to stop at blocks and nowhere else, found by experiment.

Code that the engine compiles looks for them behind every access too, where the instruction has been half done. One byte
of the engine's structure switches that off: the third of four flags in a row, of which the second and the last are up
between runs.
"""

from functools import cache

import numpy as np

from quire.cpu.soft.trial import CODE_AT, Trial, trial

__all__ = ["find_exit_flag"]

#: mov rax, [rdi]; inc rcx; jmp to the next instruction, where a block begins: mov rax, [rdi]
_CODE = bytes.fromhex("488b07 48ffc1 eb00 488b07")
_NEXT_BLOCK = CODE_AT + 8
#: The four flags, and what fills the word.
_FLAGS = (0, 1, 0, 1, 0, 0, 0, 0)


@cache
def find_exit_flag() -> int:
    """Return the flag's offset in an engine's structure, 0 if it is not clear."""
    with trial(_CODE) as engine:
        engine.on_read = engine.stop
        return _search(engine)


def _search(engine: Trial) -> int:
    if _waits(engine):
        return 0  # as if the flag were up: nothing can be told apart
    candidates = np.flatnonzero((engine.octets.reshape(-1, 8) == _FLAGS).all(axis=1))
    if candidates.size != 1:
        return 0
    flag = 8 * int(candidates[0]) + 2
    engine.octets[flag] = 1
    waits = _waits(engine)
    engine.octets[flag] = 0
    return flag if waits and not _waits(engine) else 0


def _waits(engine: Trial) -> bool:
    """Whether a request made at the first load is met at the next block, not before."""
    return engine.run()[1] == _NEXT_BLOCK
