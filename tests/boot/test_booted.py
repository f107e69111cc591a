"""quire.boot: the example of docs/reference/boot.md does what it says; what cannot be is said in a line."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from limits import PATIENCE

import quire
from quire.errors import MisuseError
from quire.guest.boot.booted import GuestEnded
from quire.guest.load.launch import LaunchError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "boot.md"

pytestmark = [pytest.mark.xdist_group("boot"), pytest.mark.timeout(3 * PATIENCE)]


def test_the_example_prints_what_is_shown(kernel: Path, initrd: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8").split("<!-- boot example -->")[1]
    found = re.search(r"```python\n(.*?)```\n\n```output\n(.*?)```", text, re.DOTALL)
    assert found is not None
    names = {"KERNEL": str(kernel), "INITRD": str(initrd)}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(found[1], "boot.md", "exec"), names)
    assert said.getvalue() == found[2]


def test_a_guest_that_ends_before(kernel: Path, initrd: Path) -> None:
    with quire.boot(kernel, initrds=(initrd,), append="console=ttyS0 quiet", mmu="native") as guest:
        guest.run(0.001)
        assert 0.001 <= guest.seconds < 0.002 and not guest.ended
        with pytest.raises(GuestEnded) as error:
            guest.expect("never said", 0.01)
        assert str(error.value).startswith("The console did not show 'never said'; it ends with: ")
        with pytest.raises(MisuseError) as misuse:
            guest.break_at("start_kernel")
        assert str(misuse.value) == (
            "No symbol is called 'start_kernel': read_symbols('start_kernel') asks the kernel, or give an address"
        )


@pytest.mark.parametrize("content", [b"", b"MZ" + bytes(4096), b"\x7fEL"])
def test_what_is_no_kernel(content: bytes, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(content)
    with pytest.raises(LaunchError) as error:
        quire.boot(place)
    assert str(error.value) == (
        f"{place} is no kernel that Quire knows: give a bzImage, such as /boot/vmlinuz-VERSION, a 64-bit vmlinux, "
        "a multiboot kernel, or --flat GPA with a flat binary"
    )


def test_too_little_memory(kernel: Path) -> None:
    with pytest.raises(LaunchError) as error:
        quire.boot(kernel, memory=32 << 20)
    assert re.fullmatch(r".* needs \d+ MiB of memory to start: give --memory \d+M or more", str(error.value))


def test_too_much_memory(kernel: Path) -> None:
    with pytest.raises(MisuseError) as error:
        quire.boot(kernel, memory=4 << 30)
    assert str(error.value) == (
        "Guest memory of 4_294_967_296 bytes leaves no room for devices below 4 GiB: give at most 3072 MiB"
    )
