"""Page faults as Linux prints them: the address, the error code, the entries of its walk, the control registers.

The walk is made again from the entries, with the one walker, and compared with what the processor had said.
"""

import re

from quire.arch import CR0, CR4, EFER, LOW32, PDE, PTE, PagingMode
from quire.arch.faults import PF_ERROR, Access, fault_access
from quire.arch.registers import RFLAGS
from quire.dumps.dump import Answer, Dump, Surroundings
from quire.dumps.fault_walk import FaultWalk, explain_fault
from quire.dumps.lines import Line

__all__ = ["AROUND_AN_OOPS", "LinuxOops"]

_HEX = r"(?:0x)?([0-9a-f]{1,16})"
_ADDRESS = re.compile(
    r"(?:BUG: (?:unable to handle page fault for address|kernel NULL pointer dereference, address): "
    r"|(?:BUG: )?[Uu]nable to handle kernel (?:paging request|NULL pointer(?: dereference)?) at "
    r"|.{1,64}: Corrupted page table at address )" + _HEX + r"\b"
)
_CUT_ADDRESS = re.compile(r"BUG: (?:unable to handle|kernel NULL)")
_CODE = re.compile(r"#PF: error_code\((?:0x)?([0-9a-f]{1,8})\)(?: - (.{1,64}))?$")
_ACCESS = re.compile(r"#PF: (?:supervisor|user) (?:read|write|instruction fetch)\b.{0,40}$")
_OOPS = re.compile(r"(?:Oops|Bad pagetable): (?:Oops: )?([0-9a-f]{4,8})\b")
_ENTRY = re.compile(r"\b(PGD|P4D|PUD|PMD|PTE) ([0-9a-f]{1,16}|BAD)\b")
_NARROW_ENTRY = re.compile(r"\*(pdpt|pde|pte) = ([0-9a-f]{8,16})\b")
_NARROW_LEVELS = ("pdpt", "pde", "pte")
_REGISTER = re.compile(r"\b(CR[0234]|EFER|PKRU|EFLAGS|RFLAGS): ?([0-9a-f]{1,16})(?![0-9a-f])")
_RIP = re.compile(r"[RE]IP: (?:([0-9a-f]{4}):)?(.{1,256}?)(?: EFLAGS: .{0,99})?$")
#: What Linux prints around a fault: registers, code, the call trace.
AROUND_AN_OOPS = re.compile(
    r"(?:[RE](?:SP|[A-D]X|SI|DI|BP|IP)|R\d\d|[C-GS]S|Code|Call Trace|Modules linked in|Hardware name|CPU|Workqueue|"
    r"IDT|GDT|LDTR|TR|DR[0-7]|IP): ?.*$"
    r"|#PF: |BUG\b|kernel tried to execute NX-protected page|unable to execute userspace code"
    r"|(?:\? )?(?:\[<[0-9a-f]{8,16}>\] )?(?:\? )?[\w.$]{1,128}\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}\b"
    r"|</?[A-Z#_]{2,20}>$|-{3,20}\[ (?:cut here|end trace)\b.{0,64}$"
)
_HEX_ALONE = re.compile(r"[0-9a-f]{8,16}$")
_USER_CODE = "0033"  # the selector of a program's code: its RIP is not that of the fault
_NARROW_DIGITS = 8  # of an address on a processor of 32 bits
_MOST_PLACES = 3
_ENTRIES = ("PGD ", "P4D ", "PUD ", "PMD ", "PTE ")
_OPENINGS = (
    "PGD ",
    "Oops: ",
    "Bad pagetable: ",
    "kernel tried to execute NX",
    "unable to execute userspace code",
)
_MAY_MAP = ("PUD", "PMD")
_LEVELS = ("PGD", "P4D", "PUD", "PMD", "PTE")
#: Of these a line that is cut still tells that a value was there.
_DIGITS = {"CR0": 16, "CR2": 16, "CR3": 16, "CR4": 16}


