"""An operating system as a guest, from Python: run it until something happens, type, read its console, look inside.

See :func:`boot`; docs/reference/boot.md has an experiment of twenty lines.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quire.arch import Access
from quire.cpu import Detail
from quire.errors import MisuseError
from quire.guest.boot.boot_session import BootSession
from quire.guest.boot.boot_spec import BootSpec, boot_config
from quire.machine import Machine
from quire.paging import WalkRecord
from quire.vcpu import breaking

__all__ = ["Booted", "GuestEnded", "boot"]

_SECOND = 1_000_000_000
_LAST_LINES = 5
_SYMBOL = re.compile(r"^([0-9a-f]{8,16}) [A-Za-z] (\S+)", re.MULTILINE)


class GuestEnded(RuntimeError):
    """The guest ended, or the time was over, before what somebody waited for."""


class _Keyboard:
    """What was typed and is not read yet."""

    is_open = False  # nobody need be waited for: time jumps where all wait

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()

    def send(self, text: str) -> None:
        self._waiting += text.encode()

    def look(self) -> None:
        """Nobody types for others."""

    def take(self, most: int) -> bytes:
        return bytes(self._waiting.popleft() for _ in range(min(most, len(self._waiting))))

    def wait(self, seconds: float) -> None:
        """Nothing comes while the guest runs."""


class Booted:
    """A guest that :func:`boot` made. Use it as a context manager, or :meth:`close` it.

    Deterministic: the same calls give the same console, counts and addresses.
    """

    def __init__(self, spec: BootSpec) -> None:
        self._keyboard = _Keyboard()
        self._console = bytearray()
        self._read = 0  # of the console, what was waited for already
        self._wanted: Callable[[], bool] | None = None
        self._session = BootSession(spec, self._sent, self._keyboard)
        self.symbols: dict[str, int] = {}  #: addresses of the kernel's, by name: see :meth:`read_symbols`

    @property
    def machine(self) -> Machine:
        """The hardware: vCPUs, Mmu, handlers of exits, dirty logs."""
        return self._session.pc.machine

    @property
    def console(self) -> str:
        """All that the guest has sent to its console."""
        return self._console.decode("utf-8", "replace")

    @property
    def ended(self) -> bool:
        """Whether the guest has switched itself off, panicked or cannot go on."""
        session = self._session
        return session.pc.ended or session.reason is not None

    @property
    def exits(self) -> dict[str, int]:
        """VM exits so far, by reason."""
        exits: dict[str, int] = self.report()["exits"]
        return exits

    @property
    def seconds(self) -> float:
        """How long the guest has run, by its own clock."""
        return self._session.pc.clock.now() / _SECOND

    def run(self, seconds: float | None = None, *, until: Callable[[], bool] | None = None) -> None:
        """Run until the guest ends, for `seconds` of its own clock, until a breakpoint, or until `until` is true.

        `until` is asked whenever the guest sends something. Raises GuestEnded if the guest has ended before.
        """
        if self.ended:
            raise GuestEnded(f"The guest has ended{self._why()}: boot another")
        pc = self._session.pc
        pc.stop_at = None if seconds is None else pc.clock.now() + int(seconds * _SECOND)
        self._wanted = until
        try:
            self._session.run()
        finally:
            self._wanted = pc.stop_at = None

    def expect(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """Run until the console shows `pattern`, a regular expression, behind what was expected last; return the match.

        Raises GuestEnded if that does not happen within `seconds` of the guest's clock.
        """
        found = self._find(pattern)
        if found is None and not self.ended:
            self.run(seconds, until=lambda: self._find(pattern) is not None)
            found = self._find(pattern)
        if found is None:
            last = " | ".join(self.console.splitlines()[-_LAST_LINES:])
            raise GuestEnded(f"The console did not show {pattern!r}{self._why()}; it ends with: {last}")
        self._read += len(self.console[self._read :][: found.end()].encode())
        return found

    def send(self, text: str) -> None:
        """Type `text`: the guest reads it when it runs. A line ends with a newline."""
        self._keyboard.send(text)

    def ask(self, command: str, prompt: str = "# ", seconds: float = 60.0) -> str:
        """Type a shell's `command`, run until the `prompt` comes back, and return what was said in between."""
        self.send(command + "\n")
        self.expect(re.escape(command) + r"\r?\n", seconds)
        begun = self._read
        self.expect(re.escape(prompt), seconds)
        said = self._console[begun : self._read].decode("utf-8", "replace").replace("\r\n", "\n")
        return said.rpartition("\n")[0]

    def read_symbols(self, *names: str) -> None:
        """Have the guest's shell, of root and at its prompt, say where the kernel has `names`: /proc/kallsyms knows.

        Linux puts itself elsewhere at each boot, which follows from the time-stamp counter here: the same each time.
        Raises MisuseError for a name that the kernel does not have.
        """
        said = self.ask(f"grep -E ' ({'|'.join(names)})$' /proc/kallsyms")
        self.symbols |= {name: int(address, 16) for address, name in _SYMBOL.findall(said)}
        for name in names:
            self.address_of(name)

    def break_at(self, place: str | int) -> None:
        """Have :meth:`run` return in front of the instruction at `place`, a symbol or a linear address."""
        for one in self.machine.vcpus:
            breaking(one.cpu).at(self.address_of(place))

    def address_of(self, place: str | int) -> int:
        """Return the linear address of `place`. Raises MisuseError for a symbol that is not known."""
        if isinstance(place, int):
            return place
        found = self.symbols.get(place)
        if found is None:
            raise MisuseError(
                f"No symbol is called {place!r}: read_symbols({place!r}) asks the kernel, or give an address"
            )
        return found

    def walk(self, place: str | int, access: Access = Access.READ, *, vcpu: int = 0) -> WalkRecord:
        """Return the page walk of a supervisor's access to `place`, on the tables as they stand; nothing changes."""
        one = self.machine.vcpus[vcpu]
        one.processor.settle()
        return one.mmu.walk(self.address_of(place), access, user=False)

    def report(self) -> Mapping[str, Any]:
        """Return the record of what has run so far, as ``quire boot --json`` has it."""
        return self._session.make_record()

    def close(self) -> None:
        """Give memory and engines back."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sent(self, data: bytes) -> None:
        self._console += data
        if self._wanted is not None and self._wanted():
            self._session.end()

    def _find(self, pattern: str) -> re.Match[str] | None:
        text = self._console[self._read :].decode("utf-8", "replace")
        return re.search(pattern, text)

    def _why(self) -> str:
        reason = self._session.reason
        return "" if reason is None else f" ({reason})"


def boot(
    kernel: str | Path,
    *,
    initrds: tuple[str | Path, ...] = (),
    append: str | None = None,
    flat: int | None = None,
    detail: str = "exits",
    **hardware: Any,
) -> Booted:
    """Return a guest that is about to boot `kernel`; `hardware` are fields of GuestConfig, such as mmu, vcpus, memory.

    `append` is the command line, by default what is usual of the kernel; `flat` is where a flat binary goes, by GPA.
    Raises LaunchError for what cannot be booted, MisuseError for hardware that cannot be.
    """
    spec = BootSpec(
        str(kernel),
        tuple(str(name) for name in initrds),
        append,
        boot_config(**hardware),
        Detail[detail.upper()],
        flat=flat,
    )
    return Booted(spec)
