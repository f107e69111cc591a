"""Instructions against this machine's own processor: a table of them, programs that execute them, what they leave."""

from quire.testing.instructions.deviations import DEVIATIONS, EngineDeviation, explain
from quire.testing.instructions.execution import ExecutionError, execute_as_guest, execute_natively
from quire.testing.instructions.image import State, executable, states
from quire.testing.instructions.operands import operands
from quire.testing.instructions.variant import Variant

__all__ = [
    "DEVIATIONS",
    "EngineDeviation",
    "ExecutionError",
    "State",
    "Variant",
    "executable",
    "execute_as_guest",
    "execute_natively",
    "explain",
    "operands",
    "states",
]
