"""The timer of a local APIC: it counts down by the crystal, or waits for a value of the time-stamp counter.

SDM 3A §10.5.4. Times are in ns of the machine's clock.
"""

from quire.arch.apic import TimerMode
from quire.devices.clock import CRYSTAL_HZ, Clock

__all__ = ["ApicTimer"]

_NANOSECOND = 1_000_000_000
_TICK = _NANOSECOND // CRYSTAL_HZ
#: By the divide configuration register's bits 3, 1 and 0 (SDM 3A figure 10-10).
_DIVISORS = (2, 4, 8, 16, 32, 64, 128, 1)
_DIVIDE_MASK = 0b1011


class ApicTimer:
    """Of one local APIC; without a `clock` it never expires."""

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock
        self.stop()

    def stop(self) -> None:
        """Be as after reset."""
        self.initial = self.divide = self.deadline = 0  #: registers as they read; `deadline` is a TSC value
        self._mode = TimerMode.ONE_SHOT
        self.moment: int | None = None  #: when it expires, None for never

    @property
    def _period(self) -> int:
        return max(self.initial, 1) * self._tick

    @property
    def _tick(self) -> int:
        return _TICK * _DIVISORS[self.divide & 3 | self.divide >> 1 & 4]

    @property
    def current(self) -> int:
        """What is left of the count."""
        if self.moment is None or self._clock is None or self._mode is TimerMode.TSC_DEADLINE:
            return 0
        return max(-(-(self.moment - self._clock.now()) // self._tick), 0)

    def start(self, initial: int) -> None:
        """Write the initial count: the timer starts, or stops if that is 0."""
        if self._mode is TimerMode.TSC_DEADLINE:
            return
        self.initial = initial
        self.moment = None
        if initial and self._clock is not None:
            self.moment = self._clock.now() + self._period

    def set_divide(self, value: int) -> None:
        """Write the divide configuration: the count goes on at that rate."""
        left = self.current
        self.divide = value & _DIVIDE_MASK
        if self.moment is not None and self._clock is not None and self._mode is not TimerMode.TSC_DEADLINE:
            self.moment = self._clock.now() + left * self._tick

    def set_mode(self, mode: int) -> None:
        """The local vector says how the timer counts; to and from TSC deadline it is disarmed."""
        chosen = TimerMode(mode) if mode in tuple(TimerMode) else TimerMode.ONE_SHOT
        if TimerMode.TSC_DEADLINE in (chosen, self._mode) and chosen is not self._mode:
            self.moment, self.deadline = None, 0
        self._mode = chosen

    def set_deadline(self, value: int, now: int) -> None:
        """Write IA32_TSC_DEADLINE, when the time-stamp counter stands at `now`; 0 disarms. Other modes ignore it."""
        if self._mode is not TimerMode.TSC_DEADLINE or self._clock is None:
            return
        self.deadline = value
        self.moment = self._clock.now() + max(value - now, 0) if value else None

    def expired(self) -> bool:
        """Whether the moment has come; if so, the next one is set: of several that were missed, one counts."""
        if self.moment is None or self._clock is None:
            return False
        late = self._clock.now() - self.moment
        if late < 0:
            return False
        if self._mode is TimerMode.PERIODIC:
            self.moment += (late // self._period + 1) * self._period
        else:
            self.moment, self.deadline = None, 0
        return True
