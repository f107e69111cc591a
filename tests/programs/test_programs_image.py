"""``quire run --save-image``: what a guest had in memory when it ended, for ``quire walk`` and ``quire lint``."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE
from native import MMUS, QUIRE, environment, execute, loaded_quire, need, python, quire

from quire.paging import Context
from quire.state.images import open_image

pytestmark = pytest.mark.programs

_WORDS = "the guest wrote this into its memory"
_DIES = f"""
import ctypes
words = ctypes.create_string_buffer({_WORDS!r}.encode())
print(hex(ctypes.addressof(words)), flush=True)
ctypes.string_at(0x123456789000)
"""


def explain(folder: Path, *argv: str) -> dict[str, Any]:
    done = execute([*loaded_quire(), "walk", "--json", *argv], cwd=folder)
    assert done.stderr == b"", done.stderr
    walk = json.loads(done.stdout)["walk"]
    assert done.status == int(walk["result"] is None)
    return walk  # type: ignore[no-any-return]


@pytest.mark.parametrize("mmu", MMUS)
def test_image_of_a_guest_that_died(mmu: str, tmp_path: Path) -> None:
    """Registers, the fault and the program's own data are in it; under ept addresses are guest-physical."""
    outcome = quire(
        [python(), "-c", _DIES], "--mmu", mmu, "--report", "none", "--save-image", "dead.core", cwd=tmp_path
    )
    assert outcome.status == 128 + signal.SIGSEGV
    image = open_image(str(tmp_path / "dead.core"))
    state = image.processors[0]
    rip = re.search(r"at rip (0x\w+)", outcome.stderr.decode())
    assert rip is not None and state.registers["rip"] == int(rip[1], 16)
    assert state.registers["cr2"] >> 12 == 0x123456789
    assert (image.settings[Context.USER], image.settings[Context.WP]) == (1, 1)

    walk = explain(tmp_path, "--image", "dead.core", "0x123456789000")
    assert walk["fault"]["words"] == "user read: page not present"
    address = int(outcome.stdout, 16)
    result = explain(tmp_path, "--image", "dead.core", "--access", "write", hex(address))["result"]
    found = image.memory.read(int(result["hpa"], 16), len(_WORDS))
    assert found is not None and bytes(found) == _WORDS.encode()
    last = outcome.stderr.decode().splitlines()[-1].strip()
    assert last.startswith("-> #PF at the ") and last.endswith(
        "user read: page not present; CR2 = 0x123456789000"
    )


@pytest.mark.parametrize("options", [(), ("--guest-page", "2M", "--host-page", "2M"), ("--host-page", "1G")])
def test_tables_of_a_guest_are_sound(options: tuple[str, ...], tmp_path: Path) -> None:
    outcome = quire([need("true")], "--report", "none", *options, "--save-image", "true.core", cwd=tmp_path)
    assert outcome.status == 0
    assert (tmp_path / "true.core").stat().st_blocks * 512 < 32 << 20
    done = execute([*loaded_quire(), "lint", "--image", "true.core", "--json"], cwd=tmp_path)
    record = json.loads(done.stdout)
    assert record["totals"]["error"] == record["totals"]["warning"] == 0, record
    assert done.status == 0


def test_image_of_a_guest_that_is_stopped(tmp_path: Path) -> None:
    """From outside, in the middle of its work."""
    argv = [QUIRE, "run", "--report", "none", "--save-image", "loop.core", "--", need("sh"), "-c",
            "echo on; while :; do :; done"]  # fmt: skip
    with subprocess.Popen(
        argv, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == b"on\n"
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=PATIENCE)
    assert run.returncode == 128 + signal.SIGTERM
    state = open_image(str(tmp_path / "loop.core")).processors[0]
    walk = explain(tmp_path, "--image", "loop.core", "--access", "fetch", hex(state.registers["rip"]))
    assert "X" in walk["result"]["rights"]


def test_image_that_cannot_be_written(tmp_path: Path) -> None:
    """Said before the guest runs, or, of a disk that is full, after it; the guest's status stays."""
    outcome = quire([need("touch"), "ran"], "--save-image", "no/such/file", cwd=tmp_path)
    said = "cannot write the image to 'no/such/file': No such file or directory; choose another --save-image FILE"
    assert outcome.stderr.decode() == f"quire run: {said}\n"
    assert outcome.status == 125 and not (tmp_path / "ran").exists()
    outcome = quire([need("sh"), "-c", "exit 7"], "--report", "none", "--save-image", "/dev/full")
    assert outcome.status == 7
    assert re.search(r"^quire run: the image could not be written: \w", outcome.stderr.decode(), re.MULTILINE)


def test_descriptor_is_not_the_guests(tmp_path: Path) -> None:
    script = "for n in 3 4 5 6 7 8 9; do [ -e /proc/self/fd/$n ] && echo $n; done; true"
    with_image = quire([need("sh"), "-c", script], "--report", "none", "--save-image", "a.core", cwd=tmp_path)
    without = quire([need("sh"), "-c", script], "--report", "none", cwd=tmp_path)
    assert with_image.stdout == without.stdout
    assert os.path.getsize(tmp_path / "a.core") > 0
