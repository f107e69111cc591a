"""The report of `quire validate hardware`: a row a program, and what it says of machines, counters and pages."""

import io
from typing import Any

from quire.report.hardware import render_hardware


def row(
    name: str, title: str, extra: float, errors: list[float | None], as_asked: bool = True
) -> dict[str, Any]:
    hosts = ["4K", "2M"] if len(errors) == 2 else [None]
    return {
        "name": name,
        "title": title,
        "measured": {
            "small_ns": 20.0, "large_ns": 20.0 - extra, "extra_ns": extra, "ratio": 1.25, "large_huge": 0.4,
            "as_asked": as_asked,
        },
        "predicted": [
            {"host_page": host, "extra_ns": 3.0, "ratio": 1.2, "error": error, "walks": 0.987}
            for host, error in zip(hosts, errors, strict=True)
        ],
    }  # fmt: skip


def hardware(virtual: bool) -> dict[str, Any]:
    errors: list[float | None] = [-0.5, 0.07] if virtual else [0.07]
    none: list[float | None] = [None] * len(errors)
    return {
        "processor": {"vendor": "GenuineIntel", "family": 6, "model": 0xCF, "virtual": virtual},
        "config": {
            "profile": "sapphire-rapids", "costs": "mine", "size": 64 << 20, "accesses": 2_000_000, "runs": 7,
            "cycle_ns": 0.352, "walkers": 4,
            "latencies": {"l1": 5.0, "l2": 14.4, "memory": 359.0}, "tolerance": 0.3,
        },
        "rows": [row("bfs", "breadth-first search", 2.5, errors), row("join", "hash join", 4.0, none, False)],
        "counters": None,
        "hypotheses": [{"host_page": "4K", "within": 0}, {"host_page": "2M", "within": 1}]
        if virtual
        else [{"host_page": None, "within": 1}],
        "host_page": "2M" if virtual else None,
        "within": 1,
        "enough": False,
        "graph500": {"source": "Gandhi et al., MICRO 2014", "native": 0.28, "virtual": 1.13},
    }  # fmt: skip


def shown(record: dict[str, Any]) -> str:
    file = io.StringIO()
    render_hardware(record, file)
    text = file.getvalue()
    assert all(len(line) <= 110 for line in text.splitlines())
    return text


def test_the_table() -> None:
    text = shown(hardware(True))
    assert "cycles of a reference to tables: l1 5, l2 14, memory 359; 4 walkers\n" in text
    assert text.startswith(
        "GenuineIntel family 0x6 model 0xcf; nearest profile sapphire-rapids, costs mine\n"
        "64 MiB of memory, 2_000_000 accesses, medians of 7 runs by turns; a cycle takes 0.352 ns\n"
    )
    words = " ".join(text.split())
    assert "breadth-first search 20.00 17.50 1.25 2.50 3.00 1.20 -50 % 3.00 1.20 +7 %" in words
    assert "hash join 20.00 16.00 1.25 4.00 3.00 1.20 - 3.00 1.20 -" in words
    assert "join was not given the pages it asked for (40 % in 2 MiB pages): not compared" in words
    assert "Each size is one hypothesis for all programs: 0 of them if 4K, 1 of them if 2M." in words
    assert words.endswith("1 of 2 predictions are within 30 %, if the host's pages are 2M")
    assert "takes 25 % longer with 4 KiB pages here. Published: 28 % native to 113 % in a guest" in words
    assert "counters cannot be read here" in words


def test_bare_metal_with_counters() -> None:
    counters = {name: {"small_misses": 0.99, "large_misses": 0.01} for name in ("bfs", "join")}
    words = " ".join(shown(hardware(False) | {"counters": counters, "enough": True}).split())
    assert words.endswith("1 of 2 predictions are within 30 %")
    assert "itself a guest" not in words and "cannot be read" not in words
    assert (
        "hash join: 0.990 misses of the data TLB an access with 4 KiB pages, 0.010 with 2 MiB; modelled walks with "
        "4 KiB 0.987"
    ) in words
