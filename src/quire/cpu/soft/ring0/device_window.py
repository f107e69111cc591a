"""Loads and stores of a machine guest that meet devices: the engine calls, the bus answers.

The engine makes an access of eight bytes two of four. What a device raises ends the run, and comes out of it.
"""

import ctypes
from collections.abc import Callable
from typing import Protocol

from unicorn.unicorn_py3.unicorn import uclib

from quire.cpu.soft.engine import Engine
from quire.cpu.soft.state import BUS_END, DEVICES
from quire.devices import Bus

__all__ = ["DeviceWindow"]

_READ = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p)
_WRITE = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p
)


class Stopping(Protocol):
    """The Cpu, which is at work."""

    def interrupt(self) -> None:
        """End the run."""
        ...


class DeviceWindow:
    """Everything from GPA `start` to 4 GiB, for the accesses of `engine`; `met` is told of each."""

    def __init__(self, engine: Engine, bus: Bus, start: int, cpu: Stopping, met: Callable[[], None]) -> None:
        self._bus, self._start, self._cpu, self._met = bus, start, cpu, met
        self._failure: BaseException | None = None
        self._callbacks = _READ(self._read), _WRITE(self._write)
        error = uclib.uc_mmio_map(
            engine.handle,
            ctypes.c_uint64(DEVICES + start),
            ctypes.c_size_t(BUS_END - start),
            self._callbacks[0],
            None,
            self._callbacks[1],
            None,
        )
        engine.check(error, "map devices")

    def settle(self) -> None:
        """Raise what a device raised during the run."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _read(self, engine: int, offset: int, size: int, user: int) -> int:
        del engine, user
        try:
            self._met()
            return self._bus.read(self._start + offset, size)
        except BaseException as error:
            self._fail(error)
            return 0

    def _write(self, engine: int, offset: int, size: int, value: int, user: int) -> None:
        del engine, user
        try:
            self._met()
            self._bus.write(self._start + offset, value, size)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Keep what cannot pass through the engine."""
        if self._failure is None:
            self._failure = error
        self._cpu.interrupt()
