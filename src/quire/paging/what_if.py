"""What changes in a walk when settings change: two walks without side effects, compared fact by fact."""

from typing import Any

from quire.arch import Access
from quire.paging.context import Context, Words
from quire.paging.explanation import explain
from quire.paging.overlay import ReadableWords

__all__ = ["what_if"]


def what_if(
    memory: ReadableWords, context: Words, gva: int, access: Access, changes: dict[Context, int]
) -> list[dict[str, Any]]:
    """Return what `changes` do: all together first and then, if there are several, each alone.

    Each record has ``set`` (names and values), ``walk`` (see :func:`explain`) and ``changed``: facts by name with
    what they were and what they become.
    """
    before = _facts(explain(memory, context, gva, access))
    trials = [changes]
    if len(changes) > 1:
        trials += [{field: value} for field, value in changes.items()]
    found = []
    for trial in trials:
        state = context.copy()
        for field, value in trial.items():
            state[field] = value
        walk = explain(memory, state, gva, access)
        after = _facts(walk)
        found.append(
            {
                "set": {field.name.lower(): value for field, value in trial.items()},
                "walk": walk,
                "changed": {
                    name: {"before": before[name], "after": after[name]}
                    for name in before
                    if before[name] != after[name]
                },
            }
        )
    return found


def _facts(walk: dict[str, Any]) -> dict[str, str]:
    """Return what a person would compare, by name; a dash for what there is not."""
    result, fault = walk["result"] or {}, walk["fault"] or {}
    code = fault.get("code")
    facts = {
        "outcome": fault.get("name", "allowed"),
        "rule": f"{walk['rule']['name']} ({walk['rule']['section']})",
        "code": f"{code} ({fault['words']})" if code else None,
        "rights": result.get("rights"),
        "hpa": result.get("hpa"),
        "memory type": result.get("memory_type"),
        "references": str(len(walk["references"])),
    }
    return {name: fact or "-" for name, fact in facts.items()}
