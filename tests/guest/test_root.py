"""Names under --root: what chroot would find there, and the host's file where it finds nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quire.guest.load.root import under_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc/deep").mkdir(parents=True)
    (root / "etc/name").write_text("inside")
    for link, target in (
        ("absolute", "/etc/name"),
        ("relative", "etc/name"),
        ("folder", "/etc/deep/.."),
        ("above", "../../../etc/name"),
        ("loop", "/loop"),
        ("broken", "/nothing"),
    ):
        (root / link).symlink_to(target)
    return root


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("/etc/name", "etc/name"),
        ("//etc/./name", "etc/name"),
        ("/../../etc/deep/../name", "etc/name"),
        ("/absolute", "etc/name"),
        ("/relative", "etc/name"),
        ("/folder/name", "etc/name"),
        ("/above", "etc/name"),
        ("/etc", "etc"),
    ],
)
def test_what_is_there_is_found(root: Path, name: str, found: str) -> None:
    assert under_root(f"{root}/", name) == under_root(str(root), name) == f"{root}/{found}"


@pytest.mark.parametrize(
    "name", ["/", "/nothing", "/loop", "/broken", "/etc/name/more", "etc/name", "/a\0b", ""]
)
def test_the_host_has_what_is_not_there(root: Path, name: str) -> None:
    assert under_root(str(root), name) == name


@pytest.mark.parametrize("link", ["absolute", "loop", "broken"])
def test_a_call_that_is_about_a_link_gets_the_link(root: Path, link: str) -> None:
    assert under_root(str(root), f"/{link}", follow=False) == f"{root}/{link}"
    assert os.path.islink(under_root(str(root), f"/folder/../{link}", follow=False))


def test_without_a_root_every_name_is_the_hosts() -> None:
    assert under_root("", "/etc/passwd") == "/etc/passwd"
