"""Virtio devices of a machine guest, behind registers in memory, with split queues (VIRTIO §2.7, §4.2).

Contract: what a driver writes, to registers or to memory, is hostile. What it does wrong makes the device need a
reset, which the driver is told; no loop is as long as a number of the driver's. A device works when it is told to, by
:meth:`MmioTransport.work`, between two turns of the guest: memory does not change under it.
"""

from quire.devices.virtio.balloon import BalloonDevice
from quire.devices.virtio.block import BlockDevice
from quire.devices.virtio.console import ConsoleDevice
from quire.devices.virtio.disk import Disk, DiskMode, open_disk
from quire.devices.virtio.driver_error import DeviceMemory, DriverError, NoMemory
from quire.devices.virtio.entropy import EntropyDevice
from quire.devices.virtio.mmio import MmioTransport, VirtioDevice

__all__ = [
    "BalloonDevice",
    "BlockDevice",
    "ConsoleDevice",
    "DeviceMemory",
    "Disk",
    "DiskMode",
    "DriverError",
    "EntropyDevice",
    "MmioTransport",
    "NoMemory",
    "VirtioDevice",
    "open_disk",
]
