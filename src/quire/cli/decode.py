"""``quire decode``: a number in words."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from quire.cli.answer import answer_options
from quire.cli.outputs import Outputs
from quire.cli.processor_options import address_parts, c_bit_option, maxphyaddr_option, width_of

if TYPE_CHECKING:
    from quire.arch.layout import Field

__all__ = ["command"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--list", "only_list", is_flag=True, help="List what can be decoded, decode nothing.")
@click.option("--reason", metavar="REASON", help="Exit reason of an exit-qualification: number or name.")
@click.option("--vector", metavar="VECTOR", help="Vector, if the reason is EXCEPTION_OR_NMI.")
@click.option(
    "--profile", metavar="NAME|FILE", help="CPU profile: address bits beyond its MAXPHYADDR are reserved."
)
@maxphyaddr_option
@click.option("--keyid-bits", type=click.IntRange(1, 15), metavar="N",
              help="The highest N address bits are a KeyID of memory encryption (IA32_TME_ACTIVATE).")  # fmt: skip
@c_bit_option
@click.option("--all", "whole", is_flag=True, help="Show bits that are 0 as well.")
@answer_options("stdout")
@click.argument("what", required=False)
@click.argument("value", required=False)
def command(
    only_list: bool,
    reason: str | None,
    vector: str | None,
    profile: str | None,
    maxphyaddr: int | None,
    keyid_bits: int | None,
    c_bit: int | None,
    whole: bool,
    as_json: bool,
    output: str | None,
    what: str | None,
    value: str | None,
) -> int:
    """Say what VALUE means as a WHAT: each bit that is set, with its meaning; reserved bits are flagged.

    VALUE is a number (0x8000_0000, 0b101, 48) or, of things that have names, a name. An entry whose PS bit is 1 is
    shown as one that maps a page. Of an entry that is not present nothing else is decoded.

    \b
    Examples:
      quire decode pte 0x8000_0000_0010_0067
      quire decode cr4 0x3406e0
      quire decode pf-error 0x7
      quire decode pte 0x8000_00ff_fffe_e163 --maxphyaddr 39
      quire decode ept-pte 0x2400_0000_0037 --maxphyaddr 46 --keyid-bits 6
      quire decode pte 0x8_0000_1234_5067 --c-bit 51
      quire decode npf-exitinfo1 0x1_0000_0014
      quire decode vmcs-field 0x681e
      quire decode vmcs-field guest_cr3
      quire decode VM_ENTRY_INTR_INFO_FIELD 0x80000b0e
      quire decode exit-qualification --reason EPT_VIOLATION 0x182
      quire decode vm-instruction-error 7
      quire decode --list
    """
    from quire.errors import FormatError, MisuseError
    from quire.report.decode import render_decode_table

    outputs = Outputs("decode", {"--output": output})
    if only_list:
        from quire.arch.decode import SUBJECTS
        from quire.report.decode import render_subjects

        outputs.answer(SUBJECTS, render_subjects, as_json=as_json, default=sys.stdout)
        return 0
    if what is None or value is None:
        raise click.UsageError("give WHAT and VALUE; --list shows what can be decoded")
    try:
        width = width_of(profile, maxphyaddr)
        record = _decode(what, value, reason, vector, width, address_parts(width, keyid_bits, c_bit))
    except (FormatError, MisuseError) as error:
        raise click.ClickException(f"decode: {error}") from None
    outputs.answer(
        record,
        lambda record, file: render_decode_table(record, file, whole=whole),
        as_json=as_json,
        default=sys.stdout,
    )
    return 0


def _decode(
    what: str,
    value: str,
    reason: str | None,
    vector: str | None,
    maxphyaddr: int | None,
    taken: "Sequence[Field]",
) -> dict[str, Any]:
    from quire.arch.decode import decode_qualification, decode_subject
    from quire.errors import MisuseError

    subject = what.lower().replace("_", "-")
    if subject == "exit-qualification" and not taken:
        if reason is None:
            raise MisuseError(
                "An exit qualification means nothing without its exit: give --reason 48 or a name"
            )
        number = _number(value, subject)
        given = None if vector is None else _number(vector, "vector")
        return decode_qualification(_number(reason, subject), number, given)
    if reason is not None or vector is not None:
        raise MisuseError(
            f"--reason and --vector go with exit-qualification, not with {what}: leave them out"
        )
    return decode_subject(_layout_of(subject), _number(value, subject), maxphyaddr=maxphyaddr, taken=taken)


def _layout_of(subject: str) -> str:
    """Return the subject that the value of a VMCS field is, if `subject` is such a field in anybody's spelling."""
    from quire.arch import VMCS_LAYOUTS
    from quire.arch.decode import SUBJECTS
    from quire.dumps.field_names import field_of

    field = None if subject in SUBJECTS else field_of(subject)
    layout = None if field is None else VMCS_LAYOUTS.get(field.name)
    return subject if layout is None else layout.name.lower().replace("_", "-")


def _number(text: str, kind: str) -> int:
    from quire.arch.decode import parse_member
    from quire.dumps.field_names import field_of
    from quire.paging.settings import parse_number

    field = field_of(text) if kind == "vmcs-field" else None
    named = parse_member(kind, text) if field is None else field.encoding
    return parse_number(text) if named is None else named
