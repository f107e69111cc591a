"""``quire explain``: what people paste, answered."""

import sys

import click

from quire.cli.answer import answer_options
from quire.cli.outputs import Outputs
from quire.cli.processor_options import known_processor, processor_options

__all__ = ["command"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--profile", metavar="NAME|FILE",
              help="CPU profile.  [default: any with VMX for a VMCS, skylake-x for a walk]")  # fmt: skip
@processor_options
@answer_options("stdout")
@click.argument("file", default="-")
def command(
    profile: str | None,
    maxphyaddr: int | None,
    caps: str | None,
    as_json: bool,
    output: str | None,
    file: str,
) -> int:
    """Say what a log or a dump in FILE shows, or on stdin: the rule that was broken, the bits, the fix.

    Reads VMCSs as KVM's dump_vmcs and Xen's vmcs_dump print them, lists of fields, VMCBs, Linux oopses of page
    faults, its lines of segfaults and general protection faults, EPT misconfigurations with their entries, exits,
    capability MSRs, QEMU's monitor; with what loggers put around them. What is not in the text is not checked. quire
    fields lists the fields of a VMCS. Exit status: 0, 1 when an error is among the findings, 125 when nothing in it
    can be read.

    \b
    Examples:
      quire explain dmesg.txt
      quire explain --profile icelake-sp dmesg.txt
      quire explain --maxphyaddr 39 oops.txt
      quire explain --json -o answer.json dmesg.txt
    """
    from quire.arch import SKYLAKE_X, profile_by_name
    from quire.documents import read_log
    from quire.dumps import READABLE, Surroundings, explain_text
    from quire.errors import FormatError, MisuseError
    from quire.report.explain import render_explanation

    outputs = Outputs("explain", {"--output": output})
    source = "stdin" if file == "-" else file
    try:
        processor = known_processor(profile, maxphyaddr, caps)
        around = Surroundings(processor, profile_by_name(profile or SKYLAKE_X.name), maxphyaddr)
        record = explain_text(read_log(file, source), around, source)
        if not record["dumps"]:
            raise FormatError(f"{source} holds nothing that can be read: give {'; '.join(READABLE)}")
    except (FormatError, MisuseError) as error:
        raise click.ClickException(f"explain: {error}") from None
    except OSError as error:
        raise click.ClickException(f"explain: {source}: {error.strerror}") from None
    outputs.answer(record, render_explanation, as_json=as_json, default=sys.stdout)
    return 1 if record["totals"].get("error") else 0
