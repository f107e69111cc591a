"""Where a request to stop is made is read from the library and tried out; any doubt means that it is not used."""

import pytest
from soft_guest import Guest

from quire.cpu import Detail
from quire.cpu.soft import stop_request
from quire.cpu.soft.stop_request import StopCells, find_stop_cells
from quire.cpu.soft.trial import trial

_find = find_stop_cells.__wrapped__


def test_the_cells_are_found_and_are_those_in_use() -> None:
    cells = find_stop_cells()
    assert cells is not None and _find() == cells
    assert Guest(Detail.EXITS, "0f05").cpu._engine._stop_cells == cells


@pytest.mark.parametrize("missing", ["helper_check_exit_request_x86_64", "cpu_exec_x86_64"])
@pytest.mark.parametrize("octets", [b"", b"\x90" * 4096], ids=["not exported", "other code"])
def test_a_library_of_other_code_has_no_cells(
    monkeypatch: pytest.MonkeyPatch, missing: str, octets: bytes
) -> None:
    code_of = stop_request._code_of
    monkeypatch.setattr(
        stop_request, "_code_of", lambda name, length: octets if name == missing else code_of(name, length)
    )
    assert _find() is None


def test_a_name_that_is_not_exported_has_no_code() -> None:
    assert stop_request._code_of("no_such_function", 16) == b""


def test_without_the_flag_there_are_no_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_request, "find_exit_flag", lambda: 0)
    assert _find() is None


@pytest.mark.parametrize("cell", ["leave", "looked_at"])
def test_cells_that_do_not_work_are_refused(cell: str) -> None:
    """A request that is made beside a cell does not end the run at the next block."""
    cells = find_stop_cells()
    assert cells is not None
    beside = {"leave": cells.leave + 1, "looked_at": cells.looked_at - 2}[cell]
    with trial(stop_request._CODE) as engine:
        engine.octets[stop_request.find_exit_flag()] = 1
        assert stop_request._works(engine, cells)
        assert not stop_request._works(engine, StopCells(**cells._asdict() | {cell: beside}))
