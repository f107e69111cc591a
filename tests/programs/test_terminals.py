"""Terminals as people use them: job control of shells, keys, modes, ptys; what they see is what they see natively."""

import fcntl
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from limits import PATIENCE
from native import QUIRE, environment, need, python
from typist import STARTS, Typist, converse, until

from quire.guest.syscalls import SYSCALLS

pytestmark = pytest.mark.programs

HERE = Path(__file__).parent
MMUS = ("native", "ept", "shadow")
PROMPT = "@ "
CTRL_C, CTRL_D, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x04", "\x1a", "\x1c"
#: Until the last process in the background has stopped, which a shell says at its next prompt.
STOPPED = "until grep -q stopped /proc/$!/status; do :; done\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the compiled programs."""
    gcc = need("gcc")
    made = tmp_path_factory.mktemp("terminals")
    for name in ("job", "terminals"):
        words = [gcc, "-O1", "-w", HERE / "probes" / f"{name}.c", "-o", made / name]
        subprocess.run(words, check=True, timeout=PATIENCE)
    return made


def _shell() -> list[str]:
    return [need("bash"), "--norc", "-i"]


def test_a_shell_stops_continues_and_interrupts_its_jobs(folder: Path) -> None:
    job = f"{folder}/job"
    steps = [
        (PROMPT, "sh -c 'echo rea\"\"dy; exec sleep 1000'\n"),
        ("ready", CTRL_Z),
        (PROMPT, "echo status $?; dead=$(jobs -p); disown 2>&-; kill -9 $dead\n"),
        (PROMPT, f"{job}\n"),
        ("in front", CTRL_Z),
        (PROMPT, "echo status $?; jobs\n"),
        (PROMPT, "bg\n"),
        (PROMPT, "jobs\n"),
        (PROMPT, "fg\n"),
        ("in front", CTRL_Z),
        (PROMPT, "fg\n"),
        ("in front", CTRL_C),
        (PROMPT, "echo status $?; jobs; exit 3\n"),
    ]
    native, guest = converse(_shell(), steps)
    assert guest == native
    assert native.text.count("status 148") == 2 and "status 130" in native.text and native.status == 3
    assert native.text.count("Stopped") > 3 and "job control" not in native.text


def test_a_key_ends_a_pipeline_and_not_its_shell(folder: Path) -> None:
    line = f"{folder}/job | cat | cat\n"
    steps = [
        (PROMPT, "ulimit -c 0\n"),
        (PROMPT, line),
        ("in front", CTRL_C),
        (PROMPT, "echo status $? ${PIPESTATUS[*]}\n"),
        (PROMPT, line),
        ("in front", CTRL_Z),
        (PROMPT, "echo status $? ${PIPESTATUS[*]}; fg\n"),
        ("in front", CTRL_BACKSLASH),
        (PROMPT, "echo status $? ${PIPESTATUS[*]}\n"),
        (PROMPT, "exit 0\n"),
    ]
    native, guest = converse(_shell(), steps)
    assert guest == native
    for status in ("130 130 130 130", "148", "131"):
        assert f"status {status}" in native.text


def test_who_reads_or_changes_modes_in_the_background_stops() -> None:
    steps = [
        (PROMPT, f"cat & {STOPPED}"),
        (PROMPT, "jobs\n"),
        (PROMPT, "fg\n"),
        ("fg\r\ncat\r\n", "hello\n"),
        ("hello\r\nhello\r\n", CTRL_D),
        (PROMPT, f"stty -echo & {STOPPED}"),
        (PROMPT, "jobs; disown 2>&-; kill -9 $!; stty tostop\n"),
        (PROMPT, f"echo written & {STOPPED}"),
        (PROMPT, "stty -tostop; fg\n"),
        (PROMPT, "echo no\"\"w; read x < /dev/tty; echo \"<$x>\"; exit\n"),
        ("now", "line\n"),
    ]
    native, guest = converse(_shell(), steps)
    assert guest == native
    assert "Stopped" in native.text and "<line>" in native.text and "\r\nwritten" in native.text


