"""Why a walk ended as it did: one named rule of the manual for each way, with its section.

The explained walk (``reference.py``) names the rule that decided; reports print name, section and text as they stand
here. Rules are for people: programs compare statuses, error codes and qualifications.
"""

from dataclasses import dataclass

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the manual: its name here, where the manual has it, and what it says in one sentence."""

    name: str
    section: str
    text: str


_ALL = (
    Rule(
        "allowed", "SDM 3A §4.6.1", "every entry used is present and legal, and the rights allow the access"
    ),
    Rule(
        "non-canonical",
        "SDM 1 §3.3.7.1",
        "the bits above the translated ones must all equal the highest of them",
    ),
    Rule(
        "LASS",
        "ISE §LASS",
        "with CR4.LASS = 1 user accesses keep to the lower half of addresses, and the supervisor off it",
    ),
    Rule("not present", "SDM 3A §4.7", "an entry with P = 0 ends the walk; nothing else in it is looked at"),
    Rule("reserved bit", "SDM 3A §4.7", "a present entry must have 0 in its reserved bits"),
    Rule(
        "PDPTE reserved bit",
        "SDM 3A §4.4.1",
        "a present PDPTE must have 0 in its reserved bits when it is loaded",
    ),
    Rule("user page", "SDM 3A §4.6.1", "a user-mode access needs U/S = 1 in every entry"),
    Rule("read-only page", "SDM 3A §4.6.1", "a user-mode write needs R/W = 1 in every entry"),
    Rule("write protect", "SDM 3A §4.6.1", "with CR0.WP = 1 a supervisor write needs R/W = 1 in every entry"),
    Rule(
        "SMAP",
        "SDM 3A §4.6.1",
        "with CR4.SMAP = 1 the supervisor may touch user pages only with RFLAGS.AC = 1",
    ),
    Rule("SMEP", "SDM 3A §4.6.1", "with CR4.SMEP = 1 the supervisor may not execute user pages"),
    Rule("execute disable", "SDM 3A §4.6.1", "with EFER.NXE = 1 a fetch needs XD = 0 in every entry"),
    Rule(
        "protection key", "SDM 3A §4.6.2", "PKRU or IA32_PKRS forbids this access to pages of the leaf's key"
    ),
    Rule(
        "shadow stack",
        "SDM 3A §4.6.1",
        "a shadow-stack access needs its own kind of page: R/W = 0, D = 1, R/W = 1 above",
    ),
    Rule(
        "GPA width",
        "SDM 3C §28.3.2",
        "EPT translates only the guest-physical bits that its walk length indexes",
    ),
    Rule("EPT not present", "SDM 3C §28.3.3.2", "an EPT entry that allows nothing is not present"),
    Rule("EPT rights", "SDM 3C §28.3.3.2", "every EPT entry used must allow the access"),
    Rule(
        "EPT table write",
        "SDM 3C §28.3.3.2",
        "setting a guest A or D flag is a write to the table's page",
    ),
    Rule(
        "supervisor shadow stack",
        "SDM 3C §28.3.3.2",
        "with EPTP bit 7 such an access needs bit 60 of the leaf",
    ),
    Rule(
        "guest-paging verification",
        "SDM 3C §28.3.3.2",
        "a page with bit 57 needs tables whose EPT leaves have bit 58",
    ),
    Rule("EPT write without read", "SDM 3C §28.3.3.1", "an EPT entry may not allow writes and forbid reads"),
    Rule(
        "EPT execute-only",
        "SDM 3C §28.3.3.1",
        "fetches without reads need that capability",
    ),
    Rule("EPT reserved bit", "SDM 3C §28.3.3.1", "a present EPT entry must have 0 in its reserved bits"),
    Rule("EPT memory type", "SDM 3C §28.3.3.1", "an EPT leaf holds memory type 0, 1, 4, 5 or 6"),
    Rule(
        "log full",
        "SDM 3C §28.3.6",
        "before an EPT accessed or dirty flag is set, the log's index must be 0 to 511",
    ),
    Rule("SPPT miss", "SDM 3C §28.3.4.2", "the sub-page-permission table has no valid entry for the page"),
    Rule(
        "SPPT misconfiguration", "SDM 3C §28.3.4.2", "a reserved bit is set in the sub-page-permission table"
    ),
    Rule("outside memory", "SDM 3A §4.1.4", "no physical memory lies at the address that the entry gives"),
)

#: Every rule by its name.
RULES: dict[str, Rule] = {rule.name: rule for rule in _ALL}
