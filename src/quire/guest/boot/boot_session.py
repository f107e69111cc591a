"""One boot of one guest: the machine, what is loaded into it, the console, and how it ended."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from quire.devices.virtio import BlockDevice, EntropyDevice, VirtioDevice, open_disk
from quire.errors import CANNOT_SET_UP, BackendError, MisuseError
from quire.exits import GuestStopped
from quire.guest.boot.acpi import place_tables
from quire.guest.boot.boot_record import boot_record
from quire.guest.boot.boot_spec import BootSpec, DiskFile
from quire.guest.boot.console import Console
from quire.guest.boot.image import Given, Image, Initrd
from quire.guest.boot.images import choose_image
from quire.guest.boot.long_mode import build_tables, start_long_mode
from quire.guest.boot.pc import Pc, Typed
from quire.guest.boot.protected_mode import start_protected_mode
from quire.guest.boot.virtio_slots import MOST_DISKS
from quire.guest.boot.zero_page import DESCRIPTORS
from quire.guest.load.launch import LaunchError
from quire.machine import Vcpu
from quire.memory import OutOfFrames
from quire.vcpu import EntryFailure, NotDelivered

__all__ = ["BootSession"]

#: Where the ACPI tables go, within what the BIOS has on a PC.
_TABLES = 0xE0000
_MAPPED = 4 << 30
_FAILED, _INTERRUPTED = 1, 130


class BootSession:
    """Boots what `spec` describes. Make it, :meth:`run` it, read :meth:`make_record`.

    `write` gets what the guest sends to its console, `typed` has what people or programs type. Close it. Raises
    LaunchError for what cannot be booted.
    """

    def __init__(self, spec: BootSpec, write: Callable[[bytes], object], typed: Typed) -> None:
        started = time.perf_counter()
        self.consoles = Console(write), Console(write)  #: serial, virtio
        most = spec.config.memory
        kernel = choose_image(_read(spec.kernel, "kernel", most), spec.kernel, spec.flat)
        initrds = tuple(Initrd(Path(name).name, _read(name, "initrd", most)) for name in spec.initrds)
        self.spec = spec = replace(spec, append=kernel.usual) if spec.append is None else spec
        self._check_devices()
        with ExitStack() as undo:
            self.disks = [self._open(one, undo) for one in spec.disks]
            devices: list[VirtioDevice] = [*self.disks, EntropyDevice(spec.config.seed)]
            try:
                self.pc = Pc(
                    spec.config,
                    self.consoles[0].sent,
                    typed,
                    date=spec.date,
                    detail=spec.detail,
                    engine=spec.engine,
                    devices=devices,
                    sent_virtual=self.consoles[1].sent,
                    balloon=spec.balloon,
                )
            except (BackendError, MisuseError, OutOfFrames) as error:
                raise LaunchError(CANNOT_SET_UP, f"cannot set the guest up: {error}") from error
            undo.callback(self.pc.close)
            self.pc.given_up = lambda: any(one.over for one in self.consoles)
            self._load(kernel, initrds)
            self._undo = undo.pop_all()
        self.status = _INTERRUPTED  #: of a guest that is ended before it ran
        self.reason: str | None = None  #: why it ended, if not as it should
        self._how = "not run"
        self._running, self._setup = 0.0, time.perf_counter() - started  # seconds

    def run(self) -> int:
        """Run the guest until it ends; return the exit status for Quire.

        0 after the guest's own shutdown, 1 when its kernel panicked or cannot go on, 130 when it was interrupted, and
        may be run again; of a guest that writes to the exit port, twice what it wrote, plus 1.
        """
        self._act(self.pc.turns.run)
        self.status, self._how = self._outcome()
        return self.status

    def step(self, vcpu: Vcpu) -> None:
        """Have `vcpu` execute one instruction, which may end the guest."""
        self._act(lambda: self.pc.turns.step(vcpu))
        if self.pc.ended or self.reason is not None:
            self.status, self._how = self._outcome()

    def _act(self, act: Callable[[], None]) -> None:
        """Let the guest `act`, and note the reason if it cannot go on."""
        begun = time.perf_counter()
        try:
            act()
        except (GuestStopped, EntryFailure, NotDelivered) as end:
            self.reason = str(end)
        except OutOfFrames as end:
            self.reason = f"host memory exhausted: {end}"
        self._running += time.perf_counter() - begun

    def make_record(self) -> dict[str, Any]:
        """Return the record of what has run so far."""
        times = {
            "wall_seconds": self._setup + self._running,
            "setup_seconds": self._setup,
            "guest_seconds": self._running,
        }
        return boot_record(self.spec, self.pc, self.disks, (self.status, self._how, self.reason), times)

    def end(self) -> None:
        """End the guest from outside. Any thread may call."""
        self.pc.turns.interrupt()

    def close(self) -> None:
        """Give memory, engines and disks back."""
        self._undo.close()

    def _outcome(self) -> tuple[int, str]:
        pc = self.pc
        if self.reason is not None:
            return _FAILED, "stopped"
        panic = next((one.panic for one in self.consoles if one.panic is not None), None)
        if panic is not None:
            self.reason = f"its kernel panicked: {panic}"
            return _FAILED, "panicked"
        if pc.exit_port.status is not None:
            return (pc.exit_port.status << 1 | 1) & 0xFF, "ended itself"
        if pc.ending is not None:
            return 0, pc.ending.value
        if pc.turns.stopped:
            return _INTERRUPTED, "interrupted"
        return 0, "halted"

    def _check_devices(self) -> None:
        """Raise LaunchError for more disks than there are slots, and a balloon that leaves nothing."""
        spec = self.spec
        if len(spec.disks) > MOST_DISKS:
            raise LaunchError(
                CANNOT_SET_UP, f"{len(spec.disks)} disks are too many: give at most {MOST_DISKS}"
            )
        if spec.balloon >= spec.config.memory:
            raise LaunchError(
                CANNOT_SET_UP,
                f"a balloon of {spec.balloon:#x} bytes leaves nothing of {spec.config.memory:#x}: give a smaller one",
            )

    def _open(self, file: DiskFile, undo: ExitStack) -> BlockDevice:
        try:
            disk = open_disk(file.name, file.mode)
        except BackendError as error:
            raise LaunchError(CANNOT_SET_UP, str(error)) from None
        undo.callback(disk.close)
        return BlockDevice(disk)

    def _load(self, kernel: Image, initrds: tuple[Initrd, ...]) -> None:
        """Put everything into memory, and the first vCPU where the kernel begins."""
        pc, config = self.pc, self.spec.config
        write = pc.memory.write
        rsdp = place_tables(write, _TABLES, config.vcpus, pc.virtio.described())
        start = kernel.place(write, Given(config.memory, self.spec.append or "", initrds, rsdp))
        vcpu = pc.machine.vcpu
        if start.protected:
            start_protected_mode(vcpu, write)
        else:
            build_tables(write, _MAPPED, DESCRIPTORS)
            start_long_mode(vcpu, 0x10, 0x18, len(DESCRIPTORS))
        vcpu.cpu.registers.write_many(start.registers)


def _read(name: str, what: str, most: int) -> bytes:
    """Return what the file `name` has, which must be less than the guest's `most` bytes. Raises LaunchError."""
    try:
        with Path(name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(most) if size < most else b""
    except OSError as error:
        raise LaunchError(CANNOT_SET_UP, f"cannot read the {what} {name}: {error.strerror}") from None
    if size >= most or len(data) >= most:
        raise LaunchError(
            CANNOT_SET_UP,
            f"the {what} {name} is larger than the guest's memory of {most >> 20} MiB: "
            "give a smaller one, or more --memory",
        )
    return data
