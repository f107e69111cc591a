"""What remains when the tables allow an access that is known to have faulted: caches, other tables, another moment.

A page fault is delivered from what the processor had cached or read then; the tables that one looks at afterwards are
not the tables of that moment, and perhaps not the ones that CR3 named.
"""

from typing import Any

from quire.arch import CR3, PF_ERROR, describe_page_fault

__all__ = ["what_remains"]

_PTI_USER = 1 << 12  # Linux keeps the user's root in the second page of a pair: bit 12 of CR3 tells which


def what_remains(walk: dict[str, Any], code: int, *, root_known: bool = True) -> list[str]:
    """Return what could explain a #PF with error `code` where `walk`, a record of :func:`explain`, found otherwise.

    Without `root_known` CR3 of `walk` is a made-up place. Raises MisuseError for a code with reserved bits.
    """
    said = describe_page_fault(code)
    if walk["fault"] is not None:
        same = walk["fault"]["name"] == "#PF" and walk["fault"]["code"] == f"{code:#x}"
        return (
            []
            if same
            else [f"the fault said {code:#x} ({said}), the walk says otherwise: another access or moment"]
        )
    found = [f"the fault said {code:#x} ({said}), and these tables allow the access"]
    flags = PF_ERROR.decode(code)
    if flags["P"] and not flags["RSVD"]:
        found.append(
            "a stale translation: rights were widened, or the entry was replaced, after the TLB cached it; without "
            "INVLPG the next access may still fault once (SDM 3A §4.10.4.3)"
        )
    if not flags["P"]:
        found.append(
            "an entry that became present after the fault: by the handler itself, or on another processor"
        )
    if flags["RSVD"]:
        found.append(
            "a reserved bit that this width does not reserve: see MAXPHYADDR, EFER.NXE and page sizes"
        )
    two_roots = "another CR3: under page-table isolation kernel and user have two roots"
    other = CR3.get(int(walk["cr3"], 16), "addr") ^ _PTI_USER
    found.append(f"{two_roots}, the other one is {other:#x}" if root_known else two_roots)
    return found
