"""Packages that are extras: without one of them Quire works, and what needs it says how to install it."""

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from quire.cli import outputs
from quire.cli.outputs import Outputs
from quire.errors import EXTRAS, MissingPackageError
from quire.report.columns import compare_parquet
from quire.report.picture import picture_style

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
OPTIONS = {
    "--plot": ("a.svg", "matplotlib", "plot"),
    "--heat-map": ("a.png", "matplotlib", "plot"),
    "--html": ("a.html", "matplotlib", "plot"),
    "--parquet": ("a.parquet", "pyarrow", "parquet"),
}


def test_extras_are_those_that_can_be_installed() -> None:
    """Each extra that a message names installs the package that it names, and no user must have it."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    for package, extra in EXTRAS.items():
        assert [one.partition(">=")[0] for one in project["optional-dependencies"][extra]] == [package]
        assert not any(one.startswith(package) for one in project["dependencies"])


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_without_its_package_is_refused_before_the_work(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, package, extra = OPTIONS[option]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outputs, "find_spec", lambda name: None if name in EXTRAS else object())
    with pytest.raises(click.ClickException) as refused:
        Outputs("compare", {option: name})
    assert str(refused.value) == (
        f"compare: {option} needs the package {package!r}, which is not installed: pip install 'quire-vm[{extra}]'"
    )
    assert list(tmp_path.iterdir()) == []
    assert "--output" in Outputs("compare", {"--output": "answer.json"})


@pytest.mark.parametrize(
    ("make", "work", "package"),
    [
        (lambda: picture_style().__enter__(), "a picture", "matplotlib"),
        (lambda: compare_parquet({}), "Parquet", "pyarrow"),
    ],
)
def test_from_python_the_package_is_named(
    make: Callable[[], Any], work: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as missing:
        make()
    assert str(missing.value) == (
        f"{work} needs the package {package!r}, which is not installed: pip install 'quire-vm[{EXTRAS[package]}]'"
    )
