"""What the code of kernels is made from: text and values count, and nothing else does."""

import dis
import sys
from enum import IntEnum
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from quire.kernels import Callback, Kernel, types
from quire.kernels import sources as module
from quire.kernels.declared import CompiledBy
from quire.kernels.sources import fingerprint, reached, value_of
from quire.kernels.store import modules_with_code

MODULES = tuple(modules_with_code())


class Pair(NamedTuple):
    """A record."""

    first: int
    second: int


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hashes be computed anew, and forgotten afterwards."""
    for name in ("fingerprint", "_of_module", "_of_file"):
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)


def test_a_module_reaches_what_its_kernels_call_and_nothing_above() -> None:
    found = reached("quire.tlb.walker._kernels_arrays")
    assert {"quire.tlb.walker._kernels", "quire.paging._kernels_memo", "quire.memory._kernels_buddy"} <= found
    assert not any(name.startswith(("quire.cpu", "quire.trace")) for name in found)
    assert reached("quire.memory._kernels_buddy") == {"quire.memory._kernels_buddy"}


def test_values_have_texts_that_tell_them_apart() -> None:
    different: list[Any] = [
        *(1, 2, np.uint64(1), np.int64(1), np.uint8(1), True, "1", 1.0),
        *(np.zeros(2, np.uint64), np.zeros(3, np.uint64), np.zeros(2, np.int64), np.ones(2, np.uint64)),
        *(types.int64, types.int64[::1], types.CPointer(types.int64), types.int64(types.int64), Pair),
        *(types.ExternalFunction("a", types.void()), types.ExternalFunction("b", types.void())),
        CompiledBy("numba", "carray"),
    ]
    texts = [value_of(one) for one in different]
    assert None not in texts and len(set(texts)) == len(texts)
    assert value_of(np.uint64(7)) == value_of(np.uint64(7))
    assert value_of(IntEnum) is None and value_of(MODULES) is None


@pytest.mark.usefixtures("anew")
def test_a_constant_and_a_text_change_the_hashes_of_all_that_reach_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    buddy, walk = sys.modules["quire.memory._kernels_buddy"], sys.modules["quire.paging._kernels_ept"]
    before = {name: module.fingerprint(name) for name in MODULES}
    assert before == {name: fingerprint(name) for name in MODULES}

    def changed() -> set[str]:
        return {name for name in MODULES if module.fingerprint(name) != before[name]}

    with monkeypatch.context() as change:
        change.setattr(buddy, "_MAX_ORDER", np.int64(3))
        assert changed() == {name for name in MODULES if buddy.__name__ in reached(name)} != set()
    other = tmp_path / "_kernels_ept.py"
    other.write_bytes(Path(walk.__file__ or "").read_bytes() + b"# more\n")
    with monkeypatch.context() as change:
        change.setattr(walk, "__file__", str(other))
        assert changed() == {name for name in MODULES if walk.__name__ in reached(name)} != set()
    assert changed() == set()


@pytest.mark.usefixtures("anew")
def test_intrinsics_count_and_the_place_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    buddy = sys.modules["quire.memory._kernels_buddy"]
    source = Path(buddy.__file__ or "")
    for name in (source.name, "_intrinsics.py"):
        (tmp_path / name).write_bytes(source.with_name(name).read_bytes())
    before = module.fingerprint(buddy.__name__)
    monkeypatch.setattr(buddy, "__file__", str(tmp_path / source.name))
    assert module.fingerprint(buddy.__name__) == before
    (tmp_path / "_intrinsics.py").write_text("other")
    assert module.fingerprint(buddy.__name__) != before


def named_by(code: CodeType) -> set[str]:
    """Return the globals that `code` and what is in it loads."""
    names = {one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return names.union(*(named_by(one) for one in code.co_consts if isinstance(one, CodeType)))


@pytest.mark.parametrize("name", sorted({name for one in MODULES for name in reached(one)}))
def test_whatever_a_kernel_names_is_in_the_hash(name: str) -> None:
    room = vars(sys.modules[name])
    functions = [one.py_func for one in room.values() if isinstance(one, Kernel | Callback)]
    plain = [one for one in room.values() if isinstance(one, FunctionType)]
    named = set().union(*(named_by(one.__code__) for one in (*functions, *plain) if one.__module__ == name))
    for one in sorted(named & room.keys()):
        value = room[one]
        hashed = value_of(value) is not None
        by_file = isinstance(value, Kernel | Callback | FunctionType | ModuleType)
        assert hashed or by_file or value in (np.uint64, np.int64, np.uint8, np.uint32, np.int32), one
