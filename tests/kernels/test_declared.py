"""How kernels are declared: the one signature, nothing loaded before its use, and the function itself without JIT."""

import ast
import ctypes
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limits import PATIENCE

from quire.kernels import callback, kernel, load, types
from quire.kernels.declared import Kernel

INT = types.int64
SOURCE = Path(__file__).parents[2] / "src" / "quire"


def declared() -> tuple[Any, Any]:
    """Return two kernels, new at each call, of which the second calls the first."""

    @kernel(INT(INT, INT))
    def scaled(value, by):
        return value * by

    @kernel(INT(INT))
    def twice(value):
        return scaled(value, 2)

    return scaled, twice


def test_nothing_is_loaded_before_the_first_call() -> None:
    scaled, twice = declared()
    assert scaled.origin is None and not scaled.dispatcher.overloads
    assert scaled(21, 2) == 42 == scaled(np.uint64(42), True)
    assert len(scaled.dispatcher.overloads) == 1 and twice.origin is None and not twice.dispatcher.overloads


def test_a_caller_that_is_compiled_gets_its_callee_for_the_declared_types() -> None:
    @kernel(INT(INT))
    def callee(value):
        return value + 1

    @kernel(INT(types.boolean))
    def caller(flag):
        return callee(flag)

    assert caller(True) == 2
    assert [str(one) for one in callee.dispatcher.signatures[0]] == ["int64"]


@pytest.mark.parametrize("use", [lambda twice: twice(3), lambda twice: load(twice)(3)], ids=["call", "load"])
def test_the_signature_is_the_only_one(use: Callable[[Any], int]) -> None:
    _, twice = declared()
    assert use(twice) == 6
    assert load(twice) is twice and len(twice.dispatcher.overloads) == 1
    with pytest.raises(TypeError, match="No matching definition for argument type"):
        twice("3")


def test_a_first_call_with_other_types_is_refused_as_later_ones_are() -> None:
    _, twice = declared()
    for _ in range(2):
        with pytest.raises(TypeError):
            twice("3")
    assert twice(3) == 6


def test_threads_that_come_first_together_all_get_the_answer() -> None:
    _, twice = declared()
    start, answers = threading.Barrier(4), []

    def ask() -> None:
        start.wait(PATIENCE)
        answers.append(twice(21))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [42] * 4 and len(twice.dispatcher.overloads) == 1


def test_a_callback_is_called_by_its_address() -> None:
    @callback(types.int32(types.int32))
    def negated(value):
        """Minus `value`."""
        return -value

    assert negated.__doc__ == "Minus `value`."
    assert ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32)(negated.address)(42) == -42


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout.strip()


def test_without_a_folder_for_a_cache_kernels_of_others_work() -> None:
    """No place that Numba knows can be written, as without a home on a file system that is read only."""
    code = """
from numba.core import caching
for one in vars(caching).values():
    if isinstance(one, type) and hasattr(one, "_locator_classes"):
        one._locator_classes = []
from quire.kernels import callback, kernel, types
double = kernel(types.int64(types.int64))(lambda n: 2 * n)
print(double(21), bool(callback(types.int64(types.int64))(lambda n: n).address), double.origin)
"""
    assert run(code) == "42 True compiled"


def test_without_a_compiler_a_kernel_is_its_function() -> None:
    code = "from quire.tlb._kernels import make_tag as f; print(type(f).__name__, f(1 << 40, 0, 0) >> 28)"
    assert run(code, NUMBA_DISABLE_JIT="1") == "function 1"


def test_a_run_loads_the_few_kernels_that_it_calls_and_no_compiler() -> None:
    """What a newcomer waits for: a program that only runs needs no TLB, no walk cache and no batch of walks."""
    code = """
import sys
from quire.cli import main
from quire.kernels import Kernel
sys.argv = ["quire", "run", "--report", "none", "--", "true"]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
rooms = [module for name, module in sys.modules.items() if "._kernels" in name]
kernels = {id(one): one for room in rooms for one in vars(room).values() if isinstance(one, Kernel)}.values()
print(len(kernels) > 80, sorted((one.__name__, one.origin) for one in kernels if one.origin))
print([name for name in ("numba", "llvmlite") if name in sys.modules])
"""
    used = [(name, "stored") for name in ("allocate", "walk")]
    assert run(code).splitlines() == [f"True {used}", "[]"]