def test_modes_that_a_guest_leaves_behind_are_put_back() -> None:
    steps = [(PROMPT, "exec 9</dev/tty; stty -echo <&9; exit 4\n")]
    native, guest = converse([need("bash"), "--norc", "--noediting", "-i"], steps)
    assert (guest.text, guest.status) == (native.text, native.status)
    assert (native.echoes, guest.echoes) == (False, True)


def test_modes_that_a_guest_sets_by_the_name_of_its_terminal_are_put_back_when_it_is_killed() -> None:
    script = "stty -echo < /dev/tty; kill -9 $$"
    words = [QUIRE, "run", "--report", "none", "--", "sh", "-c", script]
    line = shlex.join(words)
    with Typist(["sh", "-c", f"{line} < /dev/null > /dev/null 2>&1; echo $?; sleep 0"]) as typist:
        shown = typist.end()
    assert shown.text.endswith("137\r\n") and shown.echoes


_WATCHER = """
import os, signal
waited = {signal.SIGWINCH, signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, waited)
print('ready', flush=True)
while signal.sigwait(waited) == signal.SIGWINCH:
    print(os.get_terminal_size(), flush=True)
"""


def test_a_new_size_reaches_what_is_in_front() -> None:
    shown = []
    for start in STARTS:
        with Typist([*start, python(), "-ISc", _WATCHER]) as typist:
            typist.wait("ready")
            fcntl.ioctl(typist.descriptor, termios.TIOCSWINSZ, struct.pack("<4H", 33, 99, 0, 0))
            typist.wait("lines=33")
            typist.type(CTRL_C)
            shown.append(typist.end())
    assert shown[0] == shown[1] and "columns=99" in shown[0].text


_LEADER = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTTOU})
leads = os.fork()
if not leads:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    print('ready', flush=True)
signal.sigwait({signal.SIGHUP})
with open(sys.argv[2 if leads else 1], 'w') as file: file.write('SIGHUP\\n')
os._exit(6)
"""


def test_the_leader_and_then_what_is_in_front_hear_of_a_hang_up(tmp_path: Path) -> None:
    """The leader of the session gets SIGHUP when its terminal goes, and when it ends the group in front does."""
    for number, start in enumerate(STARTS):
        heard = [tmp_path / f"{name} {number}" for name in ("front", "leader")]
        with Typist([*start, python(), "-ISc", _LEADER, *heard]) as typist:
            typist.wait("ready")
            typist.hang_up()
            assert [until(path) for path in heard] == ["SIGHUP\n"] * 2
            assert typist.status() == 6


_PTYS = r"""
import os, pty
number, master = pty.fork()
if not number:
    os.environ['PS1'] = '% '
    os.execvp('bash', ['bash', '--norc', '--noediting', '-i'])
shown = b''
def wait(text):
    global shown
    while text not in shown:
        shown += os.read(master, 1000)
    before, _, shown = shown.partition(text)
    print((before + text).decode(), flush=True)
def say(keys, text):
    os.write(master, keys); wait(text)
