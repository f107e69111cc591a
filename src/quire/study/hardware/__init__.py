"""Predictions against this machine: C programs run natively and as guests, what 4 KiB pages cost over 2 MiB in each.

The programs are one C file, compiled with the machine's own compiler when they are asked for. Fails with MisuseError
where there is none, RunFailed for a program that could not be run.
"""

from pathlib import Path

__all__ = ["SOURCE"]

#: The programs: one C file, of which each is a case.
SOURCE = Path(__file__).with_name("guests.c")
