"""Engines by name: a toy runs a whole guest, and whoever needs what an engine lacks is refused by its name."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_elf import BASE, small_elf
from toy_engine import CountingToy, ToyCpu

from quire.cpu import Detail, Engine, engines, make_cpu, register, registry
from quire.errors import MisuseError
from quire.guest.boot.bare import BareGuest, bare_config
from quire.guest.load.launch import LaunchError
from quire.guest.point import AtAddress
from quire.guest.run_spec import RunSpec
from quire.guest.session import open_session
from quire.machine import MMUS, GuestConfig

EXITS = frozenset((Detail.EXITS,))


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_ENGINES", dict(registry._ENGINES))
    register(Engine("toy", CountingToy, EXITS))
    register(Engine("silent", ToyCpu, EXITS, frozenset(("process",))))
    yield


def program(folder: Path, text: bytes) -> str:
    """Return an ELF of one page that writes `text` and exits with 7."""
    message = BASE + 0x1000 - len(text)
    code = b"\xb8\1\0\0\0\xbf\1\0\0\0\x48\xbe" + message.to_bytes(8, "little")  # eax, edi, rsi
    code += b"\xba" + len(text).to_bytes(4, "little") + b"\x0f\x05"  # edx; syscall
    code += b"\xb8\x3c\0\0\0\xbf\7\0\0\0\x0f\x05"  # exit(7)
    return str(small_elf(folder, code, text))


@pytest.mark.parametrize("mmu", MMUS)
@pytest.mark.parametrize("engine", ["toy", "soft"])
def test_a_toy_runs_a_whole_guest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], mmu: str, engine: str
) -> None:
    spec = RunSpec((program(tmp_path, b"hello"),), GuestConfig(mmu, memory=64 << 20), engine=engine)
    session = open_session(spec, {})
    assert session.run() == 7
    assert capfd.readouterr().out == "hello"
    assert session.record["syscalls"] == {"exit": 1, "write": 1}
    assert (session.record["exits"] == {}) == (mmu == "native")


def test_the_toy_meets_what_it_does_not_know(tmp_path: Path) -> None:
    path = Path(program(tmp_path, b""))
    content = bytearray(path.read_bytes())
    content[120] = 0xF4  # hlt
    path.write_bytes(content)
    session = open_session(RunSpec((str(path),), engine="toy"), {})
    assert session.run() == 128 + 4
    assert session.death_text is not None and session.death_text.startswith("guest killed by SIGILL: #UD")


def test_names(tmp_path: Path) -> None:
    assert engines() == ("soft", "soft-hooks", "toy", "silent")
    with pytest.raises(MisuseError, match=r"^No engine is called 'sotf' \(did you mean 'soft'\?\)$"):
        make_cpu("sotf", Detail.EXITS)
    with pytest.raises(MisuseError, match=r"^An engine is called 'soft' already: give it another name$"):
        register(Engine("soft", ToyCpu))


def refused(spec: RunSpec, until: AtAddress | None = None) -> str:
    with pytest.raises(LaunchError) as error:
        open_session(spec, {}, until=lambda program: until).run()
    assert error.value.status == 125
    return str(error.value)


def test_what_an_engine_lacks_is_named(tmp_path: Path) -> None:
    command = (program(tmp_path, b""),)
    assert refused(RunSpec(command, detail=Detail.FULL, engine="toy")) == (
        "cannot set the guest up: The toy engine cannot record in full detail: ask for exits"
    )
    assert refused(RunSpec(command, engine="silent")) == (
        "cannot set the guest up: The toy engine counts no events: ask for no report of them, or another engine"
    )
    assert refused(RunSpec(command, engine="toy"), AtAddress("before main", BASE, False)) == (
        "cannot set the guest up: The toy engine cannot stop in front of an instruction: name a system call, or "
        "another engine"
    )


def test_machines_that_an_engine_does_not_run() -> None:
    with pytest.raises(
        MisuseError, match=r"^The silent engine runs no machine guests: give it a process guest"
    ):
        BareGuest(b"\xf4", engine="silent")
    with pytest.raises(
        MisuseError, match=r"^The toy engine cannot stop after a number of blocks, by which several"
    ):
        BareGuest(b"\xf4", bare_config(vcpus=2), engine="toy")
