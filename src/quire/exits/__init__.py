"""What happens at a VM exit: one table of handlers by reason, and the system instructions that they perform.

Contract: a handler gets an ExitContext and the exit, and says what happens next. Users may replace any handler.
"""

from quire.exits.handlers import DEFAULT_HANDLERS, GuestStopped, Handler
from quire.exits.machine_handlers import MACHINE_HANDLERS
from quire.exits.processor import GENERAL, Processor

__all__ = [
    "DEFAULT_HANDLERS",
    "GENERAL",
    "MACHINE_HANDLERS",
    "GuestStopped",
    "Handler",
    "Processor",
]
