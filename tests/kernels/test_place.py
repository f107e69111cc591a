"""Code that was made by one process and runs in another: arguments, errors, threads, and memory that is not written."""

import ctypes
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from limits import PATIENCE

from quire.kernels.image import Image
from quire.kernels.layout import strange_layout
from quire.kernels.place import PlaceError, builtin_of, place
from quire.kernels.processor import LEAST
from quire.kernels.warm import WarmError, make

WORDS = np.zeros(1, np.uint64)
Functions = dict[str, Callable[..., Any]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("images")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from quire.kernels.build import serve; serve(Path(sys.argv[2]), sys.argv[3:])"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(folder), LEAST],
        input="sample._kernels sample\n", text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    return Image.decode((folder / f"sample.{LEAST}.image").read_bytes())


@pytest.fixture(scope="module")
def functions(image: Image) -> Functions:
    return {name: builtin_of(name, address) for name, address in place(image).items()}


def test_what_only_kernels_call_has_no_code_of_its_own(functions: Functions) -> None:
    assert sorted(functions) == ["agree", "divided", "put", "scaled", "total", "wait_for_byte"]


def test_numbers_go_in_and_out(functions: Functions) -> None:
    assert functions["divided"](WORDS, -7, 2) == -4
    assert functions["divided"](WORDS, np.uint64(9), True) == 9
    assert (
        functions["agree"](WORDS, 1, 2**64 - 1) is True
        and functions["agree"](WORDS, np.bool_(False), 1) is False
    )
    words = np.zeros(3, np.uint64)
    assert functions["put"](words, 1, 2**64 - 1) is None
    assert words.tolist() == [0, 2**64 - 1, 0]
    assert functions["total"](words[1:2], np.array([3, 4], np.uint8)) == 6
    assert functions["total"](words[:0], np.empty(0, np.uint8)) == 0


def test_what_is_no_such_number_is_refused(functions: Functions) -> None:
    words = np.zeros(3, np.uint64)
    for arguments in ((words, 0, -1), (words, 0, 1 << 64), (words, 1 << 63, 0), (words, -(1 << 63) - 1, 0)):
        with pytest.raises(OverflowError):
            functions["put"](*arguments)
    for wrong in (1.0, "1", None, words):
        with pytest.raises(TypeError):
            functions["put"](words, 0, wrong)
    with pytest.raises(ValueError, match="truth value"):
        functions["agree"](WORDS, words, 1)
    assert not words.any()


@pytest.mark.parametrize(
    "array",
    [
        *(np.zeros(4, np.int64), np.zeros(4, np.float64), np.zeros(4, ">u8"), np.zeros((2, 2), np.uint64)),
        *(np.zeros(8, np.uint64)[::2], np.zeros((), np.uint64), [0, 0], memoryview(bytes(32)), None),
        np.frombuffer(bytes(32), np.uint64),
        np.frombuffer(bytearray(33), np.uint8)[1:].view(np.uint64),
    ],
    ids=["signed", "float", "big-endian", "two-dimensional", "gaps", "scalar", "list", "buffer", "none", "read-only",
         "unaligned"],
)  # fmt: skip
def test_what_is_no_such_array_is_refused(functions: Functions, array: object) -> None:
    with pytest.raises(TypeError, match="put: argument 1 is no writeable array of uint64 without gaps"):
        functions["put"](array, 0, 1)


def test_classes_of_arrays_are_arrays(functions: Functions, tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "words", np.uint64, "w+", shape=2)
    functions["put"](mapped, 1, 7)
    assert mapped.tolist() == [0, 7]


def test_the_number_of_arguments_is_fixed(functions: Functions) -> None:
    for arguments in ((), (WORDS, 1), (WORDS, 1, 2, 3)):
        with pytest.raises(TypeError, match="divided takes 3 arguments"):
            functions["divided"](*arguments)
    with pytest.raises(TypeError, match="keyword"):
        functions["divided"](WORDS, 1, by=2)


def test_a_division_by_zero_is_an_error(functions: Functions) -> None:
    with pytest.raises(ZeroDivisionError, match="divided divided by zero"):
        functions["divided"](WORDS, 1, 0)
    assert functions["divided"](WORDS, 4, 2) == 2


def test_other_threads_run_meanwhile(functions: Functions) -> None:
    words, found = np.zeros(1, np.uint64), []
    source, sink = os.pipe()
    waiting = threading.Thread(
        target=lambda: found.append(functions["wait_for_byte"](words, source, words.ctypes.data))
    )
    waiting.start()
    os.write(sink, b"\5")
    waiting.join(PATIENCE)
    assert (found, words[0]) == ([1], 5)
    os.close(source), os.close(sink)


def test_no_reference_is_kept(functions: Functions) -> None:
    words = np.zeros(1, np.uint64)
    before, of_none = sys.getrefcount(words), sys.getrefcount(None)
    for _ in range(1000):
        functions["put"](words, 0, 1)
    assert sys.getrefcount(words) == before
    assert abs(sys.getrefcount(None) - of_none) < 100


def test_a_callback_is_called_by_its_address(image: Image) -> None:
    number = ctypes.c_int64(-3)
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int32)(place(image)["scaled"])
    assert call(ctypes.addressof(number), 5) == -15


def test_code_is_in_memory_that_nobody_writes(image: Image) -> None:
    address = place(image)["put"]
    with open("/proc/self/maps", encoding="ascii") as maps:
        found = [re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line) for line in maps]
    (rights,) = (one[3] for one in found if one and int(one[1], 16) <= address < int(one[2], 16))
    assert rights == "r-xp"


def test_a_symbol_that_nobody_has_is_an_error(image: Image) -> None:
    with pytest.raises(PlaceError, match="no library has quire_none, which stored code calls"):
        place(image._replace(symbols={"quire_none": [0]}))


def test_arrays_are_laid_out_as_code_has_it() -> None:
    assert strange_layout() is None


def test_a_module_that_cannot_be_compiled_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "quire.no_kernels", ModuleType("quire.no_kernels"))
    names = {"quire.memory._kernels_buddy": "buddy", "quire.no_kernels": "none"}
    with pytest.raises(WarmError, match=r"compiling kernels failed: .*quire\.no_kernels"):
        make(names, tmp_path, (LEAST,))