def test_which_kernels_python_can_call() -> None:
    array, pair = types.uint64[::1], types.NamedTuple((types.uint64[::1],), tuple)

    def takes_arrays(signature: types.Signature) -> bool:
        return Kernel(lambda: None, signature, {}).takes_arrays

    assert takes_arrays(types.void(array, types.int64)) and takes_arrays(types.boolean(pair, types.uint64))
    assert not takes_arrays(types.int64(types.uint64)), "a part of other kernels"
    assert not takes_arrays(types.void(array, types.CPointer(types.uint64)))
    assert not takes_arrays(types.int64(array, types.int32)) and not takes_arrays(types.voidptr(array))


def test_a_type_of_arrays_is_of_one_dimension_without_gaps() -> None:
    with pytest.raises(TypeError, match=r"int64\[slice\(None, None, None\)\] is no type: write int64\[::1\]"):
        _ = types.int64[:]
    assert str(types.int64(types.uint64[::1], types.CPointer(types.uint8)).numba()) == (
        "(Array(uint64, 1, 'C', False, aligned=True), uint8*) -> int64"
    )


def is_enumeration(node: ast.expr) -> bool:
    """Whether `node` is, or lists, a class by its name."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("list", "tuple", "sorted") and node.args:
        node = node.args[0]
    return isinstance(node, ast.Name) and bool(re.fullmatch("[A-Z]+[a-z][A-Za-z0-9]*", node.id))


def positional(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that take members of an enumeration by their position in it."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Call)
            and is_enumeration(node.value)
        ):
            yield node.lineno
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List):
            value = node.value
            parts = [value, *(value.elts if isinstance(value, ast.Tuple) else ())]
            for one in (part.value if isinstance(part, ast.Starred) else part for part in parts):
                taken = one.generators[0].iter if isinstance(one, ast.GeneratorExp | ast.ListComp) else one
                if is_enumeration(taken):
                    yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        "A, B = (int(s) for s in Shape)",
        "A, B = [int(s) for s in list(Shape)]",
        "A, B = list(Shape)",
        "A, *B = Shape",
        "A, B = (int(s) for s in list(Shape)[:2])",
        "A, B = (int(s) for s in (Shape.WAYS, *list(Shape)[2:3]))",
        "A = list(Shape)[3]",
    ],
)
def test_members_taken_by_position_are_seen(line: str) -> None:
    assert list(positional(ast.parse(line))) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "A, B = int(Shape.START), int(Shape.WAYS)",
        "A, B = (U(PTE.mask(name)) for name in ('P', 'RW'))",
        "A, B = (U(n) for n in (0, 1))",
        "A = [one.name for one in Shape]",
        "A = VALUES[int(Shape.WAYS)]",
    ],
)
def test_members_taken_by_name_are_not(line: str) -> None:
    assert not list(positional(ast.parse(line)))


def test_no_constant_is_taken_from_an_enumeration_by_position() -> None:
    """A member that is added to one in the middle would shift them in silence."""
    found = {
        str(path.relative_to(SOURCE)): lines
        for path in sorted(SOURCE.rglob("*.py"))
        if (lines := list(positional(ast.parse(path.read_text()))))
    }
    assert not found


def test_mypy_is_told_of_every_file_of_kernels() -> None:
    """It takes no pattern for a part of a name, and would read a file that it is not told of as untyped code."""
    settings = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    (modules,) = (
        one["module"] for one in settings["tool"]["mypy"]["overrides"] if "quire.*._kernels" in one["module"]
    )
    files = [*SOURCE.rglob("_kernels*.py"), *SOURCE.rglob("_intrinsics.py")]
    assert modules == sorted({f"quire.*.{path.stem}" for path in files})
