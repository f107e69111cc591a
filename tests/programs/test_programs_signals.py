"""Signals of a guest that come from outside, from its group and from a terminal: as natively, and none ends Quire."""

import os
import pty
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from limits import PATIENCE
from native import QUIRE, environment, execute, python, quire
from test_programs_c_probes import Build, build

__all__ = ["build"]

pytestmark = pytest.mark.programs

CAUGHT = [n for n in range(1, 65) if n not in (signal.SIGKILL, signal.SIGSTOP, 32, 33)]
STARTS = ([QUIRE, "run", "--report", "none", "--"], [])


def _each(argv: Sequence[str]) -> list[bytes]:
    """Send each signal, two real-time ones with values, when what came before was seen; return what was seen."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline()]
        for number in CAUGHT:
            os.kill(process.pid, number)
            seen.append(process.stdout.readline())
        process.kill()
    return seen


def test_each_signal_from_outside(build: Build) -> None:
    probe = str(build("everysignal", "dynamic"))
    guest, native = (_each([*start, probe]) for start in STARTS)
    assert guest == native and len(guest) == len(CAUGHT) + 1


def test_each_signal_from_the_group_and_from_itself(build: Build) -> None:
    probe = build("everysignal", "dynamic")
    setsid = ["setsid", "-w"]
    native = execute([*setsid, probe, "group"])
    assert native.stdout.count(b"\n") == 2 * len(CAUGHT)
    assert execute([*setsid, QUIRE, "run", "--report", "none", "--", probe, "group"]) == native


def test_a_signal_that_was_ignored_or_blocked_is_so_for_the_guest() -> None:
    def start() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    code = "import signal as s; print(s.getsignal(1), s.getsignal(2), s.pthread_sigmask(s.SIG_BLOCK, ()))"
    native, guest = (
        subprocess.run(
            [*words, python(), "-ISc", code],
            stdout=subprocess.PIPE,
            preexec_fn=start,
            timeout=PATIENCE,
            check=True,
        ).stdout
        for words in ([], STARTS[0])
    )
    assert guest == native and native.startswith(b"1 ") and b"SIGUSR1" in native


def _under_job_control(argv: Sequence[str]) -> bytes:
    """Do what a shell does: run a job in front, stop it with Ctrl-Z, bring it back, end it with Ctrl-C."""
    child, terminal = pty.fork()
    if child == 0:
        _shell(argv)
    screen, typed = b"", 0
    for word, key in ((b"ready", b"\x1a"), (b"continued", b"\x03")):
        while word not in screen[typed:]:
            screen += os.read(terminal, 1000)
        typed = len(screen)
        os.write(terminal, key)
    while b"ended" not in screen:
        screen += os.read(terminal, 1000)
    os.waitpid(child, 0)
    os.close(terminal)
    return screen


def _shell(argv: Sequence[str]) -> None:
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    ready, go = os.pipe()
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.close(go)
        os.read(ready, 1)
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execvp(argv[0], argv)
    os.setpgid(job, job)
    os.tcsetpgrp(0, job)
    os.close(go)
    _, status = os.waitpid(job, os.WUNTRACED)
    os.write(1, f"stopped by {os.WSTOPSIG(status) if os.WIFSTOPPED(status) else status}\n".encode())
    os.tcsetpgrp(0, os.getpgrp())
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
    os.write(1, b"continued\n")
    _, status = os.waitpid(job, 0)
    ended = os.waitstatus_to_exitcode(status)
    os.write(1, f"ended with {128 - ended if ended < 0 else ended}\n".encode())
    os._exit(0)


def test_a_terminal_stops_continues_and_interrupts(tmp_path: Path) -> None:
    loop = tmp_path / "loop.c"
    loop.write_text('#include <unistd.h>\nint main(void) { write(1, "ready\\n", 6); for (;;) pause(); }\n')
    subprocess.run(["gcc", "-w", loop, "-o", tmp_path / "loop"], check=True, timeout=PATIENCE)
    guest, native = (_under_job_control([*start, str(tmp_path / "loop")]) for start in STARTS)
    died = b"quire run: guest killed by SIGINT: sent by the kernel\r\n"
    assert guest.replace(died, b"") == native
    assert b"stopped by 20" in native and b"ended with 130" in native


def test_what_ends_a_guest_is_in_its_report(tmp_path: Path) -> None:
    """Any signal: the ones that a terminal or a system sends, and the ones that nobody expects."""
    for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGALRM, signal.SIGXCPU, signal.SIGSYS, 34, 64):
        report = tmp_path / f"{number}.json"
        words = ["sh", "-c", f"kill -{int(number)} $$; sleep 1000"]
        outcome = quire(words, "--report", "json", "-o", str(report))
        assert outcome.status == 128 + number
        name = signal.Signals(number).name if number < 32 else {34: "SIGRTMIN+0", 64: "SIGRTMIN+30"}[number]
        assert f'"signal": "{name}"' in report.read_text()