wait(b'% ')
say(b'JOB\n', b'in front')
say(b'\x1a', b'% ')
say(b'echo $?; jobs; fg\n', b'in front')
say(b'\x03', b'% ')
say(b'echo $?; ps -o tty=,stat=,comm= | sed s/pts.[0-9]*/pts/; tty > /dev/null; echo $?\n', b'% ')
say(b'JOB | cat\n', b'in front')
say(b'\x1c', b'% ')
say(b'echo own > /dev/tty; exit 7\n', b'exit')
print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
"""


@pytest.mark.parametrize("there", [True, False])
def test_a_guest_makes_a_terminal_for_a_shell_of_its_own(folder: Path, there: bool) -> None:
    """With a terminal of its own and without."""
    words = [python(), "-ISc", _PTYS.replace("JOB", f"{folder}/job")]
    if there:
        native, guest = converse(words, [])
        assert guest == native and "148" in native.text and "130" in native.text and native.status == 0
        return
    outputs = [
        subprocess.run(
            [*start, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=PATIENCE,
            start_new_session=True,
            check=True,
        )
        for start in STARTS
    ]
    assert outputs[0].stdout == outputs[1].stdout and outputs[0].stdout.endswith(b"\n7\n")


def test_a_shell_runs_in_a_terminal_that_python_made() -> None:
    words = [python(), "-ISc", "import pty; print(pty.spawn(['bash', '--norc', '-i']))"]
    _in_a_terminal_within(words)


@pytest.mark.skipif(SYSCALLS[289].run is None, reason="script asks for signalfd4, which Quire lacks")
def test_script_records_a_shell(tmp_path: Path) -> None:
    _in_a_terminal_within([need("script"), "-q", "-c", "bash --norc -i", str(tmp_path / "typescript")])


def _in_a_terminal_within(words: list[str]) -> None:
    """Use job control of a shell in a terminal that a program makes, and that is shown on this one."""
    steps = [
        (PROMPT, "sh -c 'echo rea\"\"dy; exec cat'\n"),
        ("ready", CTRL_Z),
        (PROMPT, "jobs; echo status $?\n"),
        (PROMPT, "fg\n"),
        ("fg\r\nsh -c", "hello\n"),
        ("hello\r\nhello\r\n", CTRL_C),
        (PROMPT, "echo status $?; exit 3\n"),
    ]
    native, guest = converse(words, steps)
    assert guest == native
    assert "Stopped" in native.text and "status 130" in native.text


@pytest.mark.parametrize("mmu", MMUS)
def test_requests_answer_as_natively(folder: Path, mmu: str) -> None:
    probe = str(folder / "terminals")
    shown = []
    for start in ((), (QUIRE, "run", "--mmu", mmu, "--report", "none", "--")):
        with Typist([*start, probe]) as typist:
            shown.append(typist.end())
    native, guest = shown
    assert guest.text.splitlines() == native.text.splitlines()
    assert guest.status == native.status == 0 and "-- the end" in native.text


@pytest.mark.skipif(shutil.which("bash") is None, reason="this machine has no bash")
def test_a_shell_of_the_user_stops_and_continues_a_guest_as_a_whole(folder: Path) -> None:
    """Pipelines of a guest in one group: Quire stops with them, and all go on; in the background a guest stops."""
    job = f"{folder}/job"
    for quire in ("", f"{sys.executable} -P -m quire run --report none -- "):
        with Typist(_shell()) as typist:
            for text, keys in (
                (PROMPT, f"{quire}sh -c '{job} | cat; exit 5'\n"),
                ("in front", CTRL_Z),
                ("Stopped", "fg\n"),
                ("in front", CTRL_C),
                (PROMPT, "echo status=$?\n"),
                ("status=130", f"{quire}cat & {STOPPED}"),
                ("Stopped", "fg\n"),
                ("fg\r\n", ""),
                ("cat\r\n", "hello\n"),
                ("hello\r\nhello\r\n", CTRL_D),
                (PROMPT, "exit 2\n"),
            ):
                typist.wait(text)
                typist.type(keys)
            assert typist.end().status == 2


_WAITS = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
print('ready', flush=True)
print('job got', int(signal.sigwait({signal.SIGINT})), flush=True)
raise SystemExit(9)
"""


def test_keys_reach_the_group_in_front_and_not_its_shell(tmp_path: Path) -> None:
    (tmp_path / "waits").write_text(_WAITS)
    steps = [
        (PROMPT, f"trap 'echo shell' INT; {python()} -IS {tmp_path}/waits\n"),
        ("ready", CTRL_C),
        (PROMPT, "echo status $?; exit\n"),
    ]
    native, guest = converse(_shell(), steps)
    assert guest == native
    assert "job got 2\r\n" in native.text and "status 9" in native.text and "\r\nshell" not in native.text
