"""The end of a guest that an exit stopped."""

from quire.arch import ExitReason, describe_exit
from quire.vcpu import Exit

__all__ = ["GuestStopped"]


class GuestStopped(Exception):
    """The guest cannot go on: an exit that nothing mends."""

    def __init__(self, stop: Exit) -> None:
        vector = None if stop.interruption is None else stop.interruption.vector
        words = describe_exit(stop.reason, stop.qualification, vector)
        at_gpa = stop.gpa or stop.reason in (ExitReason.EPT_VIOLATION, ExitReason.EPT_MISCONFIGURATION)
        super().__init__(f"{words}; GPA {stop.gpa:#x}" if at_gpa else words)
        self.exit = stop
