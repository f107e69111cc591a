"""Packets of gdb's remote protocol on a connection: framing, checksums, acknowledgement (GDB manual, appendix E)."""

import select
import socket

__all__ = ["INTERRUPT", "LARGEST", "Connection"]

#: What a debugger sends to stop a guest that runs.
INTERRUPT = b"\x03"
#: The longest packet that is taken, in bytes.
LARGEST = 1 << 14
_ESCAPE, _ESCAPED = 0x7D, 0x20
_SPECIAL = b"#$}*"


class Connection:
    """One debugger's. Raises OSError when it breaks."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._buffer = bytearray()
        self.acknowledges = True  #: until the debugger says that it trusts the connection

    def read(self) -> bytes | None:
        """Return the next packet's content, or INTERRUPT; None when the debugger has gone.

        A packet whose checksum is wrong is asked for again; a longer one than LARGEST ends the connection.
        """
        while True:
            start = self._buffer.find(b"$")
            if INTERRUPT in self._buffer[: start if start >= 0 else None]:
                del self._buffer[: self._buffer.index(INTERRUPT) + 1]
                return INTERRUPT
            end = self._buffer.find(b"#", start + 1)
            if 0 <= start < end and len(self._buffer) >= end + 3:
                content, said = bytes(self._buffer[start + 1 : end]), bytes(self._buffer[end + 1 : end + 3])
                del self._buffer[: end + 3]
                right = said.lower() == b"%02x" % (sum(content) & 0xFF)
                if self.acknowledges:
                    self._link.sendall(b"+" if right else b"-")
                if right:
                    return _unescaped(content)
                continue
            if len(self._buffer) > LARGEST or not self._receive():
                return None

    def write(self, content: bytes) -> None:
        """Send a packet."""
        escaped = b"".join(
            bytes((_ESCAPE, one ^ _ESCAPED)) if one in _SPECIAL else bytes((one,)) for one in content
        )
        self._link.sendall(b"$" + escaped + b"#%02x" % (sum(escaped) & 0xFF))

    def interrupted(self) -> bool:
        """Whether the debugger asks, has gone or says too much, while the guest runs; waits a moment for it."""
        ready = select.select([self._link], [], [], 0.05)[0]
        if ready and not self._receive():
            return True
        return INTERRUPT in self._buffer or len(self._buffer) > LARGEST

    def _receive(self) -> bool:
        data = self._link.recv(LARGEST)
        self._buffer += data
        return bool(data)


def _unescaped(content: bytes) -> bytes:
    if _ESCAPE not in content:
        return content
    found, rest = bytearray(), iter(content)
    for one in rest:
        found.append(next(rest, 0) ^ _ESCAPED if one == _ESCAPE else one)
    return bytes(found)
