"""``quire audit``: a run in order, its record, and a breach that is shown and ends with status 1."""

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import quire
from limits import PATIENCE
from native import loaded_quire

from quire.machine import Machine
from quire.mmu.host import Host
from quire.observe import HostAudit, audit_host
from quire.report.audit import render_audit


def run(folder: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    """Run it in a process of its own: the guest shares descriptors."""
    command = [*loaded_quire(), "audit", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)


def _table(record: dict[str, Any]) -> str:
    text = io.StringIO()
    render_audit(record, text)
    return text.getvalue()


@pytest.mark.programs
def test_the_table_goes_to_stderr(tmp_path: Path) -> None:
    done = run(tmp_path, "--", "true")
    assert (done.returncode, done.stdout) == (0, "") and "every frame has one owner" in done.stderr


@pytest.mark.programs
@pytest.mark.parametrize("mmu", ["native", "ept", "shadow"])
def test_a_program_in_order(tmp_path: Path, mmu: str) -> None:
    done = run(tmp_path, "--mmu", mmu, "--every", "7", "--json", "-o", "found.json", "--", "ls", "/")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads((tmp_path / "found.json").read_text())
    assert record["breaches"] == []
    assert record["audits"] > 5
    owners = record["frames"]["by_owner"]
    assert sum(owners.values()) == record["frames"]["total"]
    assert owners["vmcs"] == 1
    tables = owners["guest_table"] if mmu == "native" else owners["ept_table"] + owners["shadow_table"]
    assert record["tables"] == tables
    assert record["pages"] == owners["guest_page"]
    last = " ".join(_table(record).split("\n\n")[-1].split())
    assert last.startswith(
        f"{record['audits']} audits: every frame has one owner; {tables} tables are reached once each"
    )


@pytest.mark.programs
def test_a_breach_ends_with_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(host: Host, machines: list[Machine]) -> HostAudit:
        ept = machines[0].mmu.memory_map
        memory = host.memory
        kept = memory.load(ept.root + 8 * 100)
        memory.store(ept.root + 8 * 100, memory.load(ept.root))
        found = audit_host(host, machines)
        memory.store(ept.root + 8 * 100, kept)
        return found

    monkeypatch.setattr("quire.guest.session.audit_host", broken)
    outcome = quire(tmp_path, "audit", "--every", "100000", "--json", "-o", "found.json", "--", "true")
    assert outcome.status == 1
    record: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    assert len(record["breaches"]) == 1
    assert (
        "is a table of level 3 in EPT of machine 0 and was reached from EPT of machine 0"
        in record["breaches"][0]
    )
    assert record["breaches"][0] in " ".join(_table(record).split())
