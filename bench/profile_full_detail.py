"""Where the time of ``quire run --detail full`` goes: ``python bench/profile_full_detail.py [PROGRAM ARGS...]``.

Samples the processor clock with perf (which must be installed and allowed) and sorts the samples into the engine's
functions, code that the engine compiled from the guest, Quire's compiled hooks, and the rest. Without a program it
profiles gzip of 4 MB of text.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from measure import QUIRE
from workloads import text

_MAPPED = re.compile(r"PERF_RECORD_MMAP2? \S+ \[(0x[0-9a-f]+)\((0x[0-9a-f]+)\).*\]: (\S{4}) (\S+)")
_SAMPLE = re.compile(r"^\s*([0-9a-f]+) (.*) \(([^()]*(?:\([^()]*\))?)\)\s*$")
_ENGINE = "libunicorn"
_SHOWN = 16


def _record(folder: Path, argv: list[str]) -> list[str]:
    """Profile one run and return perf's lines: the mappings, and an address, symbol and file a sample."""
    data = str(folder / "perf.data")
    quire = [QUIRE, "run", "--detail", "full", "--report", "none", "--", *argv]
    record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "-o", data, *quire]
    subprocess.run(record, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    script = ["perf", "script", "-i", data, "--show-mmap-events", "-F", "ip,sym,dso"]
    return subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()


def _sort(lines: list[str]) -> tuple[Counter[str], Counter[str]]:
    """Return samples by group, and by engine function. Anonymous code that is writable is the engine's."""
    jitted: list[tuple[int, int]] = []
    groups: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in lines:
        mapped = _MAPPED.search(line)
        if mapped:
            if mapped[3] == "rwxp":
                jitted.append((int(mapped[1], 16), int(mapped[2], 16)))
            continue
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        address, symbol, dso = int(sample[1], 16), sample[2], sample[3]
        if _ENGINE in dso:
            groups["the engine's functions"] += 1
            functions[symbol.split(".")[0].removesuffix("_x86_64")] += 1
        elif any(start <= address < start + size for start, size in jitted):
            groups["code compiled from the guest"] += 1
        elif "perf-" in dso or "anon" in dso or "unknown" in dso:
            groups["Quire's hooks"] += 1
        elif "kernel" in dso:
            groups["the kernel"] += 1
        else:
            groups["Python and the rest"] += 1
    return groups, functions


def main() -> None:
    """Profile and print."""
    if shutil.which("perf") is None:
        raise SystemExit("this machine has no perf: install linux-perf")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").write_bytes(text(4_000_000))
        groups, functions = _sort(_record(folder, sys.argv[1:] or ["gzip", "-c", "text"]))
    total = sum(groups.values())
    print(f"{total} samples")
    for group, count in groups.most_common():
        print(f"{count / total:7.1%}  {group}")
    print("of the engine's functions")
    for function, count in functions.most_common(_SHOWN):
        print(f"{count / total:7.1%}  {function}")


if __name__ == "__main__":
    main()
