"""Everything that is said of a pasted text, as one plain record for reports."""

from dataclasses import replace
from typing import Any

from quire.dumps.capability_text import capabilities_in
from quire.dumps.dump import Dump, Surroundings
from quire.dumps.entry_failure import EntryFailureLine
from quire.dumps.reading import read_dumps
from quire.dumps.vmcs_dump import VmcsDump
from quire.errors import FormatError
from quire.report.lint import lint_record

__all__ = ["explain_text", "vmcs_fields"]


def explain_text(text: str, around: Surroundings, source: str) -> dict[str, Any]:
    """Return the record of `text`, which is called `source`: its dumps with their answers, and the lines left over."""
    reading = read_dumps(text)
    machine = capabilities_in(reading.dumps)
    failed = any(isinstance(one, EntryFailureLine) and one.of_vmx for one in reading.dumps)
    around = replace(around, processor=around.processor.with_msrs(machine), failed_entry=failed)
    dumps = [_record(number, dump, around) for number, dump in enumerate(reading.dumps, 1)]
    totals: dict[str, int] = {}
    for one in dumps:
        for severity, count in one["totals"].items():
            totals[severity] = totals.get(severity, 0) + count
    return {
        "source": source,
        "processor": around.processor.profile.name,
        "profile": around.profile.name,
        "maxphyaddr": around.width,
        "dumps": dumps,
        "totals": totals,
        "unread": [{"line": one.number, "text": one.text} for one in reading.unread],
    }


def vmcs_fields(text: str, source: str) -> dict[str, int] | None:
    """Return the fields of the one VMCS in `text`, None if there is nothing that can be read.

    Raises FormatError if there are several, and for a dump of something else, a VMCB of AMD's for instance.
    """
    dumps = read_dumps(text).dumps
    vmcss = [one for one in dumps if isinstance(one, VmcsDump) and one.is_vmcs]
    if dumps and not vmcss:
        raise FormatError(
            f"{source} holds no VMCS, but this: {dumps[0].title}; quire explain says what it means"
        )
    found = [one.given for one in vmcss if one.given]
    if len(found) > 1:
        raise FormatError(
            f"{source} has {len(found)} VMCSs: give one, or the file to quire explain, which takes all"
        )
    return found[0] if found else None


def _record(number: int, dump: Dump, around: Surroundings) -> dict[str, Any]:
    answer = dump.answer(around)
    found = lint_record(answer.findings, source="", profile=around.profile.name, checks=answer.checks)
    return {
        "number": number,
        "title": dump.title,
        "context": dump.context,
        "lines": dump.lines,
        "given": dump.facts(),
        "damaged": [{"line": one.line, "name": one.name, "why": one.why} for one in dump.damaged],
        "words": answer.words,
        "findings": found["findings"],
        "totals": found["totals"],
        "left_out": found["left_out"],
        "unchecked": found["unchecked"],
        "cannot_know": found["cannot_know"],
        "not_given": found["not_given"],
        "decoded": answer.decoded,
        "walks": answer.walks,
    }
