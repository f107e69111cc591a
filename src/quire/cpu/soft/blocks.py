"""Instructions from blocks: the hooks count how often each block ran, here it is told how many instructions it has.

A block's code is logged when it is first seen and decoded once. A block that stops in the middle, at a fault, was
counted whole: what it did not execute is taken off again.
"""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quire.cpu.soft._kernels_blocks import BLOCK_SLOTS, LOG_WORDS
from quire.cpu.soft.state import SoftState

if TYPE_CHECKING:
    from capstone import Cs

__all__ = ["BlockCounter", "count_instructions"]

_SIZE = (1 << 13) - 1


@cache
def _decoder() -> "Cs":
    from capstone import CS_ARCH_X86, CS_MODE_64, Cs  # full detail alone counts instructions

    return Cs(CS_ARCH_X86, CS_MODE_64)


def count_instructions(code: bytes) -> int:
    """Return how many instructions `code` begins with; bytes that are none count as one and end it."""
    length = found = 0
    for _, size, _, _ in _decoder().disasm_lite(code, 0):
        length += size
        found += 1
    return found + (length < len(code))


class BlockCounter:
    """The table that the block hook fills, its code log, and the instructions counted so far."""

    def __init__(self, state: npt.NDArray[np.uint64]) -> None:
        self.table: npt.NDArray[np.uint64] = np.zeros(2 * BLOCK_SLOTS, np.uint64)
        self.log: npt.NDArray[np.uint64] = np.zeros(LOG_WORDS, np.uint64)
        self._state = state
        self._code: dict[int, bytes] = {}
        self._instructions = 0

    def drain(self) -> None:
        """Add up what the table holds and empty it."""
        used = int(self._state[SoftState.LOG_USED])
        self._read_log(self.log[:used].tolist())
        keys, times = self.table[0::2], self.table[1::2]
        taken = np.nonzero(keys)[0]
        lengths = {key: count_instructions(code) for key, code in self._code.items()}
        for key, count in zip(keys[taken].tolist(), times[taken].tolist(), strict=True):
            self._instructions += lengths[key] * count
        self.table[2 * taken] = 0
        self.table[2 * taken + 1] = 0
        self._code.clear()
        self._state[SoftState.BLOCKS_KNOWN] = 0
        self._state[SoftState.LOG_USED] = 0
        self._state[SoftState.EPOCH] = 0

    def left_out(self, code: bytes) -> None:
        """Take off instructions that were counted with their block and not executed: those of `code`."""
        self._instructions -= count_instructions(code)

    def total(self) -> int:
        """Return the instructions executed so far."""
        self.drain()
        return self._instructions

    def _read_log(self, words: list[int]) -> None:
        at = 0
        while at < len(words):
            size = words[at] >> 48 & _SIZE
            count = (size + 7) // 8
            code = b"".join(word.to_bytes(8, "little") for word in words[at + 1 : at + 1 + count])
            self._code[words[at]] = code[:size]
            at += 1 + count
