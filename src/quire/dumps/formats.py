"""The formats that can be read, in the order in which a line is offered to them.

A new format gets a file of its own beside this one, and a line here.
"""

from quire.dumps.dump import Dump
from quire.dumps.ept_fault import EptFault
from quire.dumps.field_list import FieldList
from quire.dumps.linux_oops import LinuxOops
from quire.dumps.vmcs_text import VmcsText

__all__ = ["FORMATS", "READABLE"]

FORMATS: tuple[type[Dump], ...] = (VmcsText, LinuxOops, EptFault, FieldList)

#: What can be read, for people.
READABLE = tuple(form.title for form in FORMATS)
