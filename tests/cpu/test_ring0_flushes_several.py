"""Flushes of several vCPUs: each keeps what it has met, and a flush on another does nothing for it."""

import pytest
from ring0_guest import assemble
from test_ring0_several import ASK, READER, START

from quire.guest.boot.bare import BareGuest, bare_config
from quire.observe.flushes import StaleUse
from quire.report import render_findings

REMAP = """
    store 0x203000, 0x301003
    invlpg [0x400000]
"""
SHOOT_DOWN = """
    send 0x00000000000c0040
    until acknowledged, 1
"""


def findings(source: str, mmu: str) -> list[StaleUse]:
    """Run `source` on two vCPUs, checked, and return what was found, vCPU by vCPU."""
    guest = BareGuest(assemble(source), bare_config(mmu=mmu, vcpus=2, check_flushes=True))
    try:
        assert guest.run().reason == "exited"
        checks = [one.flush_check for one in guest.vcpus]
        return [found for check in checks if check is not None for found in check.findings]
    finally:
        guest.close()


def guest(between: str) -> str:
    return START + "first:" + ASK + REMAP + between + ASK + "finish\n" + READER


@pytest.mark.parametrize("mmu", ["native", "ept"])
def test_a_forgotten_shoot_down(mmu: str) -> None:
    (found,) = findings(guest(""), mmu)
    assert (found.vcpu, found.kind, found.missing.name) == ("vCPU 1", "address", "INVLPG")
    assert found.operand == "address 0x400000, PCID 0x0, on vCPU 1"
    assert found.change is not None and found.change.actor.vcpu == "vCPU 0"
    assert [(one.operation.name, one.spared) for one in found.attempts] == [
        ("INVLPG", "was executed on vCPU 0")
    ]
    assert "INVLPG at step" in render_findings([found.record(lambda rip: None)])


@pytest.mark.parametrize("mmu", ["native", "ept"])
def test_a_shoot_down(mmu: str) -> None:
    assert findings(guest(SHOOT_DOWN), mmu) == []
