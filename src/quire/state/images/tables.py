"""Tables written by hand: a TOML file that says which entries lie where, as numbers or by the names of their bits.

See docs/reference/walk.md for the form. What the file does not describe is not memory of tables, and pages may lie
anywhere unless ``memory`` says how much there is. Fails with FormatError, which names table and entry.
"""

from collections.abc import Iterator
from typing import Any

from quire.arch import (
    EPTP,
    PAGE_SIZE,
    Layout,
    PagingMode,
    entry_layout,
    ept_layout,
    level_shift,
    profile_by_name,
)
from quire.documents import parse_toml, read_text
from quire.errors import FormatError, MisuseError, did_you_mean
from quire.paging import Context
from quire.paging.settings import SETTINGS, parse_number
from quire.state.images.image import Image
from quire.state.images.memory import ImageMemory

__all__ = ["MODES", "read_tables"]

#: Paging modes as options and files call them.
MODES = {
    "none": PagingMode.NONE,
    "32": PagingMode.BITS_32,
    "pae": PagingMode.PAE,
    "4": PagingMode.LEVEL_4,
    "5": PagingMode.LEVEL_5,
}
_KEYS = ("mode", "cr3", "eptp", "memory", "profile", "settings", "table")
_TABLE_KEYS = ("address", "level", "dimension", "entries")
_ENTRY_KEYS = ("addr", "bits")
_PDPT_BYTES = 32


def read_tables(path: str) -> Image:
    """Return the image that the TOML file at `path` describes. Raises FormatError, or OSError if it cannot be read."""
    content = parse_toml(read_text(path, path), path)
    try:
        return _image(path, content)
    except (FormatError, MisuseError) as error:
        raise FormatError(f"{path}: {error}") from None


def _image(path: str, content: dict[str, Any]) -> Image:
    _check_keys(content, _KEYS, "the file")
    word = str(content.get("mode", "4"))
    if word not in MODES:
        raise FormatError(f"mode is {word!r}: give one of {', '.join(MODES)}")
    mode = MODES[word]
    pages: dict[int, bytearray] = {}
    defined: dict[int, object] = {}
    tables = content.get("table", [])
    if not isinstance(tables, list) or not tables:
        raise FormatError("there is no table: begin each with a line [[table]]")
    for table in tables:
        _fill(pages, defined, table, mode)
    settings = _settings(content, mode)
    ranges = [(address, memoryview(page)) for address, page in pages.items()]
    size = _integer(content.get("memory", 0), "memory")
    if size % PAGE_SIZE or size >> 52:
        raise FormatError(f"memory is {size:#x} bytes: give a multiple of 0x1000 below {1 << 52:#x}")
    profile = content.get("profile")
    if profile is not None:
        if not isinstance(profile, str):
            raise FormatError(f"profile is {profile!r}: give a name in quotes, such as 'skylake-x'")
        profile_by_name(profile)  # raises for what is none
    count = f"{len(tables)} table{'s' * (len(tables) != 1)}"
    memory, given = ImageMemory(ranges, size), frozenset(defined)
    title = f"{count} in {path}"
    return Image(memory, title, settings, profile=profile, whole=bool(size), given=given)


def _settings(content: dict[str, Any], mode: PagingMode) -> dict[Context, int]:
    settings = {Context.MODE: int(mode)}
    if "cr3" in content:
        settings[Context.CR3] = _integer(content["cr3"], "cr3")
    if "eptp" in content:
        eptp = content["eptp"]
        settings[Context.EPTP] = _encode(EPTP, eptp, 0) if isinstance(eptp, dict) else _integer(eptp, "eptp")
    given = content.get("settings", {})
    if not isinstance(given, dict):
        raise FormatError("settings is no table: write settings = { wp = 1, smep = 0 }")
    _check_keys(given, tuple(SETTINGS), "settings")
    for name, value in given.items():
        field, width = SETTINGS[name]
        number = _integer(value, name)
        if number >> width:
            raise FormatError(f"settings.{name} is {number:#x}: give 0x0 to {(1 << width) - 1:#x}")
        settings[field] = number
    return settings


