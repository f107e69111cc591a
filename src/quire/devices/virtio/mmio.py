"""Virtio over memory, version 2: what a driver does with registers, and when a device works (VIRTIO §4.2, §3.1).

A notification is only noted: :attr:`MmioTransport.asked` is called, and whoever runs the guest calls
:meth:`MmioTransport.work` before its next turn. Only whole, aligned accesses reach registers; of others reads are 0.
"""

from collections.abc import Callable
from typing import Protocol

from quire.arch import LOW32
from quire.devices.virtio.chain import Chain
from quire.devices.virtio.driver_error import DeviceMemory, DriverError
from quire.devices.virtio.queue import MOST_ENTRIES, Virtqueue
from quire.devices.virtio.registers import (
    CONFIG,
    FEATURES,
    INTERRUPT,
    MAGIC,
    STATUS,
    VENDOR,
    VERSION,
    Register,
)

__all__ = ["MmioTransport", "VirtioDevice"]

_ACKNOWLEDGE, _DRIVER, _DRIVER_OK, _FEATURES_OK, _NEEDS_RESET, _FAILED = (
    STATUS.mask(one) for one in ("ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK", "NEEDS_RESET", "FAILED")
)
#: Bits that a driver may add to the status, and those that have to be there before (VIRTIO §3.1.1).
_NEEDS = {
    _ACKNOWLEDGE: 0,
    _DRIVER: _ACKNOWLEDGE,
    _FEATURES_OK: _ACKNOWLEDGE | _DRIVER,
    _DRIVER_OK: _ACKNOWLEDGE | _DRIVER | _FEATURES_OK,
    _FAILED: 0,
}
_USED, _CHANGED = INTERRUPT.mask("USED"), INTERRUPT.mask("CONFIG")
_INDIRECT, _VERSION_1 = FEATURES.mask("INDIRECT_DESC"), FEATURES.mask("VERSION_1")
_WIDTH = 4
#: Bytes after which the guest has a turn, though more requests wait.
_BUDGET = 16 << 20
#: Where each half of an address of a queue goes.
_HALVES = {
    Register.DESCRIPTORS_LOW: ("descriptors", 0),
    Register.DESCRIPTORS_HIGH: ("descriptors", 32),
    Register.AVAILABLE_LOW: ("available", 0),
    Register.AVAILABLE_HIGH: ("available", 32),
    Register.USED_LOW: ("used", 0),
    Register.USED_HIGH: ("used", 32),
}
#: Registers of shared memory: there is none (VIRTIO §4.2.2).
_NO_SHARED_MEMORY = (
    Register.SHARED_LENGTH_LOW,
    Register.SHARED_LENGTH_HIGH,
    Register.SHARED_BASE_LOW,
    Register.SHARED_BASE_HIGH,
)


class VirtioDevice(Protocol):
    """A kind of device, as its transport sees it."""

    kind: int  #: device ID (VIRTIO §5)
    features: int  #: that it offers, besides what every transport offers
    queue_count: int

    @property
    def config(self) -> bytes:
        """Its configuration, as the driver reads it."""
        ...

    def serve(self, queue: int, chain: Chain) -> int | None:
        """Do what `chain` asks for; return how many bytes were written, None if it has to wait. Raises DriverError."""
        ...


