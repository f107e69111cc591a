"""What a guest sends to its serial console: passed on, and read for a line by which Linux says that it has panicked."""

import re
from collections.abc import Callable

__all__ = ["Console"]

_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
#: The line behind which a kernel that panicked does nothing more.
_END = "---[ end Kernel panic"
_LONGEST_LINE = 4096


class Console:
    """Calls `write` with what the guest sends, a byte or more at a time."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._line = bytearray()
        self.panic: str | None = None  #: why the guest's kernel panicked
        self.over = False  #: whether it has said all that it had to say about that

    def sent(self, value: int) -> None:
        """Take one byte."""
        self._write(bytes((value,)))
        if value != ord("\n") and len(self._line) < _LONGEST_LINE:
            self._line.append(value)
            return
        text = self._line.decode("utf-8", "replace").rstrip("\r")
        self._line.clear()
        found = _PANIC.search(text)
        if self.panic is None and found is not None and _END not in text:
            self.panic = found[1]
        self.over |= _END in text
