"""A boot as a record: kernel, initial RAM disks, command line, the hardware, how much is recorded."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from quire.cpu import Detail
from quire.guest.boot.pc import FIRST_DATE
from quire.machine import GuestConfig

__all__ = ["BootSpec", "boot_config"]


def boot_config(**fields: Any) -> GuestConfig:
    """Return the hardware of a guest that boots: a GuestConfig with a bus, by default 512 MiB under ept."""
    chosen: dict[str, Any] = {"kind": "machine", "bus": True, "memory": 512 << 20} | fields
    return GuestConfig(**chosen)


@dataclass(frozen=True, slots=True)
class BootSpec:
    """What to boot and how. `initrds` are files, one behind the other in memory; `append` is the command line."""

    kernel: str
    initrds: tuple[str, ...] = ()
    append: str = "console=ttyS0"
    config: GuestConfig = field(default_factory=boot_config)
    detail: Detail = Detail.EXITS
    engine: str = "soft"
    date: datetime = FIRST_DATE  #: what the guest's clock shows when it is switched on
