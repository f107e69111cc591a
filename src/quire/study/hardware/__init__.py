"""Predictions against this machine: C programs run natively and as guests, what 4 KiB pages cost over 2 MiB in each.

The programs are one C file, compiled with the machine's own compiler when they are asked for. Fails with MisuseError
where there is none, for a processor that no profile is near to, or for a size that cannot be; with RunFailed for a
program that could not be run.
"""

from quire.study.hardware.caches import CHASES
from quire.study.hardware.processor import Processor, this_processor
from quire.study.hardware.programs import PROGRAMS, SOURCE, Timing, compile_programs, parse_programs
from quire.study.hardware.verdict import hardware_record

__all__ = [
    "CHASES",
    "PROGRAMS",
    "SOURCE",
    "Processor",
    "Timing",
    "compile_programs",
    "hardware_record",
    "parse_programs",
    "this_processor",
]
