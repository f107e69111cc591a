"""What happens at a VM exit: one table of handlers by reason, and the system registers that they work on.

Contract: a handler gets an ExitContext and the exit, mends what caused it or emulates the instruction, and returns what
happens next: RESUME, SKIP, Inject an event, StopGuest. Users may replace any handler of a machine.
"""

from quire.exits.context import ExitContext, Handler, SystemRegisters
from quire.exits.next_step import RESUME, SKIP, Inject, Next, Resume, Skip, StopGuest
from quire.exits.played_kernel import PlayedKernel
from quire.exits.processor import Processor
from quire.exits.stopped import GuestStopped
from quire.exits.table import HANDLERS

__all__ = [
    "HANDLERS",
    "RESUME",
    "SKIP",
    "ExitContext",
    "GuestStopped",
    "Handler",
    "Inject",
    "Next",
    "PlayedKernel",
    "Processor",
    "Resume",
    "Skip",
    "StopGuest",
    "SystemRegisters",
]