class LinuxOops(Dump):
    """One page fault of a kernel, or of a program whose tables it found corrupted."""

    title = "page fault as Linux reports it (oops, #PF lines, PGD to PTE)"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self.places: list[str] = []
        self._is_narrow = False  # a kernel of 32 bits
        self._last_entries: Line | None = None

    @classmethod
    def begins(cls, text: str) -> bool:
        return bool(
            _CUT_ADDRESS.match(text)
            or _ADDRESS.match(text)
            or _CODE.match(text)
            or _ACCESS.match(text)
            or text.startswith(_OPENINGS)
        )

    @property
    def holds(self) -> bool:
        return bool(self.given.keys() & {"address", "error_code", "PGD", "pde", "CR2"} or self.damaged)

    def take(self, line: Line) -> bool:
        text = line.text
        if _CUT_ADDRESS.match(text) or _ADDRESS.match(text):
            return self._take_address(line)
        if (found := _CODE.match(text)) is not None:
            if "error_code" in self.given and "PGD" in self.given:
                return False  # the next fault
            self.note("error_code", int(found[1], 16), line)
            return True
        if (found := _OOPS.match(text)) is not None:
            return self._take_oops(line, int(found[1], 16))
        if text.startswith(_ENTRIES) or (text == "BAD" and "PGD" in self.given):
            return self._take_entries(line)
        if self._cut and _HEX_ALONE.match(text):
            return self._take_wrapped_address(line)
        if text.startswith(("*pdpt = ", "*pde = ")):
            return self._take_narrow_entries(line)
        taken = False
        for name, value in _REGISTER.findall(text):
            taken = True
            digits = min(_DIGITS.get(name, 1), _NARROW_DIGITS if self._is_narrow else 16)
            if len(value) < digits:
                self.damage(line, name, f"{len(value)} of {digits} digits are there")
            elif name not in self.given:  # later registers are those of the program that called
                self.note(name, int(value, 16), line)
        if (found := _RIP.match(text)) is not None and found[1] != _USER_CODE and found[2] not in self.places:
            self.places.append(found[2])
        return taken or bool(AROUND_AN_OOPS.match(text))

    def _take_address(self, line: Line) -> bool:
        found = _ADDRESS.match(line.text)
        if "address" in self.given or any(one.name == "address" for one in self.damaged):
            return False
        if found is None:
            self.damage(line, "address", "the line is cut before the address")
            return True
        self._is_narrow = len(found[1]) == _NARROW_DIGITS
        self.note("address", int(found[1], 16), line)
        return True

    def _take_narrow_entries(self, line: Line) -> bool:
        """Take the entries of a kernel of 32 bits, with PAE or without."""
        if self.given.keys() & set(_NARROW_LEVELS):
            return False
        self._is_narrow = True
        for name, value in _NARROW_ENTRY.findall(line.text):
            self.note(name, int(value, 16), line)
        return True

    @property
    def _cut(self) -> bool:
        """Whether the address is awaited: the line that ends before it was the last."""
        return bool(self.lines) and (self.lines[-1], "address") in {
            (one.line, one.name) for one in self.damaged
        }

    def _take_wrapped_address(self, line: Line) -> bool:
        self.damaged = [one for one in self.damaged if one.name != "address"]
        self.note("address", int(line.text, 16), line)
        return True

    def _take_oops(self, line: Line, code: int) -> bool:
        """The number behind Oops is the error code; of exceptions that are no page fault it is another, often 0."""
        if code and not code & PF_ERROR.reserved_mask and "error_code" not in self.given:
            self.note("error_code", code, line)
        elif not code and "address" in self.given:
            self.given.setdefault("error_code", 0)
        return True

    def _take_entries(self, line: Line) -> bool:
        """Take entries: of one line, or of several, where the lines of another processor came between."""
        found = _ENTRY.findall(line.text)
        first = found[0][0] if found else next((name for name in _LEVELS if name not in self.given), "PTE")
        if (first == "PGD") == ("PGD" in self.given) or first in self.given:
            return False
        for name, value in found or [(first, "BAD")]:
            if value == "BAD":
                self.damage(line, name, "Linux could not read it")
            else:
                self.note(name, int(value, 16), line)
        self._last_entries = line
        return True

    def _drop_cut_entry(self) -> None:
        """Linux goes on until an entry is not present or maps a page: where it ends before that a line was cut."""
        last = next((name for name in reversed(_LEVELS) if name in self.given), "PTE")
        entry = self.given.get(last, 0)
        unread = any(one.name in _LEVELS for one in self.damaged)
        maps = last in _MAY_MAP and PDE.get(entry, "PS")
        if (
            last != "PTE"
            and PTE.get(entry, "P")
            and not maps
            and not unread
            and self._last_entries is not None
        ):
            del self.given[last]
            why = "no line goes on behind it although it references a table: it may be cut"
            self.damage(self._last_entries, last, why)

    def answer(self, around: Surroundings) -> Answer:
        answer = Answer()
        if self.places:
            several = "" if len(self.places) == 1 else ": lines of several faults are mixed here"
            answer.words.append(f"at {' or '.join(self.places[:_MOST_PLACES])}{several}")
        self._drop_cut_entry()
        explain_fault(answer, self._fault(), around)
        return answer

    def _fault(self) -> FaultWalk:
        given = self.given
        entries = self._entries()
        code = given.get("error_code")
        settings: dict[str, int] = {}
        if "CR0" in given:
            settings["wp"] = CR0.get(given["CR0"], "WP")
        if "CR4" in given:
            for name in ("SMEP", "SMAP", "PKE", "PKS", *(("PSE",) if self._is_narrow else ())):
                settings[name.lower()] = CR4.get(given["CR4"], name)
        if "EFER" in given:
            settings["nxe"] = EFER.get(given["EFER"], "NXE")
        if "PKRU" in given:
            settings["pkru"] = given["PKRU"] & LOW32
        flags = given.get("EFLAGS", given.get("RFLAGS"))
        if flags is not None:
            settings["ac"] = RFLAGS.get(flags, "AC")
        return FaultWalk(
            address=given.get("address", given.get("CR2")),
            code=code,
            access=Access.READ if code is None else fault_access(code),
            cr3=given.get("CR3"),
            entries=entries,
            mode=self._mode(),
            settings=settings,
        )

    def _mode(self) -> PagingMode:
        """A kernel with 4 levels prints its PGD again as P4D; with 5 levels the PGD is a level of its own."""
        if self._is_narrow:
            pae = "pdpt" in self.given or bool(CR4.get(self.given.get("CR4", 0), "PAE"))
            return PagingMode.PAE if pae else PagingMode.BITS_32
        if "CR4" in self.given:
            return PagingMode.LEVEL_5 if CR4.get(self.given["CR4"], "LA57") else PagingMode.LEVEL_4
        folded = "P4D" not in self.given or self.given["P4D"] == self.given["PGD"]
        return PagingMode.LEVEL_4 if folded else PagingMode.LEVEL_5

    def _entries(self) -> list[int]:
        """Return the entries from the highest level down, as far as each follows the one before."""
        names: tuple[str, ...] = ("PGD", "PUD", "PMD", "PTE")
        if self._mode() is PagingMode.LEVEL_5:
            names = _LEVELS
        if self._is_narrow:
            names = _NARROW_LEVELS if self._mode() is PagingMode.PAE else _NARROW_LEVELS[1:]
        found = []
        for name in names:
            if name not in self.given:
                break
            found.append(self.given[name])
        return found
