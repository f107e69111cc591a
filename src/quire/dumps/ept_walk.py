"""An EPT fault that somebody saw, walked again from the entries of its levels."""

from dataclasses import dataclass
from typing import Any

from quire.arch import (
    EPT_PTE,
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    Access,
    ExitReason,
    PagingMode,
    physical_reserved,
)
from quire.arch.decode import decode_qualification
from quire.dumps.dump import Answer, Surroundings
from quire.dumps.entry_memory import EntryMemory, free_page
from quire.errors import MisuseError
from quire.paging import Context, Status, new_context
from quire.paging.explanation import explain_gpa
from quire.paging.lint import Severity

__all__ = ["EptFaultWalk", "explain_ept_fault"]

_EVERYWHERE = 1 << 52
_WRITE_BACK = 6
_MMIO = EPT_PTE.mask("W", "X")
_RIGHTS = EPT_PTE.mask("R", "W", "X")
_TOPS = (5, 4)


@dataclass(frozen=True, slots=True)
class EptFaultWalk:
    """What is known of an EPT fault: `levels` has the entry of each level that was printed."""

    gpa: int | None
    levels: dict[int, int]
    misconfigured: bool
    qualification: int | None = None


def explain_ept_fault(answer: Answer, fault: EptFaultWalk, around: Surroundings) -> None:
    """Add to `answer` what the exit qualification says, the walk, and whether it ends as was said."""
    if fault.qualification is not None:
        answer.decoded.append(decode_qualification(ExitReason.EPT_VIOLATION, fault.qualification))
    top = next((level for level in _TOPS if level in fault.levels), None)
    if fault.gpa is None or top is None:
        missing = "guest-physical address" if fault.gpa is None else "entries from level 4 or 5 down"
        answer.words.append(f"the walk cannot be made again: the dump does not have the {missing}")
        return
    try:
        walk = _walk(fault, top, around)
    except MisuseError as error:
        answer.words.append(f"the walk cannot be made again: {error}")
        return
    count = len(fault.levels)
    title = f"{count} entr{'y' if count == 1 else 'ies'} of the dump, the EPT pointer is not in it"
    answer.walks.append({"source": title, "profile": around.profile.name, "walk": walk})
    _judge(answer, fault, walk, around)


def _walk(fault: EptFaultWalk, top: int, around: Surroundings) -> dict[str, Any]:
    assert fault.gpa is not None
    entries = []
    for level in range(top, 0, -1):
        if level not in fault.levels:
            break
        entries.append(fault.levels[level])
    root = free_page(entries)
    memory = EntryMemory()
    memory.put(root, fault.gpa, entries, PagingMode(top), ept=True)
    context = new_context(around.profile, _EVERYWHERE)
    context[Context.EPTP] = EPTP.encode(MT=_WRITE_BACK, walk_length=top - 1, addr=root)
    context[Context.RESERVED] = physical_reserved(around.width)
    return explain_gpa(memory, context, fault.gpa, _access(fault.qualification))


def _access(qualification: int | None) -> Access:
    said = EPT_VIOLATION_QUALIFICATION.decode(qualification or 0)
    return Access.WRITE if said["W"] else Access.FETCH if said["X"] else Access.READ


def _judge(answer: Answer, fault: EptFaultWalk, walk: dict[str, Any], around: Surroundings) -> None:
    rule, ended = walk["rule"], walk["fault"]
    if ended is None:
        told = "a misconfiguration" if fault.misconfigured else "a fault"
        answer.find(
            Severity.WARNING,
            "entries and exit",
            "SDM 3C §28.3.3",
            f"the dump tells of {told}, and these entries allow the access with {around.width} physical-address bits",
            "they were changed after the exit, a stale translation was used, or the processor has fewer address bits: "
            "give --maxphyaddr",
        )
        return
    if walk["status"] == Status.BUS_ERROR.name:
        ended["note"] = "the entry that comes next is not in the dump: what follows is not known"
        return
    entry = walk["references"][-1]["entry"]
    if fault.misconfigured and walk["status"] != Status.EPT_MISCONFIGURATION.name:
        answer.find(
            Severity.WARNING,
            "entries and exit",
            "SDM 3C §28.3.3",
            f"the dump tells of a misconfiguration, and these entries give {ended['name']}",
            "they were changed after the exit, or levels of the walk are missing",
        )
        return
    answer.find(
        Severity.ERROR,
        rule["name"],
        rule["section"],
        f"{ended['name']} at the {ended['table']}, {entry}: {rule['text']}",
        "look at who wrote that entry",
    )
    if int(entry, 16) & _RIGHTS == _MMIO:
        answer.words.append(
            "KVM writes entries with write and execute and without read on purpose, for pages of devices: "
            "such an exit then means that it took the page for none"
        )
