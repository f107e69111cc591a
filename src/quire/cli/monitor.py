"""The monitor of ``quire boot``: a line for commands about the guest, which stands still meanwhile."""

import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import click

from quire.cli.guest_files import open_image
from quire.own_descriptors import empty

if TYPE_CHECKING:
    from quire.guest.boot.boot_session import BootSession

__all__ = ["Monitor"]

_PROMPT = "(quire) "
_HELP = """\
info exits|tlb|vmcs|ept|numa  what was counted, what TLBs hold, the VMCS of each vCPU, what is mapped, nodes
walk ADDRESS                  the page walk of a linear address on the first vCPU, as its supervisor
save FILE                     the guest's memory as an ELF core: see quire walk
stop                          stay here: the guest stands still anyhow
cont                          let the guest go on
quit                          end the guest"""


class Monitor:
    """About the guest of `session`; `read` returns a line, or raises EOFError."""

    def __init__(
        self, session: "BootSession", read: Callable[[str], str] = input, out: IO[str] | None = None
    ) -> None:
        self._session, self._read = session, read
        self._out = sys.stdout if out is None else out
        self._commands: dict[str, Callable[[str], None]] = {
            "info": self._info,
            "walk": self._walk,
            "save": self._save,
            "stop": lambda rest: None,
            "help": lambda rest: self._say(_HELP),
        }
        self._infos: dict[str, Callable[[], None]] = {
            "exits": self._exits,
            "tlb": self._tlb,
            "vmcs": self._vmcs,
            "ept": self._ept,
            "numa": self._numa,
        }

    def talk(self) -> bool:
        """Carry out commands until the guest is to go on, True, or to end."""
        self._say("")
        while True:
            try:
                name, _, rest = self._read(_PROMPT).strip().partition(" ")
            except (EOFError, KeyboardInterrupt):
                return True
            if name in ("cont", "c", "quit", "q"):
                return name[0] == "c"
            command = self._commands.get(name or "stop")
            if command is None:
                self._say(f"There is no command {name!r}: help lists them.")
            else:
                command(rest.strip())

    def _say(self, text: str) -> None:
        click.echo(text, file=self._out)

    def _rows(self, rows: "list[tuple[str, str]]") -> None:
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self._say(f"  {name:<{width}}  {value:>14}")

    def _info(self, rest: str) -> None:
        info = self._infos.get(rest)
        if info is None:
            self._say(f"There is nothing about {rest!r}: give {', '.join(self._infos)}.")
        else:
            info()

    def _exits(self) -> None:
        record = self._session.make_record()
        self._rows([(name, f"{count:_}") for name, count in record["exits"].items()] or [("none", "")])

    def _tlb(self) -> None:
        for one in self._session.pc.machine.vcpus:
            held: dict[str, int] = {}
            for entry in one.tlb.valid():
                held[entry.structure] = held.get(entry.structure, 0) + 1
            self._say(f"vCPU {one.number}")
            self._rows([(name, f"{count:_}") for name, count in held.items()] or [("nothing", "")])

    def _vmcs(self) -> None:
        from quire.arch import VMCS_FIELDS

        for one in self._session.pc.machine.vcpus:
            self._say(f"vCPU {one.number}: fields that are not 0")
            values = ((field.name, one.vmcs.read(field.name)) for field in VMCS_FIELDS)
            self._rows([(name, f"{value:#x}") for name, value in values if value])

    def _ept(self) -> None:
        record = self._session.make_record()["memory"]["host"]
        if record is None:
            self._say("There is no EPT under native: guest-physical memory is host memory.")
        else:
            self._rows([(name.replace("_", " "), f"{value:_}") for name, value in record.items()])

    def _numa(self) -> None:
        from quire.guest.numa_record import numa_record
        from quire.report.numa import numa_rows

        record = numa_record(self._session.pc.machine.vcpus, full=False)
        if record is None:
            self._say("The host has no nodes: boot with --numa 2x4G, for instance.")
        else:
            self._rows([(name, value) for name, value, _ in numa_rows(record)])

    def _walk(self, rest: str) -> None:
        from quire.arch import WORD, Access
        from quire.paging.explanation import explanation
        from quire.report import walk_lines

        try:
            address = int(rest, 0)
        except ValueError:
            address = -1
        if not 0 <= address <= WORD:
            self._say(f"{rest!r} is no linear address: give one such as 0xffffffff81000000.")
            return
        one = self._session.pc.machine.vcpu
        one.processor.settle()
        walk = explanation(one.mmu.walk(address, Access.READ, user=False), one.mmu.guest_context)
        self._say("\n".join(walk_lines(walk)))

    def _save(self, rest: str) -> None:
        from quire.state.images.save import save_image

        if not rest:
            self._say("Where to? save FILE")
            return
        one = self._session.pc.machine.vcpu
        try:
            with open_image(rest) as file:
                empty(file.fileno())
                save_image(one, file, cr2=one.processor.cr2)
        except click.ClickException as error:
            self._say(error.message)
        except OSError as error:
            self._say(f"The image could not be written: {error.strerror}.")