def _fill(pages: dict[int, bytearray], defined: dict[int, object], table: Any, mode: PagingMode) -> None:
    """Write one described table into its page; `defined` has the addresses of entries, and the table of each."""
    if not isinstance(table, dict) or "address" not in table:
        raise FormatError("a table has no address: write address = 0x1000 below [[table]]")
    address = _integer(table["address"], "address")
    where = f"table {address:#x}"
    _check_keys(table, _TABLE_KEYS, where)
    dimension = table.get("dimension", "guest")
    if dimension not in ("guest", "ept"):
        raise FormatError(f"{where}: dimension is {dimension!r}: give guest or ept")
    own_mode = PagingMode.LEVEL_5 if dimension == "ept" else mode
    level = _integer(table.get("level", 0), "level")
    if level and not 1 <= level <= own_mode:
        raise FormatError(f"{where}: level is {level}: {dimension} tables here have levels 1 to {own_mode:d}")
    size = 4 if own_mode is PagingMode.BITS_32 else 8
    count = 4 if own_mode is PagingMode.PAE and level == 3 else PAGE_SIZE // size
    if address % (_PDPT_BYTES if count == 4 else PAGE_SIZE) or address >> 52:
        pae = ", with level = 3 in PAE paging to 0x20" if own_mode is PagingMode.PAE else ""
        raise FormatError(f"{where}: tables are aligned to 0x1000{pae}, below {1 << 52:#x}")
    page = pages.setdefault(address & ~(PAGE_SIZE - 1), bytearray(PAGE_SIZE))
    entries = table.get("entries", {})
    if not isinstance(entries, dict):
        raise FormatError(f"{where}: entries is no table: write [table.entries] and lines like 0 = 0x2007")
    for key, entry in entries.items():
        what = f"{where}, entry {key}"
        try:
            for index, value in _values(key, entry, level, dimension == "ept", mode, count):
                at = address % PAGE_SIZE + size * index
                if defined.setdefault(address + size * index, table) is not table:
                    raise FormatError(f"index {index} has an entry already, in an earlier table there")
                page[at : at + size] = value.to_bytes(size, "little")
        except (FormatError, MisuseError, OverflowError) as error:
            said = f"the entry does not fit in {size} bytes" if isinstance(error, OverflowError) else error
            raise FormatError(f"{what}: {said}") from None


def _values(
    key: str, entry: Any, level: int, ept: bool, mode: PagingMode, count: int
) -> Iterator[tuple[int, int]]:
    """Yield index and value of what one line says: an index, or ``0..511`` with addresses that follow each other."""
    first, dots, last = key.partition("..")
    start = parse_number(first, "index")
    end = parse_number(last, "index") if dots else start
    if not start <= end < count:
        raise FormatError(f"the index must be from 0 to {count - 1}, or a range like 0..{count - 1}")
    if not isinstance(entry, dict):
        for index in range(start, end + 1):
            yield index, _integer(entry, "entry")
        return
    _check_keys(entry, _ENTRY_KEYS, "an entry")
    if not level:
        raise FormatError("names of bits depend on the level: add level = 4, 3, 2 or 1 to the table")
    leaf = level == 1 or "PS" in str(entry.get("bits", "")).split()
    layout = ept_layout(level, leaf) if ept else entry_layout(level, leaf, mode)
    step = 1 << level_shift(level, PagingMode.LEVEL_5 if ept else mode) if leaf else PAGE_SIZE
    for index in range(start, end + 1):
        yield index, _encode(layout, entry, (index - start) * step)


def _encode(layout: Layout, entry: dict[str, Any], beyond: int) -> int:
    """Return the entry that names say; its address is `beyond` what they say."""
    fields = {}
    for word in str(entry.get("bits", "")).split():
        name, equals, number = word.partition("=")
        fields[name] = parse_number(number, name) if equals else 1
    if "addr" in entry:
        fields["addr"] = _integer(entry["addr"], "addr") + beyond
    return layout.encode(**fields)


def _integer(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise FormatError(f"{what} is {value!r}: give a number that is not negative, 0x1000 for instance")
    return value


def _check_keys(content: dict[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in content:
        if key not in known:
            raise FormatError(
                f"{what} has {key!r}, which means nothing{did_you_mean(key, known)}: it may have {', '.join(known)}"
            )
