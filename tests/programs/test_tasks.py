"""Programs as people run them: threads, fork, exec, pipelines; what a guest says is what the program says natively."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE
from native import environment

HERE = Path(__file__).parent
#: Mmu and number of vCPUs.
HARDWARE = (("native", 1), ("ept", 4), ("shadow", 1), ("native", 4), ("ept", 1), ("shadow", 4))

SCRIPTS = {
    "pipeline": "ls / | sort -r | head -3 | tr a-z A-Z",
    "substitution": 'x=$(seq 1 5 | tac); echo "$x"; echo $(echo inner $(echo nested))',
    "here-document": "cat <<EOF\nhere $((1 + 2))\nEOF",
    "background": "(sleep 1; echo late) & (sleep 0.5; echo soon) & wait; echo done",
    "status": "(exit 3); echo $?; false || echo or; sh -c 'kill -TERM $$'; echo $?",
    "trap": "trap 'echo term' TERM; trap 'echo bye' EXIT; kill -TERM $$; echo on",
    "fifo": "mkfifo f; cat f & echo through > f; wait; rm f",
    "end-of-file": "yes | head -2; seq 100000 | wc -l",
    "find": "touch a b c; find . -name '[abc]' -exec echo {} + | tr ' ' '\\n' | sort; ls | xargs -P2 -n1 echo | sort",
    "processes": "sleep 100 & ps -o comm= -p $! -p $$; kill %1; wait 2>/dev/null; cat /proc/self/comm /proc/$$/comm",
    "interpreter": "printf '#!/bin/sh\\necho $0 $1\\n' > s; chmod +x s; ./s one; exec ./s two",
    "stop": "exec 2>&-; set -m; sleep 100 & kill -STOP $!; sleep 0.1; jobs | cut -c1-13; disown; kill -9 $!; echo on",
}
PYTHONS = {
    "subprocess": "import subprocess as s; print(s.run(['echo', 'hi'], capture_output=True), s.getoutput('exit 3'))",
    "profiling": """
import signal, time
signal.signal(signal.SIGPROF, lambda *_: print("no time for that"))
signal.setitimer(signal.ITIMER_PROF, 0.5)
time.sleep(0.6)
print(signal.getitimer(signal.ITIMER_PROF)[0] > 0)""",
    "threading": """
import threading
lock, total = threading.Lock(), [0]
def add():
    for _ in range(200):
        with lock:
            total[0] += 1
threads = [threading.Thread(target=add) for _ in range(10)]
[one.start() for one in threads]; [one.join() for one in threads]
print(total)""",
    "queue": """
import queue, threading
q, r = queue.Queue(), queue.Queue()
def work():
    while (n := q.get()) is not None:
        r.put(n * n)
t = threading.Thread(target=work); t.start()
[q.put(n) for n in range(5)]; q.put(None); t.join()
print([r.get() for _ in range(5)])""",
    "fork": """
import os
r, w = os.pipe()
if not os.fork():
    os.write(w, b'child'); os._exit(5)
pid, status = os.wait()
print(os.read(r, 9), os.waitstatus_to_exitcode(status))""",
    "multiprocessing": """
import multiprocessing as m
def f(x): return x * x
if __name__ == '__main__':
    with m.Pool(2) as pool: print(pool.map(f, range(6)))""",
    "sockets": """
import socket, threading
s = socket.create_server(('127.0.0.1', 0))
def serve():
    c, _ = s.accept()
    c.sendall(c.recv(100).upper()); c.close()
t = threading.Thread(target=serve); t.start()
c = socket.create_connection(s.getsockname()); c.sendall(b'x' * 50); print(len(c.recv(100))); t.join()""",
    "signals": """
import os, signal, time
signal.signal(signal.SIGCHLD, lambda *a: print('child'))
pid = os.fork()
if not pid: os._exit(0)
time.sleep(0.1); print(os.waitpid(pid, 0)[1])""",
}
#: Programs in C, in a file each beside this one.
C_PROGRAMS = ("pthreads", "forks", "futexes", "litmus", "stops", "edges", "events", "ipc", "queues", "rights", "net")
C_PROGRAMS += ("owners", "rseq", "clocks", "names", "notify", "tables", "busy")


def _both(command: list[str], folder: Path, hardware: tuple[str, int]) -> None:
    """Run a command natively and as a guest, in a folder each, and compare what came out."""
    options = ["--mmu", hardware[0], "--vcpus", str(hardware[1]), "--report", "none"]
    quire = [sys.executable, "-P", "-m", "quire", "run", *options, "--", *command]
    found = []
    for name, words in (("native", command), ("guest", quire)):
        place = folder / name
        place.mkdir()
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=place,
            env=environment() | {"LC_ALL": "C"},
            timeout=PATIENCE,
            check=False,
        )
        found.append((done.returncode, done.stdout, done.stderr))
    assert found[1] == found[0]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name: str, tmp_path: Path) -> None:
    number = list(SCRIPTS).index(name)
    shell = shutil.which("bash" if number % 2 else "dash") or "/bin/sh"
    _both([shell, "-c", SCRIPTS[name]], tmp_path, HARDWARE[number % len(HARDWARE)])


@pytest.mark.parametrize("name", PYTHONS)
def test_python(name: str, tmp_path: Path) -> None:
    number = list(PYTHONS).index(name)
    _both([os.path.realpath(sys.executable), "-S", "-c", PYTHONS[name]], tmp_path, HARDWARE[number % len(HARDWARE)])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the compiled programs."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    folder = tmp_path_factory.mktemp("tasks")
    for name in (*C_PROGRAMS, "greedy"):
        words = [gcc, "-O1", "-pthread", "-w", HERE / "probes" / f"tasks_{name}.c", "-o", folder / name, "-lrt"]
        subprocess.run(words, check=True, timeout=PATIENCE)
    return folder


@pytest.mark.parametrize("number", range(len(HARDWARE) // 2))
@pytest.mark.parametrize("name", C_PROGRAMS)
def test_c_programs(name: str, number: int, programs: Path, tmp_path: Path) -> None:
    """Each on every other hardware, all of which has every other program."""
    _both([str(programs / name)], tmp_path, HARDWARE[2 * number + C_PROGRAMS.index(name) % 2])


def test_a_sandbox_lets_processes_part(programs: Path, tmp_path: Path) -> None:
    """Its walls let Quire's threads have what unshare gives them. They do not make the folder that the program does."""
    (tmp_path / "here").mkdir()
    outputs = []
    for words in ([], [sys.executable, "-P", "-m", "quire", "run", "--sandbox", "--report", "none", "--"]):
        done = subprocess.run(
            [*words, programs / "tables"],
            capture_output=True,
            cwd=tmp_path,
            env=environment(),
            timeout=PATIENCE,
            check=True,
        )
        outputs.append((done.stdout, done.stderr))
    assert outputs[1] == outputs[0]


