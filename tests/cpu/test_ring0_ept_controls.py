"""VM-execution controls of EPT under a running guest: the page-modification log, #VE, mode-based execute."""

import pytest
from ring0_guest import SWITCH, make, reported

from quire.arch import (
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    PRIMARY_CONTROLS,
    SECONDARY_CONTROLS,
    ExitReason,
)
from quire.exits import RESUME, ExitContext, Next, StopGuest
from quire.guest.boot.bare import BareGuest
from quire.memory import Fill, Owner, OwnerKind
from quire.vcpu import Exit

LOG = Owner(OwnerKind.VMCS, "a test's log")


def with_controls(source: str, **controls: int) -> BareGuest:
    """Return a guest under ept whose memory is all backed, with secondary controls added."""
    guest = make(source, "ept", memory=8 << 20)
    for gpa in range(0, 8 << 20, 0x1000):
        guest.vcpu.mmu.reach(gpa, write=True)
    vmcs = guest.vcpu.vmcs
    for name, layout, added in (
        ("primary_processor_based_controls", PRIMARY_CONTROLS, {"activate_secondary_controls": 1}),
        ("secondary_processor_based_controls", SECONDARY_CONTROLS, controls),
    ):
        vmcs.write(name, vmcs.read(name) | layout.encode(**added))
    return guest


def frame(guest: BareGuest) -> int:
    host = guest.machine.host
    return host.pool.allocate(0, LOG, Fill.ZERO) << 12


def forget_dirty(guest: BareGuest) -> None:
    """Clear every EPT dirty flag, as a hypervisor does before it logs."""
    mmu = guest.vcpu.mmu
    for mapping in list(mmu.memory_map.mappings()):
        mmu.memory_map.protect(mapping.start, mapping.rights)
    mmu.changed()


@pytest.mark.parametrize("first", [511, 2])
def test_every_page_that_is_written_is_logged_once(first: int) -> None:
    source = (
        SWITCH
        + """
    store 0x203000, 0x300007
    store 0x203008, 0x301007
    store 0x203010, 0x302007
    store 0x203018, 0x303007
    mov rax, [0x400000]
    mov qword ptr [0x401000], 1
    mov qword ptr [0x402008], 2
    mov qword ptr [0x401010], 3
    finish
    """
    )
    guest = with_controls(source, enable_pml=1)
    machine = guest.machine
    vmcs, memory, log = machine.vcpu.vmcs, machine.host.memory, frame(guest)
    vmcs.write_many(pml_address=log, pml_index=first)
    logged: list[int] = []

    def collect() -> None:
        for index in range(first, (vmcs.read("pml_index") + 1 & 0xFFFF) - 1, -1):
            logged.append(memory.load(log + 8 * index))

    def full(vcpu: ExitContext, stop: Exit) -> Next:
        assert vmcs.read("pml_index") == 0xFFFF
        collect()
        vmcs.write("pml_index", first)
        return RESUME

    machine.handlers[ExitReason.PAGE_MODIFICATION_LOG_FULL] = full
    try:
        outcome = guest.run()
        collect()
        assert outcome.reason == "exited", outcome
    finally:
        guest.close()
    data = [gpa for gpa in logged if 0x300000 <= gpa < 0x304000]
    assert data == [0x301000, 0x302000]
    # With accessed and dirty flags for EPT, the processor's accesses to guest tables are writes.
    assert {0x200000, 0x201000, 0x202000, 0x203000} <= set(logged)
    assert len(logged) == len(set(logged))
    assert all(gpa % 0x1000 == 0 for gpa in logged)
    assert (ExitReason.PAGE_MODIFICATION_LOG_FULL in machine.vcpu.exits) == (first == 2)


def test_a_violation_becomes_ve_and_the_area_says_why() -> None:
    source = (
        "gate 20, on_ve\n"
        + SWITCH
        + """
    store 0x203000, 0x300007
    mov qword ptr [0x400008], 1
    finish 1
on_ve:
    report 0x55
    finish
    """
    )
    guest = with_controls(source, ept_violation_ve=1)
    machine = guest.machine
    area = frame(guest)
    machine.vcpu.vmcs.write_many(virtualization_exception_information_address=area, eptp_index=3)
    backed = machine.vcpu.exits[ExitReason.EPT_VIOLATION]
    mmu = machine.vcpu.mmu
    mmu.memory_map.protect(0x300000, mmu.memory_map.lookup(0x300000).rights & ~2)  # type: ignore[union-attr]
    try:
        outcome = guest.run()
        words = [machine.host.memory.load(area + 8 * n) for n in range(5)]
    finally:
        guest.close()
    assert (outcome.reason, reported(outcome)) == ("exited", [0x55])
    qualification = EPT_VIOLATION_QUALIFICATION.encode(
        W=1, ept_r=1, ept_x=1, gla_valid=1, final=1, user=1, writable=1
    )
    assert words[0] == 0xFFFF_FFFF_0000_0030
    assert words[1] == qualification
    assert words[2:] == [0x400008, 0x300008, 3]
    assert machine.vcpu.exits[ExitReason.EPT_VIOLATION] == backed


def test_mode_based_execute_asks_for_the_bit_of_the_page_s_privilege() -> None:
    source = (
        SWITCH
        + """
    store 0x203000, 0x300007
    mov byte ptr [0x400000], 0xc3
    report 0x11
    mov rax, 0x400000
    call rax
    finish 1
    """
    )
    guest = with_controls(source, mode_based_execute=1)
    assert EPTP.get(guest.vcpu.vmcs.read("ept_pointer"), "AD")
    seen: list[Exit] = []

    def violation(vcpu: ExitContext, stop: Exit) -> Next:
        seen.append(stop)
        return StopGuest(stop)

    guest.machine.handlers[ExitReason.EPT_VIOLATION] = violation
    try:
        outcome = guest.run()
    finally:
        guest.close()
    assert reported(outcome) == [0x11]
    (stop,) = seen
    said = EPT_VIOLATION_QUALIFICATION.decode(stop.qualification)
    assert (said["X"], said["ept_x"], said["ept_xu"], said["user"]) == (1, 1, 0, 1)
    assert (stop.gpa, stop.gla) == (0x300000, 0x400000)
