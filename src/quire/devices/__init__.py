"""What a machine guest reaches by ports, MSRs and interrupts: the debug console, the exit port, the local APIC.

Contract: a device sees an offset and bytes, never who runs it; what the guest does wrong is a value, the exception that
it gets.
"""

from quire.devices.apic_bus import ApicBus
from quire.devices.bus import Bus, Device
from quire.devices.clock import Clock, MachineClock
from quire.devices.cmos import CMOS, CmosClock
from quire.devices.io_apic import IO_APIC_PAGE, IoApic
from quire.devices.local_apic import APIC_PAGE, LocalApic
from quire.devices.msrs import Msr
from quire.devices.ports import DEBUG_PORT, EXIT_PORT, DebugConsole, ExitPort, Port, Ports
from quire.devices.power import Ending, Power
from quire.devices.serial import COM1, COM1_PIN, SERIAL_PORTS, SerialPort

__all__ = [
    "APIC_PAGE",
    "CMOS",
    "COM1",
    "COM1_PIN",
    "DEBUG_PORT",
    "EXIT_PORT",
    "IO_APIC_PAGE",
    "SERIAL_PORTS",
    "ApicBus",
    "Bus",
    "Clock",
    "CmosClock",
    "DebugConsole",
    "Device",
    "Ending",
    "ExitPort",
    "IoApic",
    "LocalApic",
    "MachineClock",
    "Msr",
    "Port",
    "Ports",
    "Power",
    "SerialPort",
]
