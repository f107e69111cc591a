"""Code is read from no file that somebody else can have written."""

import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from limits import PATIENCE

from quire.kernels.trust import Untrusted, read_trusted


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "code"
    made.write_bytes(b"code")
    made.chmod(0o644)
    return made


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o444])
def test_ones_own_file_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read_trusted(str(file)) == b"code"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o777, 0o620])
def test_a_file_that_others_may_write_is_refused(
    file: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grp, "getgrgid", lambda _: SimpleNamespace(gr_name="staff", gr_mem=[]))
    file.chmod(mode)
    with pytest.raises(Untrusted, match=rf"may be written by others \(mode {mode:o}\): chmod go-w it"):
        read_trusted(str(file))


@pytest.mark.parametrize(
    ("name", "number", "members", "trusted"),
    [
        ("me", 7, [], True),
        ("me", 7, ["me"], True),
        ("me", 7, ["me", "you"], False),
        ("staff", 7, [], False),
        ("me", 8, [], False),
    ],
)
def test_a_group_of_ones_own_may_write(
    name: str, number: int, members: list[str], trusted: bool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As most systems have it, with 002 for the umask: only the owner is in the group of the owner's name."""
    file.chmod(0o664)
    found = os.stat(file)
    monkeypatch.setattr(
        pwd, "getpwuid", lambda _: SimpleNamespace(pw_name="me", pw_gid=found.st_gid + number - 7)
    )
    monkeypatch.setattr(grp, "getgrgid", lambda _: SimpleNamespace(gr_name=name, gr_mem=members))
    if trusted:
        assert read_trusted(str(file)) == b"code"
    else:
        with pytest.raises(Untrusted, match="may be written by others"):
            read_trusted(str(file))


def test_a_group_without_a_name_is_others(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(grp, "getgrgid", unknown)
    file.chmod(0o664)
    with pytest.raises(Untrusted, match="may be written by others"):
        read_trusted(str(file))


def test_the_file_behind_a_link_counts(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    assert read_trusted(str(link)) == b"code"
    file.chmod(0o666)
    with pytest.raises(Untrusted, match="may be written by others"):
        read_trusted(str(link))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(Untrusted, match="is no file"):
        read_trusted(str(pipe))
    with pytest.raises(FileNotFoundError):
        read_trusted(str(tmp_path / "none"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused_and_roots_is_not(file: Path) -> None:
    os.chown(file, 1234, 1234)
    with pytest.raises(Untrusted, match=r"belongs to user 1234, neither to you \(0\) nor to root"):
        read_trusted(str(file))
    os.chown(file, 0, 0)
    code = (
        "import os, sys; from quire.kernels.trust import read_trusted\n"
        "source = open(sys.argv[1], 'rb'); os.setuid(65534)\n"
        "print(read_trusted(f'/proc/self/fd/{source.fileno()}'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "b'code'\n"
