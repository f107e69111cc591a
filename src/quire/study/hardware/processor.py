"""Which processor this machine has, by /proc/cpuinfo, and which profile is nearest to it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quire.errors import MisuseError

__all__ = ["Processor", "parse_processor", "this_processor"]

_CPUINFO = Path("/proc/cpuinfo")
_INTEL, _AMD = "GenuineIntel", "AuthenticAMD"
#: By vendor and family the profile nearest to each model: the models that it covers, and its name. Numbers are those of
#: Linux, arch/x86/include/asm/intel-family.h and arch/x86/kernel/cpu/amd.c; what is not the profile's own is named.
_NEAREST: Mapping[tuple[str, int], tuple[tuple[range, str], ...]] = {
    (_INTEL, 6): (
        (range(0x55, 0x56), "skylake-x"),  # and Cascade Lake, Cooper Lake
        (range(0x6A, 0x6D), "icelake-sp"),  # and Ice Lake-D
        (range(0x8F, 0x90), "sapphire-rapids"),
        (range(0xCF, 0xD0), "sapphire-rapids"),  # Emerald Rapids: the same cores
    ),
    (_AMD, 0x17): ((range(0x30, 0x40), "zen2"), (range(0x60, 0xA0), "zen2")),
    (_AMD, 0x19): (
        (range(0x00, 0x10), "zen3"),
        (range(0x20, 0x60), "zen3"),
        (range(0x10, 0x20), "zen4"),
        (range(0x60, 0xB0), "zen4"),
    ),
}


@dataclass(frozen=True, slots=True)
class Processor:
    """One processor: `virtual` says whether a hypervisor runs below us, so that nobody here knows the host's pages."""

    vendor: str
    family: int
    model: int
    virtual: bool

    @property
    def nearest(self) -> str:
        """The name of the profile nearest to it. Raises MisuseError if there is none."""
        for models, name in _NEAREST.get((self.vendor, self.family), ()):
            if self.model in models:
                return name
        raise MisuseError(
            f"No profile is near to this processor, {self.vendor} family {self.family:#x} model {self.model:#x}: "
            "give --profile, and see quire profiles"
        )


def this_processor() -> Processor:
    """Return the processor that this runs on. Raises MisuseError where Linux does not say."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MisuseError(f"{_CPUINFO} cannot be read: {error.strerror}: give --profile") from error
    return parse_processor(text)


def parse_processor(text: str) -> Processor:
    """Return the first processor of the text of /proc/cpuinfo. Raises MisuseError if it is not an x86 processor's."""
    found = dict(
        re.findall(r"^(vendor_id|cpu family|model|flags)\s*:\s*(.*)$", text.split("\n\n")[0], re.MULTILINE)
    )
    try:
        return Processor(
            found["vendor_id"],
            int(found["cpu family"]),
            int(found["model"]),
            "hypervisor" in found["flags"].split(),
        )
    except (KeyError, ValueError):
        raise MisuseError(f"{_CPUINFO} names no x86 processor: give --profile") from None
