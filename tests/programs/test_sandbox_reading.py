"""`--sandbox --allow-read`: what lies outside of the paths is EACCES, there or not, by every call and spelling."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attempts import effect_rows
from limits import PATIENCE
from native import need, quire

from quire.guest.syscalls.effects import Effect

pytestmark = pytest.mark.programs

SOURCE = Path(__file__).parent / "probes" / "reading.c"
OPENING = {"open", "openat", "openat2"}
#: Ways to write the name of a file in the folder "out", which is there or not; {here} is the folder of both.
SPELLINGS = (
    "out/{name}",
    "{here}/out/{name}",
    "/{here}//out/./{name}",
    "in/../out/{name}",
    "in/deep/../../out/{name}",
    "in/out/{name}",
    "in/to-{name}",
    "/proc/self/cwd/out/{name}",
    "/proc/thread-self/cwd/out/{name}",
    "/proc/self/root{here}/out/{name}",
    "/proc/self/cwd/in/../out/{name}",
    "/proc/self/fd/4/../out/{name}",
    "out/{name}/../../in/file",
    "out/../out/{name}",
    "out/{name}/",
    "out/{name}/below",
    "@../out/{name}",
    "@out/{name}",
    "@to-{name}",
    "@{here}/out/{name}",
)
#: The same in directories that Quire lets be seen, since the program's own files are in them.
BESIDE = (("/etc/passwd", "/etc/no such file"), ("/proc/1/status", "/proc/999999999/status"))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return a folder with an allowed one in it, and one that is not, to which links lead."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "file").write_bytes(b"inside")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret").write_bytes(b"outside")
    (tmp_path / "in" / "out").symlink_to("../out")
    for name in ("secret", "missing"):
        (tmp_path / "in" / f"to-{name}").symlink_to(f"../out/{name}")
    return tmp_path


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the program, compiled dynamic, and static where that can be done."""
    gcc, folder = need("gcc"), tmp_path_factory.mktemp("reading")
    found = {}
    for name, flags in (("dynamic", ()), ("static", ("-static",))):
        made = subprocess.run(
            [gcc, "-w", *flags, SOURCE, "-o", folder / name],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        if made.returncode == 0:
            found[name] = folder / name
    assert "dynamic" in found
    return found


def _tried(program: Path, here: Path, *names: str) -> Iterator[tuple[str, str, str]]:
    """Yield the call, the name and the error of each call on each name."""
    done = quire([program, *names], "--sandbox", "--allow-read", "in", "--report", "none", cwd=here)
    assert done.status == 0, done.stderr
    for line in done.stdout.decode().splitlines():
        call, rest = line.split(" ", 1)
        name, number = rest.rsplit(" ", 1)
        yield call, name, errno.errorcode.get(int(number), "ok")


@pytest.mark.parametrize("link", ["dynamic", "static"])
def test_what_lies_outside_is_refused_whether_it_is_there_or_not(
    link: str, here: Path, programs: dict[str, Path]
) -> None:
    if link not in programs:
        pytest.skip("gcc cannot link static programs here")
    names = [form.format(here=here, name=name) for form in SPELLINGS for name in ("secret", "missing")]
    names += [name for pair in BESIDE for name in pair]
    found = list(_tried(programs[link], here, *names))
    assert {call for call, _, _ in found} == {
        name for name, effect in effect_rows().items() if effect in (Effect.READS, Effect.WATCHES)
    } | OPENING
    assert [one for one in found if one[2] != "EACCES"] == []


def test_what_lies_inside_is_as_it_is(here: Path, programs: dict[str, Path]) -> None:
    (here / "in" / "inner").symlink_to("file")
    names = ("in/file", "@file", f"{here}/in/file", "in/deep/../file", "in/inner", "/proc/self/cwd/in/file")
    found = [one for one in _tried(programs["dynamic"], here, *names, ".", "..", "/")]
    seen = {one[2] for one in found if one[1] in names}
    assert seen == {"ok", "ENOTDIR", "ENODATA", "EINVAL"} - ({"ENODATA"} - seen)
    above = {(call, error) for call, name, error in found if name not in names}
    assert {("stat", "ok"), ("chdir", "ok"), ("open", "EACCES"), ("openat2", "EACCES")} <= above
    missing = {error for _, _, error in _tried(programs["dynamic"], here, "in/none", "in/none/none", "@none")}
    assert missing == {"ENOENT"}


def test_a_directory_that_only_leads_there_is_not_listed(here: Path) -> None:
    listed = quire([need("ls"), "."], "--sandbox", "--allow-read", "in", "--report", "none", cwd=here)
    assert listed.status == 2 and b"out" not in listed.stdout
    listed = quire(
        [need("ls"), "in/deep/.."], "--sandbox", "--allow-read", "in", "--report", "none", cwd=here
    )
    assert listed.stdout.split() == [b"deep", b"file", b"out", b"to-missing", b"to-secret"]


def test_a_script_starts_with_its_interpreter_alone(here: Path) -> None:
    script = here / "out" / "script"
    script.write_text(
        f"#!{os.path.realpath(need('sh'))}\necho started\nread line <in/file\nread line <out/secret\n"
    )
    script.chmod(0o755)
    done = quire([script], "--sandbox", "--allow-read", "in", "--report", "none", cwd=here)
    assert done.stdout == b"started\n"
    assert b"out/secret" in done.stderr and b"in/file" not in done.stderr and done.status != 0
