"""Make the golden vectors of src/quire/testing/vectors by asking Bochs; README.md says how to run this."""

import argparse
import datetime
import gzip
import json
import sys
from pathlib import Path
from typing import Any

from bases import BASES
from engine_client import Engine
from entry_cases import fields_to_flip, value_cases
from ept_cases import baseline, cases_of, launch_job

from quire.arch import field_by_name

Fields = dict[str, int]
VECTORS = Path(__file__).parents[2] / "src/quire/testing/vectors"


def encoded(fields: Fields) -> list[tuple[int, int]]:
    """Return (encoding, value) of each field."""
    return [(field_by_name(name).encoding, value) for name, value in fields.items()]


def outcome(answer: dict[str, Any]) -> str:
    """Say in a word or two what came of an entry."""
    kind = answer["outcome"]
    if kind == "fail":
        return f"fail {answer['error']}"
    if kind == "exit" and answer["reason"] >> 31:
        return f"exit {answer['reason'] & 0xFFFF} {answer['qualification']}"
    # A guest that exits later has been entered; so has one that does nothing more, in HLT or shutdown. Bochs dies of
    # an address without memory.
    entered = dict.fromkeys(("exit", "hung", "idle"), "entered")
    return {**entered, "refused": "refused", "died": "lost"}[kind]


def entry_vectors(engine: Engine) -> dict[str, Any]:
    """Return every base, the outcome of each flipped bit as masks, and that of each case."""
    bases = {name: make(engine.about["host"], engine.capabilities) for name, (make, _) in BASES.items()}
    bits = []
    for name, fields in bases.items():
        flips = [(one, bit) for one in fields_to_flip(name, fields) for bit in range(one.bits)]
        cases = [{"fields": [(one.encoding, fields[one.name] ^ 1 << bit)], "words": []} for one, bit in flips]
        job = {"kind": "entry", "fields": encoded(fields), "words": BASES[name][1], "cases": cases}
        masks: dict[tuple[str, str], int] = {}
        for (one, bit), answer in zip(flips, engine.run(job), strict=True):
            key = one.name, outcome(answer)
            masks[key] = masks.get(key, 0) | 1 << bit
        bits += [[name, field, said, hex(mask)] for (field, said), mask in masks.items()]
        print(f"{name}: {len(flips)} bits", file=sys.stderr)
    return {
        "bases": {name: {"fields": fields, "words": BASES[name][1]} for name, fields in bases.items()},
        "bits": bits,
        "cases": _values(engine, bases),
    }


def _values(engine: Engine, bases: dict[str, Fields]) -> list[Any]:
    rows: list[Any] = []
    wanted = list(value_cases())
    for name, fields in bases.items():
        mine = [(change, words) for base, change, words in wanted if base == name]
        cases = [{"fields": encoded(change), "words": words} for change, words in mine]
        job = {"kind": "entry", "fields": encoded(fields), "words": BASES[name][1], "cases": cases}
        for (change, words), answer in zip(mine, engine.run(job), strict=True):
            rows.append([name, change, words, outcome(answer)])
    print(f"{len(rows)} values", file=sys.stderr)
    return rows


def ept_vectors(engine: Engine) -> dict[str, Any]:
    """Return the world that all cases share, and each case: settings, access, changed words, exit, words afterwards."""
    rows = []
    for settings, access, cases in cases_of():
        job = launch_job(engine, settings, access, [{"words": words} for words in cases])
        for words, answer in zip(cases, engine.run(job), strict=True):
            if answer["outcome"] != "exit":
                raise RuntimeError(f"{settings}, {access}, {words}: {answer}")
            rows.append([settings, access, words, answer["read"], answer["changed"]])
        print(f"{settings} {access}: {len(cases)} cases", file=sys.stderr)
    return {"world": baseline(), "rows": rows}


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bochs-python", required=True, help="a Python with bochscpu-python 0.4.0 installed")
    parser.add_argument(
        "--date", default=datetime.date.today().isoformat(), help="what the files say of when"
    )
    parser.add_argument("--only", choices=("ept", "entry"))
    arguments = parser.parse_args()
    makers = {"ept": ept_vectors, "entry": entry_vectors}
    VECTORS.mkdir(exist_ok=True)
    for name, make in makers.items():
        if arguments.only in (None, name):
            with Engine(arguments.bochs_python) as engine:
                about = {
                    "oracle": f"bochscpu-python {engine.about['version']}",
                    "cpu": engine.about["cpu"],
                    "capabilities": engine.about["capabilities"],
                    "date": arguments.date,
                    "command": f"tools/bochs_vectors/generate.py --only {name}",
                }
                made = {"about": about, **make(engine)}
            text = json.dumps(made, separators=(",", ":"))
            raw = gzip.compress(text.encode(), 9, mtime=0)
            (VECTORS / f"bochs_{name}.json.gz").write_bytes(raw)
            print(f"{name}: {len(raw)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
