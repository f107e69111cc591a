"""The report of a flush check: each stale translation with who made it so and what was missing; then advice.

Takes the plain data under ``flushes`` of a run's record (see docs/reference/flushes.md); knows nothing of the model.
"""

from typing import Any

from quire.report.quantity import format_size

__all__ = ["render_advice", "render_findings"]

_WHAT = {
    "access": "the tables no longer allow it",
    "address": "the tables give another address",
    "page size": "the tables give another page size and other rights",
    "dirty flag": "the dirty flag was cleared and will not be set",
    "memory type": "the tables give another memory type",
}


def render_findings(findings: list[dict[str, Any]]) -> str:
    """Return a paragraph a finding, empty without any."""
    return "".join(_finding(number, found) for number, found in enumerate(findings, 1))


def render_advice(advice: list[dict[str, Any]]) -> str:
    """Return a line a flush that nothing needed, empty without any."""
    return "".join(_advice(one) for one in advice)


def _finding(number: int, found: dict[str, Any]) -> str:
    mapping, missing = found["mapping"], found["missing"]
    times = f", {_times(found['count'])}" if found["count"] > 1 else ""
    how = "uses" if found["used"] else "may use"
    where = _place(found["rip"], found["symbol"])
    lines = [
        f"{number}. {found['privilege']} {found['access']} of {found['gva']} at {where}, {found['vcpu']}, "
        f"{how} a stale {mapping['kind']}{times}: {_WHAT[found['differs']]}",
        f"kept     {mapping['class']} mapping of {mapping['start']}, {format_size(mapping['size'])}, "
        f"{_tags(mapping['tags'])}, since step {mapping['step']}: {_answer(found['kept'])}",
        f"tables   {_answer(found['tables'])}",
        f"changed  {_changed(found['entry'], found['changed'])}",
        f"missing  {missing['when']} for {missing['operand']} ({missing['section']})"
        + (f"; {missing['note']}" if missing["note"] else ""),
    ]
    lines += [f"but      {one['when']} at step {one['step']} {one['spared']}" for one in found["attempts"]]
    return lines[0] + "\n" + "".join(f"   {line}\n" for line in lines[1:])


def _place(rip: str, symbol: str | None) -> str:
    return f"rip {rip}" if symbol is None else f"rip {rip} ({symbol})"


def _tags(tags: dict[str, str | None]) -> str:
    names = {"vpid": "VPID", "pcid": "PCID", "ep4ta": "EP4TA"}
    return ", ".join(f"{names[name]} {value}" for name, value in tags.items())


def _answer(answer: dict[str, Any]) -> str:
    if "rule" in answer:
        return f"refused: {answer['rule']} ({answer['section']})"
    dirty = "dirty" if answer["dirty"] else "clean"
    return f"hpa {answer['hpa']}, {answer['rights']}, {dirty}, {format_size(answer['size'])}, {answer['memory_type']}"


def _changed(entry: dict[str, Any] | None, changed: dict[str, Any] | None) -> str:
    if entry is None:
        return "the root: another address space has these tags"
    at = f"hpa {entry['hpa']}" + (f" (gpa {entry['gpa']})" if entry["gpa"] else "")
    what = f"{entry['dimension']} entry of level {entry['level']} at {at}, {entry['kept']} to {entry['now']}"
    if changed is None:
        return f"{what}; nobody was seen to write it"
    by = changed["by"] if changed["by"] != "guest" else f"guest at CPL {changed['cpl']}"
    return f"{what}, by the {by} at {_place(changed['rip'], changed['symbol'])}, step {changed['step']}"


def _advice(one: dict[str, Any]) -> str:
    place = _place(one["rip"], one["symbol"])
    needed = f", needed {_times(one['needed'])}" if one["needed"] else ""
    plural = "s" * (one["dropped"] != 1)
    return (
        f"{one['when']} by the {one['by']} at {place}: {_times(one['count'])} for nothing{needed}; "
        f"dropped {one['dropped']} mapping{plural} that the tables still say\n"
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
