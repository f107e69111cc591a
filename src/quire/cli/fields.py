"""``quire fields``: the fields of the VMCS and the VMCB."""

import sys
from typing import Any

import click

from quire.cli.answer import answer_options
from quire.cli.outputs import Outputs

__all__ = ["command"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--template", is_flag=True, help="Write a TOML file to be filled in, for quire lint --vmcs.")
@answer_options("stdout")
@click.argument("pattern", required=False)
def command(template: bool, as_json: bool, output: str | None, pattern: str | None) -> int:
    """List the fields of the VMCS with their encodings, and those of AMD's VMCB with their offsets.

    PATTERN chooses fields: a part of the name, an encoding, or the name that another project gives a field, such as
    VM_ENTRY_INTR_INFO_FIELD.

    \b
    Examples:
      quire fields
      quire fields interruption
      quire fields 0x681e
      quire fields VM_ENTRY_INTR_INFO_FIELD
      quire fields --template -o vmcs.toml
    """
    from quire.report.fields import render_fields_table, render_template

    if template and as_json:
        raise click.UsageError("--template writes TOML and --json JSON: give one of them")
    outputs = Outputs("fields", {"--output": output})
    record = _record(pattern)
    if not record["vmcs"] and not record["vmcb"]:
        raise click.ClickException(
            f"fields: no field of the VMCS or the VMCB has {pattern!r} in its name or as encoding: "
            "quire fields lists them all"
        )
    render = render_template if template else render_fields_table
    outputs.answer(record, render, as_json=as_json, default=sys.stdout)
    return 0


def _record(pattern: str | None) -> dict[str, Any]:
    from quire.arch import VMCS_FIELDS
    from quire.arch.vmcb import VMCB_FIELDS
    from quire.dumps.field_names import field_of

    part = (pattern or "").lower().replace("-", "_")
    known = field_of(pattern) if pattern else None
    number = _number(pattern)
    return {
        "vmcs": [
            {"encoding": f"{one.encoding:#06x}", "name": one.name, "bits": one.bits, "area": one.area}
            for one in VMCS_FIELDS
            if part in one.name or one is known or one.encoding == number
        ],
        "vmcb": [
            {"offset": f"{one.offset:#05x}", "name": one.name, "bits": one.bits, "area": one.area}
            for one in VMCB_FIELDS
            if part in one.name or one.offset == number
        ],
    }


def _number(text: str | None) -> int | None:
    from quire.errors import MisuseError
    from quire.paging.settings import parse_number

    try:
        return None if text is None else parse_number(text)
    except MisuseError:
        return None
