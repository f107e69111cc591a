"""A boot as a record: kernel, initial RAM disks, command line, the hardware, how much is recorded."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from quire.cpu import Detail
from quire.devices.virtio import DiskMode
from quire.guest.boot.pc import FIRST_DATE
from quire.machine import GuestConfig

__all__ = ["BootSpec", "DiskFile", "boot_config"]


class DiskFile(NamedTuple):
    """A disk of the guest: the file `name`, and what becomes of what the guest writes."""

    name: str
    mode: DiskMode = DiskMode.TEMPORARY


def boot_config(**fields: Any) -> GuestConfig:
    """Return the hardware of a guest that boots: a GuestConfig with a bus, by default 512 MiB under ept."""
    chosen: dict[str, Any] = {"kind": "machine", "bus": True, "memory": 512 << 20} | fields
    return GuestConfig(**chosen)


@dataclass(frozen=True, slots=True)
class BootSpec:
    """What to boot and how. `initrds` are files; `append` is the command line, None for what is usual of the kernel.

    `flat` says where a kernel that is a flat binary goes, a guest-physical address; None for every other kind.
    The first of `disks` is /dev/vda. `balloon` is in bytes: what the guest is asked to give back.
    """

    kernel: str
    initrds: tuple[str, ...] = ()
    append: str | None = None
    config: GuestConfig = field(default_factory=boot_config)
    detail: Detail = Detail.EXITS
    engine: str = "soft"
    date: datetime = FIRST_DATE  #: what the guest's clock shows when it is switched on
    disks: tuple[DiskFile, ...] = ()
    balloon: int = 0
    flat: int | None = None
