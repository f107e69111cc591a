"""What a machine guest reaches by ports, MSRs and interrupts: the debug console, the exit port, the local APIC.

Contract: a device sees an offset and bytes, never who runs it; what the guest does wrong is a value, the exception that
it gets.
"""

from quire.devices.local_apic import LocalApic
from quire.devices.msrs import Msr
from quire.devices.ports import DEBUG_PORT, EXIT_PORT, DebugConsole, ExitPort, Port, Ports

__all__ = [
    "DEBUG_PORT",
    "EXIT_PORT",
    "DebugConsole",
    "ExitPort",
    "LocalApic",
    "Msr",
    "Port",
    "Ports",
]
