"""The server's side of gdb's remote protocol: one debugger at a time, on the loopback interface."""

import re
import socket
import threading
from collections.abc import Callable

from quire.guest.gdb.packets import INTERRUPT, LARGEST, Connection
from quire.guest.gdb.registers import REGISTERS, description
from quire.guest.gdb.target import Target

__all__ = ["GdbServer"]

_OK, _REFUSED, _NOT_KNOWN = b"OK", b"E01", b""
_TRAP, _INT, _KILLED = 5, 2, 9
_FEATURES = f"PacketSize={LARGEST:x};qXfer:features:read+;swbreak+;hwbreak+;vContSupported+;QStartNoAckMode+"
_MEMORY = re.compile(rb"([0-9a-f]{1,16}),([0-9a-f]{1,8})(?::(.*))?$", re.DOTALL)
_BREAK = re.compile(rb"([01]),([0-9a-f]{1,16}),[0-9a-f]{1,8}")
_MOST_PLACES = 1000  # breakpoints
_MOST_BYTES = LARGEST // 2 - 16


class GdbServer:
    """Serves `target` to a debugger that connects to `port` of this machine; port 0 takes any that is free."""

    def __init__(self, target: Target, port: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._thread = 1  # that registers and memory are asked of
        self._physical = False
        self._places: set[int] = set()
        self._ended: str | None = None
        self._detached = False
        self._handlers: dict[bytes, Callable[[bytes], bytes]] = {
            b"?": lambda rest: self._stopped(_TRAP),
            b"g": self._all_registers,
            b"p": self._one_register,
            b"P": self._set_register,
            b"m": self._read,
            b"M": self._write,
            b"Z": lambda rest: self._breakpoint(rest, add=True),
            b"z": lambda rest: self._breakpoint(rest, add=False),
            b"H": self._choose,
            b"T": lambda rest: _OK if self._number(rest) else _REFUSED,
            b"c": lambda rest: self._go_on(),
            b"s": lambda rest: self._step(self._thread),
            b"D": self._detach,
            b"k": self._kill,
        }

    def serve(self) -> bool:
        """Wait for a debugger and serve it until it leaves; return whether the guest is to run on by itself."""
        with self._listener:
            link, _ = self._listener.accept()
        with link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = Connection(link)
            try:
                self._serve()
            except OSError:
                pass  # the debugger has gone
        self._target.set_breakpoints(frozenset())
        return self._ended is None

    def _serve(self) -> None:
        while not self._detached and (packet := self._connection.read()) is not None:
            if packet == INTERRUPT:
                continue  # the guest stands already
            answer = self._answer(packet)
            if self._detached and self._ended is not None:
                return  # killed: no answer is expected
            self._connection.write(answer)
            if packet == b"QStartNoAckMode":
                self._connection.acknowledges = False

    def _answer(self, packet: bytes) -> bytes:
        if packet[:1] in (b"q", b"Q", b"v"):
            return self._named(packet)
        handler = self._handlers.get(packet[:1])
        return _NOT_KNOWN if handler is None else handler(packet[1:])

    def _named(self, packet: bytes) -> bytes:
        """Answer a query, a setting or a command with a name."""
        name, _, rest = packet.partition(b":")
        if packet.startswith(b"vCont;"):
            return self._resume(packet[6:])
        if packet.startswith(b"qThreadExtraInfo,"):
            thread = self._number(packet.partition(b",")[2])
            return self._target.name(thread).encode().hex().encode() if thread else _REFUSED
        if name == b"qXfer" and rest.startswith(b"features:read:target.xml:"):
            return _part(description(), rest.rpartition(b":")[2])
        if name in (b"Qqemu.PhyMemMode", b"qqemu.PhyMemMode"):
            self._physical = rest == b"1" if name.startswith(b"Q") else self._physical
            return _OK if name.startswith(b"Q") else b"%d" % self._physical
        threads = b",".join(b"%x" % number for number in range(1, self._target.threads + 1))
        return {
            b"qSupported": _FEATURES.encode(),
            b"QStartNoAckMode": _OK,
            b"vCont?": b"vCont;c;C;s;S",
            b"qC": b"QC%x" % self._target.current,
            b"qfThreadInfo": b"m" + threads,
            b"qsThreadInfo": b"l",
            b"qAttached": b"1",
            b"qSymbol": _OK,
        }.get(name, _NOT_KNOWN)

    def _resume(self, actions: bytes) -> bytes:
        """vCont: the first thread that is to step does; without one all go on."""
        for action in actions.split(b";"):
            what, _, thread = action.partition(b":")
            if what[:1] in (b"s", b"S"):
                return self._step(self._number(thread) or self._target.current)
        return self._go_on()

    def _go_on(self) -> bytes:
        """Run the guest; a thread of the host looks whether the debugger wants to stop it."""
        done, asked = threading.Event(), threading.Event()

        def look() -> None:
            while not done.is_set():
                if self._connection.interrupted():
                    asked.set()
                    self._target.interrupt()
                    return

        looking = threading.Thread(target=look, name="quire-gdb", daemon=True)
        looking.start()
        try:
            self._ended = self._target.go_on()
        finally:
            done.set()
            looking.join()
        return self._stopped(_INT if asked.is_set() else _TRAP)

    def _step(self, thread: int) -> bytes:
        self._ended = self._target.step(thread)
        return self._stopped(_TRAP)

    def _stopped(self, signo: int) -> bytes:
        """Say why and where the guest stands, or that it has ended."""
        if self._ended is not None:
            return b"W00"
        self._thread = self._target.current
        return b"T%02xthread:%x;" % (signo, self._target.current)

    def _number(self, text: bytes) -> int:
        """Return the number of a thread, 0 for one that there is not."""
        number = int(text, 16) if re.fullmatch(rb"[0-9a-f]{1,8}", text) else 0
        return number if number <= self._target.threads else 0

    def _choose(self, rest: bytes) -> bytes:
        number = self._number(rest[1:])
        if rest[:1] == b"g" and number:
            self._thread = number
        return _OK

    def _all_registers(self, rest: bytes) -> bytes:
        del rest
        values = self._target.registers(self._thread)
        return b"".join(one.encode(value) for one, value in zip(REGISTERS, values, strict=True))

    def _one_register(self, rest: bytes) -> bytes:
        number = int(rest, 16) if re.fullmatch(rb"[0-9a-f]{1,4}", rest) else len(REGISTERS)
        if number >= len(REGISTERS):
            return _REFUSED
        return REGISTERS[number].encode(self._target.registers(self._thread)[number])

    def _set_register(self, rest: bytes) -> bytes:
        found = re.fullmatch(rb"([0-9a-f]{1,4})=((?:[0-9a-f]{2}){1,16})", rest)
        if found is None or int(found[1], 16) >= len(REGISTERS):
            return _REFUSED
        value = int.from_bytes(bytes.fromhex(found[2].decode()), "little")
        return _OK if self._target.write_register(self._thread, int(found[1], 16), value) else _REFUSED

    def _read(self, rest: bytes) -> bytes:
        found = _MEMORY.match(rest)
        if found is None:
            return _REFUSED
        length = min(int(found[2], 16), _MOST_BYTES)
        data = self._target.read(self._thread, int(found[1], 16), length, physical=self._physical)
        return data.hex().encode() if data or not length else _REFUSED

    def _write(self, rest: bytes) -> bytes:
        found = _MEMORY.match(rest)
        digits = b"" if found is None else found[3] or b""
        if (
            found is None
            or not re.fullmatch(rb"(?:[0-9a-f]{2})*", digits)
            or len(digits) != 2 * int(found[2], 16)
        ):
            return _REFUSED
        data = bytes.fromhex(digits.decode())
        written = self._target.write(self._thread, int(found[1], 16), data, physical=self._physical)
        return _OK if written else _REFUSED

    def _breakpoint(self, rest: bytes, *, add: bool) -> bytes:
        """Breakpoints of software and of hardware are the same here; there are no watchpoints."""
        found = _BREAK.match(rest)
        if found is None:
            return _NOT_KNOWN
        place = int(found[2], 16)
        changed = self._places | {place} if add else self._places - {place}
        if len(changed) > _MOST_PLACES:
            return _REFUSED
        if changed != self._places:
            self._places = changed
            self._target.set_breakpoints(frozenset(changed))
        return _OK

    def _detach(self, rest: bytes) -> bytes:
        del rest
        self._detached = True
        return _OK

    def _kill(self, rest: bytes) -> bytes:
        del rest
        self._detached, self._ended = True, "killed by the debugger"
        return _OK


def _part(data: bytes, range_: bytes) -> bytes:
    """Return the part of `data` that `offset,length` asks for, with m before it if there is more, l if not."""
    found = re.fullmatch(rb"([0-9a-f]{1,8}),([0-9a-f]{1,8})", range_)
    if found is None:
        return _REFUSED
    start, length = int(found[1], 16), min(int(found[2], 16), LARGEST // 2)
    return (b"m" if start + length < len(data) else b"l") + data[start : start + length]
