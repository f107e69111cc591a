"""The files that the dynamic linker of a program will read: its libraries, theirs, and the linker's own cache.

Models the search of ld.so(8) as far as names go: DT_RPATH and DT_RUNPATH with $ORIGIN, LD_LIBRARY_PATH, the directories
of /etc/ld.so.conf, the standard ones. What a program opens by itself later (plug-ins, modules, locales) is not found
here.
"""

import glob
import os
from collections.abc import Mapping

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from quire.guest.load.launch import Program

__all__ = ["files_of"]

_CONFIGURATION = "/etc/ld.so.conf"
_LINKERS_OWN = (b"/etc/ld.so.cache", b"/etc/ld.so.preload")
_STANDARD = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
#: Entries of the dynamic section with a text, and where pyelftools keeps it.
_TEXTS = {"DT_NEEDED": "needed", "DT_RPATH": "rpath", "DT_RUNPATH": "runpath"}
_MAGIC = b"\x7fELF"
#: More libraries than any program has; the walk over hostile files ends here.
_MOST = 2000


def files_of(program: Program, environ: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the paths of a program, of its script, interpreter and libraries, links as well as what they lead to."""
    paths = [os.fsencode(program.path), program.execfn]
    if program.image.interpreter is not None:
        paths.append(os.fsencode(program.image.interpreter))
    paths += [*program.scripts, *_LINKERS_OWN]
    given = os.fsdecode(environ.get(b"LD_LIBRARY_PATH", b"")).split(":")
    general = [folder for folder in (*given, *_configured(_CONFIGURATION), *_STANDARD) if folder]
    waiting, seen = [os.fsdecode(path) for path in paths[:3]], set[str]()
    while waiting and len(seen) < _MOST:
        path = waiting.pop()
        if path in seen or not _is_elf(path):
            continue
        seen.add(path)
        names, folders = _needed(path)
        for name in names:
            found = (os.path.join(folder, name) for folder in (*folders, *general))
            waiting += [place for place in found if os.path.isfile(place)]
    paths += [os.fsencode(path) for path in seen]
    return [*paths, *(os.path.realpath(path) for path in paths)]


def _configured(path: str, depth: int = 0) -> list[str]:
    """Return the directories that a file of the linker's configuration names."""
    folders: list[str] = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split("#")[0].strip() for line in file]
    except OSError:
        return folders
    for line in lines:
        if line.startswith("include ") and depth < 4:
            for included in sorted(glob.glob(os.path.join(os.path.dirname(path), line.split(None, 1)[1]))):
                folders += _configured(included, depth + 1)
        elif line:
            folders.append(line)
    return folders


def _is_elf(path: str) -> bool:
    """Whether a file is one that a linker could read: a hostile program may name any other as its library."""
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _needed(path: str) -> tuple[list[str], list[str]]:
    """Return the libraries that an ELF file names, and where it says that they are."""
    names: list[str] = []
    folders: list[str] = []
    origin = os.path.dirname(os.path.realpath(path))
    try:
        with open(path, "rb") as file:
            for segment in ELFFile(file).iter_segments("PT_DYNAMIC"):
                if not isinstance(segment, DynamicSegment):
                    continue
                for tag in segment.iter_tags():
                    text = str(getattr(tag, _TEXTS.get(tag.entry.d_tag, ""), ""))
                    if tag.entry.d_tag == "DT_NEEDED":
                        names.append(text)
                    elif text:
                        folders += text.replace("${ORIGIN}", origin).replace("$ORIGIN", origin).split(":")
    except (OSError, ELFError, AttributeError, KeyError, UnicodeError, ValueError):
        pass  # no ELF file, or one that no linker reads: it names nothing
    return names, folders