def test_the_same_seed_gives_the_same_order_and_another_another(programs: Path) -> None:
    """Who prints first among threads that nobody orders is the seed's to say."""
    outputs = []
    for seed in (1, 1, 2, 3):
        words = [sys.executable, "-P", "-m", "quire", "run", "--seed", str(seed), "--report", "none", "--"]
        done = subprocess.run(
            [*words, programs / "pthreads", "race"],
            capture_output=True,
            env=environment(),
            timeout=PATIENCE,
            check=True,
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1] and len(set(outputs)) > 1


def test_processes_are_numbered_from_what_the_seed_says() -> None:
    """So that two runs at a time with names such as /tmp/x.$$ need not meet."""
    numbers = []
    for seed in (0, 1, 1, 2):
        words = [sys.executable, "-P", "-m", "quire", "run", "--seed", str(seed), "--report", "none", "--"]
        done = subprocess.run(
            [*words, "sh", "-c", "echo $$ $(exec sh -c 'echo $$')"],
            capture_output=True,
            env=environment(),
            timeout=PATIENCE,
            check=True,
        )
        numbers.append([int(word) for word in done.stdout.split()])
    assert numbers[0] == [100, 101] and numbers[1] == numbers[2]
    assert len({first for first, _ in numbers}) == 3
    assert all(second == first + 1 for first, second in numbers)


@pytest.mark.parametrize("hardware", [("native", 1), ("ept", 4)], ids=str)
def test_a_child_that_takes_all_memory_ends_alone(hardware: tuple[str, int], programs: Path) -> None:
    """What its end needs of memory was there before."""
    options = ["--mmu", hardware[0], "--vcpus", str(hardware[1]), "--memory", "24M", "--report", "none"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "quire", "run", *options, "--", programs / "greedy"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "killed by 9\n" * 3, "")


def test_a_limit_of_processor_time_ends_a_loop(tmp_path: Path) -> None:
    _both(["sh", "-c", "(ulimit -t 1; while :; do :; done) 2>&-; echo $?"], tmp_path, HARDWARE[0])


APART = """
import os, sys, threading
timer = f"{sys.executable} -S -c 'import ctypes; ctypes.CDLL(None).timerfd_create(1, 0)'"
from quire.guest.run_spec import RunSpec
from quire.guest.session import open_session
def state():
    here = os.listdir("/proc/self/fd")
    return os.sched_getaffinity(0), threading.active_count(), sorted(here), os.getcwd(), os.umask(18)
before = state()
for script, end in (("cd /; umask 77; true | true", None), ("(sleep 3) & true | true; true", "40sys"), (timer, None)):
    session = open_session(RunSpec(("sh", "-c", script), end=end), dict(os.environb))
    assert session.run() == 0
    assert state() == before, (before, state())
"""


def test_a_session_leaves_no_thread_no_descriptor_and_runs_where_it_did() -> None:
    """Also when the run is ended in the midst of other processes."""
    words = [sys.executable, "-P", "-c", APART]
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment(), timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_crash_is_told_of_the_process_that_crashed(tmp_path: Path) -> None:
    """Though another runs on, whose memory and registers are other ones."""
    script = "(sleep 1; echo late) & kill -SEGV $$"
    quire = [sys.executable, "-P", "-m", "quire", "run", "--report", "json", "-o", "report"]
    words = [*quire, "--", "bash", "-c", script]
    done = subprocess.run(
        words, capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=PATIENCE, check=False
    )
    assert done.returncode == 139 and done.stdout == "late\n"
    assert done.stderr.startswith("quire run: guest killed by SIGSEGV: sent by a process\n")
    tasks = json.loads((tmp_path / "report").read_text())["tasks"]
    rows = [(one["pid"], one["parent"], one["signal"], one["status"]) for one in tasks["processes"]]
    assert rows == [(100, 1, "SIGSEGV", None), (101, 1, None, 0), (102, 101, None, 0)]
    assert tasks["deterministic"] and tasks["switches"] > 2 and not tasks["left_out"]
