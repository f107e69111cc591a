"""Options that say what processor a value comes from, where a profile alone does not: its width, its capabilities."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from quire.arch.known_processor import KnownProcessor
    from quire.arch.layout import Field

__all__ = [
    "address_parts",
    "c_bit_option",
    "known_processor",
    "maxphyaddr_option",
    "processor_options",
    "width_of",
]

_LEAST, _MOST = 32, 52  # SDM 3A §4.1.4


def maxphyaddr_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--maxphyaddr``, physical-address bits of one machine: models of one name differ in them."""
    return click.option(
        "--maxphyaddr", type=click.IntRange(_LEAST, _MOST), metavar="N",
        help="Physical-address bits of the machine, as CPUID 80000008H says; the profile's otherwise.",
    )(command)  # fmt: skip


def c_bit_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--c-bit``, the bit of AMD's memory encryption in entries."""
    return click.option(
        "--c-bit", type=click.IntRange(_LEAST, _MOST - 1), metavar="N",
        help="Bit N of entries is AMD's C-bit and no address bit, as CPUID 8000001FH EBX[5:0] says.",
    )(command)  # fmt: skip


def address_parts(width: int | None, keyid_bits: int | None, c_bit: int | None) -> "list[Field]":
    """Return the fields that stand in an address: a KeyID below `width`, or AMD's C-bit. Raises MisuseError."""
    from quire.arch import address_parts as parts

    if keyid_bits is not None and c_bit is not None:
        raise click.UsageError("--keyid-bits is of Intel's processors and --c-bit of AMD's: give one of them")
    if keyid_bits is not None:
        return [parts.keyid(width, keyid_bits)]
    return [] if c_bit is None else [parts.c_bit(c_bit)]


def processor_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--maxphyaddr`` and ``--caps``, what :func:`known_processor` takes besides a profile."""
    caps = click.option(
        "--caps", metavar="FILE",
        help="VMX capability MSRs of the machine: 0x48b = 0x..., VirtualBox's log, or vmxcap's output.",
    )  # fmt: skip
    return maxphyaddr_option(caps(command))


def width_of(profile: str | None, maxphyaddr: int | None) -> int | None:
    """Return the physical-address width that the options give, None if they give none."""
    if maxphyaddr is not None or profile is None:
        return maxphyaddr
    from quire.arch.known_profiles import profile_by_name

    return profile_by_name(profile).maxphyaddr


def known_processor(profile: str | None, maxphyaddr: int | None, caps: str | None) -> "KnownProcessor":
    """Return what the options tell of a processor: without any, that it has VMX and nothing more.

    Raises MisuseError, FormatError, OSError.
    """
    from quire.arch.known_processor import ANY_PROCESSOR, KnownProcessor
    from quire.arch.known_profiles import profile_by_name

    found = ANY_PROCESSOR if profile is None else KnownProcessor.of(profile_by_name(profile))
    if maxphyaddr is not None:
        found = found.with_width(maxphyaddr)
    return found if caps is None else found.with_msrs(_read_capabilities(caps))


def _read_capabilities(path: str) -> dict[int, int]:
    """Return the MSRs in the file at `path`, number to value. Raises FormatError, OSError."""
    from quire.documents import read_log
    from quire.dumps import capabilities_in, read_dumps
    from quire.errors import FormatError

    found = capabilities_in(read_dumps(read_log(path, path)).dumps)
    if not found:
        raise FormatError(
            f"{path}: no VMX capability MSR is in it: give lines such as 0x48b = 0x553cfe00000000"
        )
    return found
