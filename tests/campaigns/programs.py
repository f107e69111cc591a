"""Real programs, natively and as guests: what each says has to be the same, byte for byte, on each kind of hardware.

``python tests/campaigns/programs.py [--only NAME] [SEED]`` runs the scripts of program_cases.py under native, ept and
shadow with 1 and 4 vCPUs, and threaded programs ten times over, whose reports have to be the same but for their times.
It prints a line for each case and each difference, and exits with 1 if there is one. What is not installed is left out.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "programs"))
from limits import PATIENCE
from native import QUIRE, Outcome, environment, python
from program_cases import CASES, STEADY, Case
from warm import load_all

PROBES = Path(__file__).parents[1] / "programs" / "probes"
HARDWARE = tuple((mmu, vcpus) for mmu in ("native", "ept", "shadow") for vcpus in (1, 4))
#: Seconds after which a run is taken to hang.
_LIMIT = 4 * PATIENCE
_RUNS = 10
_HUNG = Outcome(-1, b"", b"it did not end\n")


def _run(words: list[str], place: Path, made: Path) -> Outcome:
    """Run a command in the folder `place`; end it with all its children if it hangs."""
    variables = {"MADE": str(made), "PROBES": str(PROBES), "PYTHON": python(), "TZ": "UTC"}
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=place,
        env=environment(variables),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate(timeout=PATIENCE)
        return Outcome(_HUNG.status, out, err + _HUNG.stderr)
    return Outcome(process.returncode, out, err)


def _in_empty(words: list[str], made: Path) -> Outcome:
    """Run a command in a folder of its own, which is called FOLDER in what it says."""
    with tempfile.TemporaryDirectory() as folder:
        ran = _run(words, Path(folder), made)
        said = (text.replace(folder.encode(), b"FOLDER") for text in (ran.stdout, ran.stderr))
        return Outcome(ran.status, *said)


def _guest(words: list[str], *options: str) -> list[str]:
    return [QUIRE, "run", "--report", "none", *options, "--", *words]


def _difference(found: Outcome, expected: Outcome) -> str:
    """Return in what two runs differ first; empty if they are the same."""
    for name in ("stdout", "stderr", "status"):
        one, other = getattr(found, name), getattr(expected, name)
        if one != other and name != "status":
            lines, wanted = one.splitlines(), other.splitlines()
            pairs = zip(lines, wanted, strict=False)
            least = min(len(lines), len(wanted))
            index = next((at for at, (left, right) in enumerate(pairs) if left != right), least)
            pair = (rows[index] if index < len(rows) else b"" for rows in (lines, wanted))
            left, right = pair
            return f"{name} line {index + 1}: {left!r}, natively {right!r}"
        if one != other:
            return f"{name} {one}, natively {other}"
    return ""


def differences(
    case: Case, seed: int, pool: ThreadPoolExecutor, hardware: Sequence[tuple[str, int]] = HARDWARE
) -> list[str]:
    """Run a case natively and on each of `hardware`; return a line for each that differs, and in what.

    What is not the same natively in a second run proves nothing, and is the case's own fault.
    """
    shell = shutil.which("bash") or "/bin/sh"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        if case.made:
            built = _run([shell, "-ec", case.made], made, made)
            assert built.status == 0, built.stderr.decode()
        words = [shell, "-c", case.script]
        expected = _in_empty(words, made)
        options = [["--mmu", mmu, "--vcpus", str(vcpus), "--seed", str(seed)] for mmu, vcpus in hardware]
        found = pool.map(lambda each: _in_empty(_guest(words, *each), made), options)
        lines = [_difference(one, expected) for one in found]
        again = _difference(_in_empty(words, made), expected)
        if again:
            lines = [f"differs natively from run to run: {again}"]
        return [f"{' '.join(each)}: {line}" for each, line in zip(options, lines, strict=False) if line]


def _steady(name: str, seed: int, pool: ThreadPoolExecutor) -> list[str]:
    """Run a program ten times under one seed; return how its outputs and reports differ."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        words = ["gcc", "-O1", "-w", "-pthread", "-fopenmp", str(PROBES / f"{name}.c"), "-o", "p", "-lrt"]
        built = _run(words, made, made)
        assert built.status == 0, built.stderr.decode()

        def once(number: int) -> tuple[Outcome, dict[str, Any]]:
            report = made / f"report-{number}"
            options = ("--vcpus", "4", "--seed", str(seed), "--report", "json", "-o", str(report))
            ran = _in_empty(_guest([str(made / "p")], *options), made)
            record = json.loads(report.read_text()) if report.exists() else {}
            return ran, {key: value for key, value in record.items() if key != "time"}

        first, *others = pool.map(once, range(_RUNS))
        lines = [_difference(ran, first[0]) for ran, _ in others]
        for _, record in others:
            parts = [key for key in first[1] if record.get(key) != first[1][key]]
            lines += [f"report {key}: {record.get(key)}, before {first[1][key]}" for key in parts]
        return list(dict.fromkeys(line for line in lines if line))


def _tell(name: str, ran: int, lines: list[str]) -> int:
    """Print the line of a case and those of its differences; return whether there are any."""
    print(f"{name:<24}{ran:>3} runs  {'differs' if lines else 'same'}", *lines, sep="\n    ", flush=True)
    return bool(lines)


def campaign(only: str, seed: int) -> int:
    """Run all cases whose name has `only` in it, print what came of them; return how many differ."""
    load_all()
    differ = 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for case in CASES:
            if only not in case.name:
                continue
            lacks = [need for need in case.needs if shutil.which(need) is None]
            if lacks:
                print(f"{case.name:<24}  0 runs  not installed: {', '.join(lacks)}")
            else:
                differ += _tell(case.name, len(HARDWARE), differences(case, seed, pool))
        for name in STEADY:
            if only in f"steady-{name}" and shutil.which("gcc"):
                differ += _tell(f"steady-{name}", _RUNS, _steady(name, seed, pool))
    return differ


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="NAME", help="cases with NAME in their name")
    parser.add_argument("seed", nargs="?", type=int, default=0)
    given = parser.parse_args()
    sys.exit(campaign(given.only, given.seed) > 0)
