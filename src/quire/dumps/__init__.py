"""What people paste: dumps of VMCSs and VMCBs, oopses, EPT faults, registers, found in a log and explained.

Contract: text is data of a stranger. Whatever it holds, reading it ends in a number of steps that grows with its length
and no faster, and gives records or none; a field is given, absent or damaged, and what is absent is not zero. One file
has one format: it reads and answers for its kind of record. Fails with MisuseError for nothing that is in the text.
"""

from quire.dumps.capability_text import capabilities_in
from quire.dumps.dump import Answer, Damage, Dump, Surroundings
from quire.dumps.explanation import explain_text, vmcs_fields
from quire.dumps.formats import READABLE
from quire.dumps.reading import Reading, read_dumps

__all__ = [
    "READABLE",
    "Answer",
    "Damage",
    "Dump",
    "Reading",
    "Surroundings",
    "capabilities_in",
    "explain_text",
    "read_dumps",
    "vmcs_fields",
]
