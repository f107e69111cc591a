"""Starts a guest with inherited descriptors: ``sandbox_start.py quire|alone|apart FOLDER PAIRS PROGRAM WORD...``.

PAIRS says which descriptor of this process becomes which: ``30:5,31:6``. In FOLDER, procfs is mounted a second time and
bound, where this process may do so, in a mount namespace of its own. ``quire`` runs the command line, ``alone`` a
session in this process, in which no wall of the host's kernel stands, ``apart`` one without a sandbox, which tells what
it left of this process.
"""

import ctypes
import os
import sys
from pathlib import Path

__all__: list[str] = []

_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
_OPTIONS = ("--memory", "64M")


def _mount(folder: str) -> None:
    """Mount procfs twice more, if that may be done: as root, in a namespace of this process."""
    library = ctypes.CDLL(None)
    if os.geteuid() or library.unshare(_CLONE_NEWNS):
        return
    library.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
    library.mount(b"/proc", os.fsencode(f"{folder}/bound"), None, ctypes.c_ulong(_MS_BIND | _MS_REC), None)
    library.mount(b"proc", os.fsencode(f"{folder}/second"), b"proc", ctypes.c_ulong(0), None)


def _inherit(pairs: str) -> None:
    """Give descriptors the numbers that the guest knows them by, and close those that it is not to have."""
    wanted = [tuple(int(word) for word in pair.split(":")) for pair in pairs.split(",")]
    high = [(os.dup2(source, 500 + target), target) for source, target in wanted]
    os.closerange(3, 500)
    for source, target in high:
        os.dup2(source, target)
        os.close(source)


def main(way: str, folder: str, pairs: str, *command: str) -> None:
    """Do it."""
    _mount(folder)
    _inherit(pairs)
    if way == "quire":
        words = ["-P", "-m", "quire", "run", "--sandbox", *_OPTIONS, "--report", "none", "--", *command]
        os.execv(sys.executable, [sys.executable, *words])
    sys.path += map(str, Path(__file__).parents[:2])
    if way == "apart":
        from session_apart import run_apart

        run_apart(*command)
        return
    from quire.cpu import Detail
    from quire.guest.run_spec import RunSpec
    from quire.guest.session import open_session
    from quire.machine import GuestConfig

    session = open_session(
        RunSpec(command, GuestConfig(memory=64 << 20), Detail.EXITS, sandbox=True), dict(os.environb)
    )
    status = session.run()
    assert session.walls == ["table of effects"]
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
