"""EPT misconfigurations and violations as KVM and Xen print them: the address and the entry of each level."""

import re

from quire.dumps.dump import Answer, Dump, Surroundings
from quire.dumps.ept_walk import EptFaultWalk, explain_ept_fault
from quire.dumps.lines import Line

__all__ = ["EptFault"]

_HEX = r"(?:0x)?([0-9a-f]{1,16})\b"
_MISCONFIGURED = re.compile(r"EPT: Misconfiguration\b|.{0,40}\bEPT misconfig(?:uration)?\b", re.IGNORECASE)
_GPA = re.compile(r"(?:EPT: )?\b(?:GPA|guest[- ]physical address)[:=]? ?" + _HEX, re.IGNORECASE)
_HIERARCHY = re.compile(
    r"\w{1,64}: (?:reserved bits set on MMU-present spte|detect reserved bits on spte), addr "
    + _HEX
    + ", (?:dump )?hierarchy"
)
_SPTE = re.compile(r".{0,64}\be?s?pte (?:= )?" + _HEX + r",? level (?:= )?(\d{1,2})\b")
_XEN = re.compile(
    r"(?:d\d{1,5}v\d{1,5} )?EPT violation " + _HEX + r" \([-rwx]{3}/[-rwx]{3}\),? gpa " + _HEX, re.IGNORECASE
)
_XEN_WALK = re.compile(r"Walking EPT tables for (?:domain \d{1,6} )?(?:GFN|gfn) " + _HEX)
_XEN_ENTRY = re.compile(r"epte ([0-9a-f]{1,16})$")
_BELONGS = re.compile(
    r"\w{1,64}: rsvd_bits = 0x[0-9a-f]{1,16}$|\w{1,64}: ept_mem_type=0x[0-9a-f]{1,2}$|--- GLA 0x[0-9a-f]{1,16}$"
)
_TOP_OF_XEN = 4
_PAGE_SHIFT = 12


class EptFault(Dump):
    """One EPT fault and the entries of its walk, by level."""

    title = "EPT misconfiguration or violation with its entries"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self.levels: dict[int, int] = {}
        self.misconfigured = False
        self._of_mmu = False  # printed by code that KVM has for every kind of table
        self._xen_level = _TOP_OF_XEN

    @classmethod
    def begins(cls, text: str) -> bool:
        starts = (_MISCONFIGURED, _HIERARCHY, _SPTE, _XEN, _XEN_WALK)
        return any(one.match(text) for one in starts)

    @property
    def holds(self) -> bool:
        return bool(self.levels or self.given)

    def take(self, line: Line) -> bool:
        text = line.text
        if (found := _SPTE.match(text)) is not None:
            return self._take_entry(line, int(found[2]), int(found[1], 16))
        if (found := _XEN_ENTRY.match(text)) is not None and self._xen_level:
            taken = self._take_entry(line, self._xen_level, int(found[1], 16))
            self._xen_level -= 1
            return taken
        if self.levels:
            return bool(_BELONGS.match(text))
        if (found := _HIERARCHY.match(text)) is not None:
            self.misconfigured = self._of_mmu = True
            self.note("gpa", int(found[1], 16), line)
            return True
        if (found := _XEN.match(text)) is not None:
            self.note("qualification", int(found[1], 16), line)
            self.note("gpa", int(found[2], 16), line)
            return True
        if (found := _XEN_WALK.match(text)) is not None:
            self.given.setdefault("gpa", int(found[1], 16) << _PAGE_SHIFT)
            return True
        named = _MISCONFIGURED.match(text)
        if named is not None:
            self.misconfigured = True
        address = _GPA.search(text[: 2 * len("guest-physical address") + 64])
        if address is not None and "gpa" not in self.given:
            self.note("gpa", int(address[1], 16), line)
        return bool(named or (address is not None and text.startswith(("EPT:", "GPA", "gpa"))))

    def _take_entry(self, line: Line, level: int, entry: int) -> bool:
        if not 1 <= level <= 5:
            self.damage(line, f"entry of level {level}", "EPT has levels 1 to 5")
            return True
        if level in self.levels:
            return False  # the next walk
        self.levels[level] = entry
        return True

    def answer(self, around: Surroundings) -> Answer:
        answer = Answer()
        walk = EptFaultWalk(
            self.given.get("gpa"), self.levels, self.misconfigured, self.given.get("qualification")
        )
        if self._of_mmu:
            answer.words.append(
                "KVM prints such a hierarchy for AMD's nested tables as well: it is taken for EPT here; of nested or "
                "shadow tables use quire walk --entries"
            )
        explain_ept_fault(answer, walk, around)
        return answer

    def facts(self) -> dict[str, str]:
        return super().facts() | {
            f"level {n}": f"{entry:#x}" for n, entry in sorted(self.levels.items(), reverse=True)
        }
