"""Everyday programs as guests: what they print and how they end is what they do natively, byte for byte."""

import random
from pathlib import Path

import pytest
from native import MMUS, REPO, compare, execute, need, quire, same
from sampling import some

pytestmark = pytest.mark.programs

LARGE = some(16 << 20, 4 << 20)
SMALL = 64 << 10

APPLETS = {
    "cat": ["cat", "data"],
    "wc": ["wc", "data"],
    "sort": ["sort", "-r", "data"],
    "md5sum": ["md5sum", "data"],
    "sed": ["sed", "-n", "s/a\\(b*\\)/[\\1]/p", "data"],
    "awk": ["awk", "{ n[$1]++ } END { for (k in n) t += n[k]; print t, NR }", "data"],
    "cut": ["cut", "-d", " ", "-f", "2-3", "data"],
    "gzip": ["gzip", "-c", "data"],
    "ls": ["ls", "-l", "."],
    "od": ["od", "-A", "x", "-t", "x1", "data"],
}


def words(size: int, seed: int) -> bytes:
    """Return `size` bytes of lines of words: text that compresses, sorts and matches like text."""
    chooser = random.Random(seed)
    vocabulary = ["".join(chooser.choices("abcdefghij", k=chooser.randint(2, 9))) for _ in range(3000)]
    # One block of text, then copies of it numbered: a large file in little time.
    block = "\n".join(" ".join(chooser.choices(vocabulary, k=40)) for _ in range(160))
    text = "".join(f"{chooser.randrange(1 << 30)} {block}\n" for _ in range(size // len(block) + 1))
    return text.encode()[:size]


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded file of 16 MB, or of 4."""
    path = tmp_path_factory.mktemp("large") / "data"
    path.write_bytes(words(LARGE, 16))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A directory with a seeded file ``data`` of 64 KB."""
    (tmp_path / "data").write_bytes(words(SMALL, 64))
    return tmp_path


@pytest.mark.parametrize("mmu", MMUS)
def test_ls_of_root(mmu: str) -> None:
    """``ls -l /`` prints every line that did not change on the machine meanwhile.

    /proc has a link a process, /tmp one a directory: each is as before when as many have come as have gone, and how
    wide a column is depends on them.
    """
    argv = [need("ls"), "-l", "/"]
    before, guest, after = execute(argv), quire(argv, "--mmu", mmu, "--report", "none"), execute(argv)
    first, lines, last = (
        {b" ".join(line.split()) for line in one.stdout.splitlines()} for one in (before, guest, after)
    )
    stable = first & last
    stable = {line for line in stable if line.split()[-1] not in (b"proc", b"tmp")}
    assert len(stable) > 5 and stable <= lines
    names = ([line.split()[-1] for line in one.stdout.splitlines()] for one in (guest, after))
    assert next(names) == next(names)
    assert (guest.status, guest.stderr) == (after.status, after.stderr)


@pytest.mark.parametrize(
    "argv", [["cat"], ["sha256sum"], ["gzip", "-1", "-c"], ["sort"]], ids=lambda argv: argv[0]
)
def test_large_file_under_ept(argv: list[str], large: Path) -> None:
    compare([need(argv[0]), *argv[1:], large.name], cwd=large.parent)


def test_gzip_decompresses_a_large_file(large: Path, tmp_path: Path) -> None:
    gzip = need("gzip")
    packed = tmp_path / "data.gz"
    packed.write_bytes(execute([gzip, "-1", "-c", large]).stdout)
    guest = quire([gzip, "-d", "-c", packed.name], "--report", "none", cwd=tmp_path)
    assert (guest.status, guest.stderr) == (0, b"")
    assert guest.stdout == large.read_bytes() or pytest.fail("gzip -d gives other bytes than were packed")


@pytest.mark.parametrize(
    "options", [("--mmu", "native"), ("--mmu", "shadow"), ("--detail", "full")], ids=" ".join
)
@pytest.mark.parametrize("argv", [["cat"], ["sort"], ["sha256sum"], ["gzip", "-c"]], ids=lambda argv: argv[0])
def test_small_file(argv: list[str], options: tuple[str, ...], small: Path) -> None:
    compare([need(argv[0]), *argv[1:], "data"], *options, cwd=small)


@pytest.mark.parametrize("mmu", some(MMUS, ("shadow",)))
def test_xz_there_and_back(mmu: str, small: Path) -> None:
    xz = need("xz")
    compare([xz, "-2", "-c", "data"], "--mmu", mmu, cwd=small)
    packed = execute([xz, "-2", "-c", "data"], cwd=small).stdout
    compare([xz, "-d", "-c"], "--mmu", mmu, stdin=packed, cwd=small)


@pytest.mark.parametrize("mmu", some(MMUS, ("native",)))
def test_grep_over_the_source_tree(mmu: str, tmp_path: Path) -> None:
    """``grep -r`` over this repository's sources (a link to them: output without machine paths)."""
    (tmp_path / "src").symlink_to(REPO / "src", target_is_directory=True)
    record = compare(
        [need("grep"), "-rn", "--include=*.py", "class [A-Z].*Error", "src/"], "--mmu", mmu, cwd=tmp_path
    )
    assert record["syscalls"]["openat"] > 30


@pytest.mark.parametrize("mmu", some(MMUS, ("ept",)))
@pytest.mark.parametrize(
    "argv",
    [
        [
            "awk",
            "{ n[$2] += length($3) } END { for (k in n) { t += n[k]; if (k < m || !m) m = k }; print t, m }",
        ],
        ["sed", "-E", "s/([a-c]+) ([d-f]+)/<\\2 \\1>/g; /^[0-9]/d"],
        ["wc", "-lwc"],
    ],
    ids=lambda argv: argv[0],
)
def test_text_tool(argv: list[str], mmu: str, small: Path) -> None:
    compare([need(argv[0]), *argv[1:], "data"], "--mmu", mmu, cwd=small)


@pytest.mark.parametrize("applet", sorted(APPLETS))
def test_busybox_applet(applet: str, small: Path) -> None:
    """Debian's busybox-static: each applet under the mmu that its name's length chooses, so that all are used."""
    mmu = MMUS[len(applet) % len(MMUS)]
    stdin = (small / "data").read_bytes()
    compare([need("busybox"), *APPLETS[applet]], "--mmu", mmu, stdin=stdin, cwd=small)


def test_standard_input_is_the_users(small: Path) -> None:
    """A pipe of more than its 64 KiB arrives whole; a closed end of it is end of file."""
    data = words(200_000, 3)
    compare([need("sort"), "-k", "2"], stdin=data, cwd=small)


@pytest.mark.parametrize("options", [(), ("--sandbox",)])
def test_standard_input_has_a_name(options: tuple[str, ...]) -> None:
    compare([need("cat"), "/dev/stdin", "/proc/self/fd/0"], *options, stdin=words(20_000, 4))


def test_procfs_can_be_listed() -> None:
    listed = quire([need("ls"), "/proc"], "--report", "none")
    assert {b"self", b"cpuinfo"} <= set(listed.stdout.split()), listed.stderr


def test_a_missing_file_is_the_programs_own_error(small: Path) -> None:
    record = compare([need("cat"), "no such file", "data"], cwd=small)
    assert record["outcome"] == {"status": 1, "signal": None, "partial": False, "reason": None}


def test_all_mmus_agree_on_a_written_file(small: Path) -> None:
    """What a guest leaves in the file system is what the native program leaves there."""
    cp = need("cp")
    assert execute([cp, "data", "native"], cwd=small).status == 0
    for mmu in MMUS:
        outcome = quire([cp, "--", "data", f"copy-{mmu}"], "--mmu", mmu, "--report", "none", cwd=small)
        same(outcome, execute([cp, "--", "data", "native"], cwd=small))
        copied = small / f"copy-{mmu}"
        assert copied.read_bytes() == (small / "native").read_bytes()
        assert copied.stat().st_mode == (small / "native").stat().st_mode
