"""Walks a second on random addresses: one at a time and batched, beside the same walks in C, in the same run.

Targets (issue 3): at least 0.8 of C each; the batch at least 30 M 24-reference walks/s at 1 GiB and 15 M at 64 GiB.
Run: ``python -m pytest bench/test_walks.py -q`` (needs gcc, and 1.2 GiB of memory for the 64 GiB guest).
"""

import ctypes
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from measure import table
from workloads import need

from quire.arch import Access, entry_layout, ept_layout
from quire.kernels import kernel, types
from quire.paging import RESULT_WORDS, Context, Result
from quire.paging._kernels import walk_from
from quire.paging._kernels_ept import pointer
from quire.paging.batch import walk_many
from quire.study.big_tables import BigTables, big_tables

_SOURCE = Path(__file__).parent / "native" / "walk.c"
_GIB = 1 << 30
_SHAPES = ((4, False), (3, False), (3, True), (2, False), (2, True), (1, True))
_HPA = int(Result.HPA)
WORDS = types.uint64[::1]


@kernel(types.uint64(WORDS, WORDS, WORDS, types.uint64, WORDS, WORDS))
def serial(memory, context, gvas, access, values, result):  # type: ignore[no-untyped-def]
    """Walk one address after another: what a compiled caller of the kernel does."""
    words, controls, said = pointer(memory), pointer(context), pointer(result)
    failed = np.uint64(0)
    for n in range(gvas.size):
        failed |= np.uint64(walk_from(words, controls, gvas[n], access, said))
        values[n] = result[_HPA]
    return failed


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The walks in C."""
    made = tmp_path_factory.mktemp("native") / "walk.so"
    flags = ("-O3", "-march=native", "-shared", "-fPIC")
    subprocess.run([need("gcc"), *flags, "-o", made, _SOURCE], check=True)
    library = ctypes.CDLL(str(made))
    for layout_of, name in ((entry_layout, "guest"), (ept_layout, "ept")):
        masks = (ctypes.c_uint64 * 10)()
        for level, leaf in _SHAPES:
            masks[2 * level + leaf] = layout_of(level, leaf).reserved_mask
        setattr(library, name, masks)
    library.set_reserved(library.guest, library.ept)
    for function in (library.walk_serial, library.walk_batch):
        function.restype = ctypes.c_uint64
    return library


def _native(function: Callable[..., int], tables: BigTables, gvas: np.ndarray, values: np.ndarray) -> None:
    order = (Context.CR3, Context.EPTP, Context.MEMORY_BYTES, Context.RESERVED, Context.NXE, Context.WP)
    order += (Context.USER, Context.SMEP, Context.SMAP)
    fields = np.array([tables.context[field] for field in order], np.uint64)
    failed = function(
        *(ctypes.c_void_p(array.ctypes.data) for array in (tables.memory, fields, gvas)),
        *(ctypes.c_size_t(len(gvas)), ctypes.c_int(Access.READ), ctypes.c_void_p(values.ctypes.data)),
    )
    assert failed == 0


def _rates(tables: BigTables, native: ctypes.CDLL, count: int, rounds: int) -> dict[str, float]:
    """Return millions of walks a second by subject: interleaved rounds, the median of each."""
    gvas = tables.addresses(count, 1)
    results = {name: np.zeros(count, np.uint64) for name in ("quire", "C")}
    scratch = np.zeros(RESULT_WORDS, np.uint64)
    walk_many(tables.memory, tables.context, gvas[:64], Access.READ)

    def in_batch() -> None:
        results["quire"], statuses = walk_many(tables.memory, tables.context, gvas, Access.READ)
        assert not statuses.any()

    subjects: dict[str, Callable[[], object]] = {
        "one": lambda: serial(
            tables.memory, tables.context, gvas, np.uint64(Access.READ), results["quire"], scratch
        ),
        "one, C": lambda: _native(native.walk_serial, tables, gvas, results["C"]),
        "batch": in_batch,
        "batch, C": lambda: _native(native.walk_batch, tables, gvas, results["C"]),
    }
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            begin = time.perf_counter()
            subject()
            times[name].append(time.perf_counter() - begin)
            if name.endswith("C"):
                assert np.array_equal(results["quire"], results["C"])
    return {name: count / statistics.median(all_of) / 1e6 for name, all_of in times.items()}


@pytest.mark.parametrize("size", [1, 16, 64], ids=lambda size: f"{size}GiB")
def test_walks(size: int, native: ctypes.CDLL, small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    size_bytes, count = (1 << 26, 20_000) if small else (size * _GIB, 2_000_000)
    shapes = {
        "1-D 4K": (4096, 4096, False),
        "1-D 2M": (2 << 20, 4096, False),
        "4K x 4K": (4096, 4096, True),
        "4K x 2M": (4096, 2 << 20, True),
        "2M x 2M": (2 << 20, 2 << 20, True),
    }
    rates: dict[str, dict[str, float]] = {}

    def measure() -> None:
        for name, (guest, host, two) in shapes.items():
            tables = big_tables(size_bytes, guest, host, two=two)
            rates[name] = _rates(tables, native, count, rounds)

    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["million_walks_a_second"] = rates
    shown = table(
        f"Walks on random addresses over {size_bytes / _GIB:g} GiB, million a second",
        *("pages", "one", "in C", "ratio", "batch", "in C", "ratio"),
    )
    for name, rate in rates.items():
        figures = [name]
        for way in ("one", "batch"):
            ours, theirs = rate[way], rate[f"{way}, C"]
            figures += [f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}"]
        shown.add_row(*figures)
