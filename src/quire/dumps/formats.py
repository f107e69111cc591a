"""The formats that can be read, in the order in which a line is offered to them.

A new format gets a file of its own beside this one, and a line here.
"""

from quire.dumps.capability_text import CapabilityText
from quire.dumps.dump import Dump
from quire.dumps.entry_failure import EntryFailureLine
from quire.dumps.ept_fault import EptFault
from quire.dumps.exit_lines import ExitLines
from quire.dumps.field_list import FieldList
from quire.dumps.linux_oops import LinuxOops
from quire.dumps.nested_fault import NestedFault
from quire.dumps.program_fault import ProgramFault
from quire.dumps.qemu_maps import QemuMaps
from quire.dumps.qemu_registers import QemuRegisters
from quire.dumps.vmcb_text import VmcbText
from quire.dumps.vmcs_text import VmcsText

__all__ = ["FORMATS", "READABLE"]

FORMATS: tuple[type[Dump], ...] = (
    VmcsText,
    VmcbText,
    EntryFailureLine,
    LinuxOops,
    ProgramFault,
    EptFault,
    QemuRegisters,
    QemuMaps,
    CapabilityText,
    NestedFault,
    ExitLines,
    FieldList,
)

#: What can be read, for people.
READABLE = tuple(form.title for form in FORMATS)