class MmioTransport:
    """Of `device`, which reaches the guest's `memory`. Calls :attr:`changed` when its interrupt may be another."""

    def __init__(self, device: VirtioDevice, memory: DeviceMemory) -> None:
        self.device, self._memory = device, memory
        self.asked: Callable[[], None] = lambda: None  #: called when there is work
        self.changed: Callable[[], None] = lambda: None
        self.trouble: str | None = None  #: what the driver did wrong, the last time that a reset was needed
        self._offered = device.features | _INDIRECT | _VERSION_1
        self._clear()

    @property
    def has_work(self) -> bool:
        """Whether :meth:`work` has anything to do."""
        return bool(self._notified) and self._runs

    def interrupts(self) -> bool:
        """Whether its line is up."""
        return bool(self._interrupt)

    def work(self) -> None:
        """Serve the queues of which the driver has notified the device, for a while."""
        spent = 0
        while self.has_work and spent < _BUDGET:
            number = min(self._notified)
            self._notified.discard(number)
            try:
                spent += self._serve(number, _BUDGET - spent)
            except DriverError as error:
                self._need_reset(str(error))

    def wake(self, number: int) -> None:
        """The device has something for its queue `number`, as if the driver had given notice of it."""
        self._notify(number)

    def read(self, offset: int, size: int) -> int:
        """Return what a load from its page reads."""
        if offset >= CONFIG:
            return int.from_bytes(self.device.config[offset - CONFIG : offset - CONFIG + size], "little")
        if size != _WIDTH or offset % _WIDTH:
            return 0
        read = _READS.get(offset)
        if read is not None:
            return read(self) & LOW32
        return LOW32 if offset in _NO_SHARED_MEMORY else 0

    def write(self, offset: int, value: int, size: int) -> None:
        """Take what a store to its page writes."""
        if size != _WIDTH or offset % _WIDTH:
            return
        write = _WRITES.get(offset)
        try:
            if write is not None:
                write(self, value)
            elif offset in _HALVES:
                self._set_address(*_HALVES[Register(offset)], value)
        except DriverError as error:
            self._need_reset(str(error))

    @property
    def _runs(self) -> bool:
        return bool(self._status & _DRIVER_OK) and not self._status & _NEEDS_RESET

    @property
    def _queue(self) -> Virtqueue | None:
        """The queue that is selected, if there is one."""
        return self._queues[self._selected] if self._selected < len(self._queues) else None

    def _clear(self) -> None:
        """Be as after reset."""
        self._status = self._interrupt = self._accepted = 0
        self._selected = self._offered_select = self._accepted_select = 0
        self._queues = [Virtqueue() for _ in range(self.device.queue_count)]
        self._notified: set[int] = set()

    def _serve(self, number: int, budget: int) -> int:
        """Serve queue `number`, which gave notice; return how many bytes its chains had."""
        queue, spent = self._queues[number], 0
        if not queue.ready:
            return 0
        for _ in range(queue.count(self._memory)):
            if spent >= budget:
                self._notified.add(number)
                break
            chain = queue.peek(self._memory, indirect=bool(self._accepted & _INDIRECT))
            spent += chain.readable_bytes + chain.writable_bytes
            written = self.device.serve(number, chain)
            if written is None:
                break
            if queue.finish(self._memory, chain, written):
                self._raise(_USED)
        return spent

    def _need_reset(self, why: str) -> None:
        """Stop until the driver resets the device (VIRTIO §2.1.2)."""
        self.trouble = why
        tells = self._status & _DRIVER_OK
        self._status |= _NEEDS_RESET
        if tells:
            self._raise(_CHANGED)

    def _raise(self, cause: int) -> None:
        self._interrupt |= cause
        self.changed()

    def _acknowledge(self, value: int) -> None:
        self._interrupt &= ~value
        self.changed()

    def _set_status(self, value: int) -> None:
        """Add what is legal of `value` to the status; 0 resets (VIRTIO §2.1, §3.1.1)."""
        if not value:
            self._clear()
            self.changed()
            return
        for new, needed in _NEEDS.items():
            if value & new and self._status & needed == needed and not self._status & new:
                if new == _FEATURES_OK and not self._agrees:
                    continue
                self._status |= new
                if new == _DRIVER_OK:  # notice may have been given too early
                    for number in range(len(self._queues)):
                        self._notify(number)

    @property
    def _agrees(self) -> bool:
        """Whether the device can do with the features that the driver has accepted."""
        return bool(self._accepted & _VERSION_1) and not self._accepted & ~self._offered

    def _accept(self, value: int) -> None:
        if self._status & _FEATURES_OK or self._accepted_select > 1:
            return
        shift = 32 * self._accepted_select
        self._accepted = self._accepted & ~(LOW32 << shift) | value << shift

    def _read_offered(self) -> int:
        return self._offered >> 32 * self._offered_select if self._offered_select < 2 else 0

    def _set_size(self, value: int) -> None:
        queue = self._queue
        if queue is not None and not queue.ready:
            queue.size = value

    def _set_address(self, name: str, shift: int, value: int) -> None:
        queue = self._queue
        if queue is not None and not queue.ready:
            setattr(queue, name, getattr(queue, name) & ~(LOW32 << shift) | value << shift)

    def _set_ready(self, value: int) -> None:
        queue = self._queue
        if queue is None or not self._status & _FEATURES_OK:
            return
        if not value & 1:
            queue.ready, queue.next_available, queue.next_used = False, 0, 0
        elif not queue.ready:
            queue.start()

    def _notify(self, number: int) -> None:
        if self._runs and number < len(self._queues) and self._queues[number].ready:
            self._notified.add(number)
            self.asked()

    def _select_offered(self, value: int) -> None:
        self._offered_select = value

    def _select_accepted(self, value: int) -> None:
        self._accepted_select = value

    def _select_queue(self, value: int) -> None:
        self._selected = value


#: What each register reads.
_READS: dict[int, Callable[[MmioTransport], int]] = {
    Register.MAGIC: lambda of: MAGIC,
    Register.VERSION: lambda of: VERSION,
    Register.DEVICE_ID: lambda of: of.device.kind,
    Register.VENDOR_ID: lambda of: VENDOR,
    Register.DEVICE_FEATURES: MmioTransport._read_offered,
    Register.QUEUE_SIZE_MAX: lambda of: MOST_ENTRIES if of._queue is not None else 0,
    Register.QUEUE_READY: lambda of: of._queue is not None and of._queue.ready,
    Register.INTERRUPT_STATUS: lambda of: of._interrupt,
    Register.STATUS: lambda of: of._status,
    Register.CONFIG_GENERATION: lambda of: 0,  # no configuration changes
}
#: What writing each does; addresses of queues besides.
_WRITES: dict[int, Callable[[MmioTransport, int], None]] = {
    Register.DEVICE_FEATURES_SELECT: MmioTransport._select_offered,
    Register.DRIVER_FEATURES: MmioTransport._accept,
    Register.DRIVER_FEATURES_SELECT: MmioTransport._select_accepted,
    Register.QUEUE_SELECT: MmioTransport._select_queue,
    Register.QUEUE_SIZE: MmioTransport._set_size,
    Register.QUEUE_READY: MmioTransport._set_ready,
    Register.QUEUE_NOTIFY: MmioTransport._notify,
    Register.INTERRUPT_ACKNOWLEDGE: MmioTransport._acknowledge,
    Register.STATUS: MmioTransport._set_status,
}
