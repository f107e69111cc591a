"""fw_cfg: what other emulators tell firmware and test kernels of the machine, item by item, through two ports.

A 16-bit write to the selector chooses an item, each byte read from the data port is its next. An item that is not
there, and what lies behind an item's end, reads as zero. Numbers have their low byte first. No files, no DMA: those
are for firmware, and there is none.
"""

from collections.abc import Mapping

__all__ = ["FW_CFG_DATA", "FW_CFG_SELECTOR", "FwCfg", "fw_cfg_items"]

#: The ports; the data port is read a byte at a time.
FW_CFG_SELECTOR, FW_CFG_DATA = 0x510, 0x511
#: Numbers of items.
SIGNATURE, IDENTITY, RAM_SIZE, CPU_COUNT, MOST_CPUS = 0x00, 0x01, 0x03, 0x05, 0x0F
_SIGNED = b"QEMU"  # by which every driver knows the interface
_TRADITIONAL = 1  # of the identity: the two ports, no DMA


def fw_cfg_items(memory: int, vcpus: int) -> dict[int, bytes]:
    """Return the items of a machine with `memory` bytes and so many `vcpus`."""
    return {
        SIGNATURE: _SIGNED,
        IDENTITY: _TRADITIONAL.to_bytes(4, "little"),
        RAM_SIZE: memory.to_bytes(8, "little"),
        CPU_COUNT: vcpus.to_bytes(2, "little"),
        MOST_CPUS: vcpus.to_bytes(2, "little"),
    }


class FwCfg:
    """Has `items` by number. One device for both ports: offset 0 is the selector, 1 the data port."""

    def __init__(self, items: Mapping[int, bytes]) -> None:
        self._items = dict(items)
        self._chosen = b""
        self._at = 0

    def read(self, offset: int, size: int) -> int:
        """Return the next byte of the chosen item; the selector reads as 0."""
        del size  # a wider read is a byte, too: of wider ones only DMA knows
        if offset == 0 or self._at >= len(self._chosen):
            return 0
        self._at += 1
        return self._chosen[self._at - 1]

    def write(self, offset: int, value: int, size: int) -> None:
        """Choose an item. Items cannot be written."""
        del size
        if offset == 0:
            self._chosen, self._at = self._items.get(value, b""), 0
