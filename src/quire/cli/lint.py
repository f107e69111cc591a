"""``quire lint``: hierarchies of tables and VMCSs checked as a whole."""

import sys
from typing import TYPE_CHECKING, Any

import click

from quire.cli.answer import answer_options
from quire.cli.outputs import Outputs
from quire.cli.processor_options import known_processor, processor_options
from quire.cli.walk_source import open_source, source_options

if TYPE_CHECKING:
    from quire.paging.lint import Findings
    from quire.vcpu.lint import VmcsChecks

__all__ = ["command"]


@source_options
@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--vmcs", metavar="FILE", help="A VMCS as TOML, JSON or a dump: a value for each field that is known."
)
@click.option("--absent-is-zero", is_flag=True,
              help="With --vmcs: a field that is not given is 0, instead of not checked.")  # fmt: skip
@processor_options
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N",
              help="Most findings to show.")  # fmt: skip
@click.option("--error-exitcode", type=click.IntRange(0, 255), default=1, show_default=True, metavar="N",
              help="Exit status when there is an error among the findings.")  # fmt: skip
@answer_options("stdout")
def command(
    vmcs: str | None,
    absent_is_zero: bool,
    maxphyaddr: int | None,
    caps: str | None,
    limit: int,
    error_exitcode: int,
    as_json: bool,
    output: str | None,
    **options: Any,
) -> int:
    """Check page tables, EPT or a VMCS for what the processor refuses, what is risky and what is wasteful.

    With --cr3, or the registers of an image, the guest's tables are checked; with --eptp EPT is, and the guest's
    tables through it if there is a CR3 too. A VMCS may be given in part; without --profile and --caps it is checked
    for any processor with VMX, and what turns on one is said. Exit status: 0 when nothing is an error, 1 when
    something is, 125 when it cannot be checked. quire fields --template writes a VMCS to be filled in.

    \b
    Examples:
      quire lint --tables tables.toml
      quire lint --image dead.core --limit 20
      quire lint --image host.lime --eptp 0x1001e --json
      quire lint --vmcs vmcs.toml --profile architecture --error-exitcode 3
      quire lint --vmcs vmcs.toml --caps caps.txt --maxphyaddr 46
      quire lint --vmcs dmesg.txt
    """
    from quire.errors import FormatError, MisuseError
    from quire.paging.lint import Findings, Severity
    from quire.report.lint import lint_record, render_lint_table

    outputs = Outputs("lint", {"--output": output})
    findings = Findings(limit)
    try:
        source, profile, checks = _check(findings, vmcs, absent_is_zero, (maxphyaddr, caps), options)
    except (FormatError, MisuseError) as error:
        raise click.ClickException(f"lint: {error}") from None
    except OSError as error:
        raise click.ClickException(f"lint: {error.filename}: {error.strerror}") from None
    record = lint_record(findings, source=source, profile=profile, checks=checks)
    outputs.answer(record, render_lint_table, as_json=as_json, default=sys.stdout)
    return error_exitcode if findings.totals[Severity.ERROR] else 0


def _check(
    findings: "Findings",
    vmcs: str | None,
    absent_is_zero: bool,
    machine: tuple[int | None, str | None],
    options: dict[str, Any],
) -> "tuple[str, str, VmcsChecks | None]":
    """Check what the options name; return what it was, the processor, and what of a VMCS could not be said."""
    from quire.arch import VMCS_FIELDS
    from quire.paging.lint import lint_tables
    from quire.vcpu.lint import lint_vmcs

    if vmcs is None and (absent_is_zero or machine[1]):
        raise click.UsageError("--absent-is-zero and --caps go with --vmcs: give a VMCS, or leave them out")
    memory, titles, checks = None, [], None
    processor = known_processor(options["profile"], *machine)
    if vmcs is None or options["image"] or options["tables"]:
        source = open_source(**options, maxphyaddr=machine[0], ept_suffices=True)
        memory = source.image.memory
        titles.append(source.image.title)
        lint_tables(memory, source.context, findings, whole=source.image.whole)
        if options["profile"] is None:
            processor = known_processor(source.profile.name, *machine)
    elif any(value for name, value in options.items() if name != "profile"):
        raise click.UsageError("--vmcs alone has no tables: give --image or --tables as well")
    if vmcs is not None:
        titles.append(vmcs)
        zeros = {field.name: 0 for field in VMCS_FIELDS} if absent_is_zero else {}
        checks = lint_vmcs({**zeros, **_read_vmcs(vmcs)}, processor, findings, memory)
    return " and ".join(titles), processor.profile.name, checks


def _read_vmcs(path: str) -> dict[str, int]:
    """Return the fields in the file at `path`: TOML, JSON, or a dump in any form that ``quire explain`` reads."""
    from quire.documents import parse_json, parse_toml, read_log, strict_text
    from quire.dumps import vmcs_fields
    from quire.errors import FormatError

    log = read_log(path, path)
    try:
        text = strict_text(log, path)
        return _fields((parse_json if text.lstrip().startswith("{") else parse_toml)(text, path), path)
    except FormatError as error:
        found = vmcs_fields(log, path)  # of a dump, or a list with names of others
        if found is None:
            raise error from None
        return found


def _fields(document: dict[str, Any], path: str) -> dict[str, int]:
    """Return the fields that a document gives by our names. Raises FormatError."""
    from quire.arch import field_by_name
    from quire.errors import FormatError, MisuseError
    from quire.paging.settings import parse_number

    found = {}
    for name, value in document.items():
        try:
            number = parse_number(value, name) if isinstance(value, str) else value
            bits = field_by_name(name).bits
        except MisuseError as error:
            raise FormatError(f"{path}: {error}") from None
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << bits:
            raise FormatError(
                f"{path}: {name} is {value!r}: it has {bits} bits, give 0x0 to {(1 << bits) - 1:#x}"
            )
        found[name] = number
    return found
