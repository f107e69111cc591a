"""System registers of machine guests: what may be written, what is #GP, and what each write does to the TLB."""

import pytest

from quire.arch import CR0, CR4, EFER
from quire.devices import Msr, Ports
from quire.errors import MisuseError
from quire.exits import Processor
from quire.machine import GuestConfig, Machine
from quire.memory import OwnerKind
from quire.mmu import Host
from quire.paging import Context
from quire.tlb import Operation
from quire.vcpu import Event

GP = Event.exception(13, 0)
PAT, PCIDE, PGE, SMEP = 0x0007040600070406, CR4.mask("PCIDE"), CR4.mask("PGE"), CR4.mask("SMEP")


class Registers:
    """Registers in a dict."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {"rflags": 2}

    def read(self, name: str) -> int:
        return self.values.get(name, 0)

    def write(self, name: str, value: int) -> None:
        self.values[name] = value

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        return [self.read(name) for name in names]

    def write_many(self, values: dict[str, int]) -> None:
        self.values.update(values)


class IdleCpu:
    """A Cpu that only has registers."""

    def __init__(self, machine: Machine) -> None:
        self.registers = Registers()

    def forget(self, gva: int | None) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(params=["native", "ept", "shadow"])
def machine(request: pytest.FixtureRequest) -> Machine:
    config = GuestConfig(mmu=request.param, memory=8 << 20, kind="machine")
    made = Machine(config, IdleCpu)  # type: ignore[arg-type]
    made.vcpu.processor.settle()
    return made


@pytest.fixture
def processor(machine: Machine) -> Processor:
    return machine.vcpu.processor


def test_cr0(machine: Machine, processor: Processor) -> None:
    before = processor.read_cr(0)
    for refused in (
        before & ~CR0.mask("PG"),
        before & ~CR0.mask("PE"),
        before | 1 << 32,
        before | CR0.mask("NW"),
    ):
        assert processor.write_cr(0, refused) == GP
    assert processor.write_cr(0, before & ~CR0.mask("WP", "NE")) is None
    assert not machine.vcpu.mmu.guest_context[Context.WP]
    hidden = machine.vcpu.mmu.page_faults_exit  # shadow paging write-protects tables with it
    assert bool(machine.vcpu.mmu.context[Context.WP]) == hidden
    assert CR0.get(machine.vcpu.vmcs.read("guest_cr0"), "WP") == hidden
    assert not CR0.get(processor.read_cr(0), "WP")
    assert not CR0.get(processor.read_cr(0), "NE")
    assert CR0.get(machine.vcpu.vmcs.read("guest_cr0"), "NE")  # VMX wants it, the guest does not see it


def test_cr3_and_pcid(machine: Machine, processor: Processor) -> None:
    assert processor.write_cr(3, 1 << 46) == GP
    assert processor.write_cr(3, 1 << 63 | 0x1000) == GP
    assert processor.write_cr(3, 0x5000) is None
    assert processor.write_cr(4, processor.read_cr(4) | PCIDE) is None
    assert processor.write_cr(3, 1 << 63 | 0x5007) is None
    assert (machine.vcpu.mmu.pcid, machine.vcpu.mmu.space.pcid) == (7, 7)
    assert processor.read_cr(3) == 0x5007
    assert machine.vcpu.mmu.guest_context[Context.CR3] == 0x5007
    if machine.vcpu.mmu.page_faults_exit:  # hardware has the shadow's root
        root = int(machine.vcpu.mmu.context[Context.CR3])
        assert machine.vcpu.vmcs.read("guest_cr3") == root
        assert machine.host.pool.owner_of(root >> 12).kind is OwnerKind.SHADOW_TABLE
    assert machine.vcpu.mmu.invalidations == {Operation.MOV_CR3: 1}
    assert processor.write_cr(4, processor.read_cr(4) & ~PCIDE) is None
    assert machine.vcpu.mmu.pcid == 0
    assert machine.vcpu.mmu.invalidations[Operation.MOV_CR4_PCIDE] == 1


def test_cr4(machine: Machine, processor: Processor) -> None:
    before = processor.read_cr(4)
    assert not CR4.get(before, "VMXE")
    for refused in (
        before | CR4.mask("VMXE"),
        before & ~CR4.mask("PAE"),
        before | CR4.mask("LA57"),
        before | 1 << 30,
    ):
        assert processor.write_cr(4, refused) == GP
    processor.write_cr(3, 0x1001)
    assert processor.write_cr(4, before | PCIDE) == GP  # a PCID of 0 is wanted
    machine.vcpu.mmu.invalidations.clear()
    for value, flushes in (
        (before | PGE, {Operation.MOV_CR4_PGE: 1}),
        (before | PGE, {Operation.MOV_CR4_PGE: 1}),
        (before | SMEP | PGE, {Operation.MOV_CR4_PGE: 1, Operation.MOV_CR4_SMEP: 1}),
        (before | SMEP, {Operation.MOV_CR4_PGE: 2, Operation.MOV_CR4_SMEP: 1}),
    ):
        assert processor.write_cr(4, value) is None
        assert machine.vcpu.mmu.invalidations == flushes
        assert machine.vcpu.mmu.guest_context[Context.PGE] == bool(value & PGE)
    assert machine.vcpu.mmu.guest_context[Context.SMEP]
    assert machine.vcpu.mmu.context[Context.SMEP]
    assert CR4.get(machine.vcpu.vmcs.read("guest_cr4"), "VMXE")


def test_efer(machine: Machine, processor: Processor) -> None:
    before = processor.read_msr(Msr.EFER)
    assert isinstance(before, int)
    assert processor.write_msr(Msr.EFER, before & ~EFER.mask("LME")) == GP
    assert processor.write_msr(Msr.EFER, before | 1 << 12) == GP
    assert processor.write_msr(Msr.EFER, before & ~EFER.mask("NXE", "LMA")) is None
    assert processor.read_msr(Msr.EFER) == before & ~EFER.mask("NXE")
    assert not machine.vcpu.mmu.guest_context[Context.NXE]
    assert bool(machine.vcpu.mmu.context[Context.NXE]) == machine.vcpu.mmu.page_faults_exit


def test_msrs(processor: Processor) -> None:
    assert processor.read_msr(0x12345) == GP
    assert processor.write_msr(0x12345, 0) == GP
    assert processor.write_msr(Msr.LSTAR, 1 << 47) == GP
    assert processor.write_msr(Msr.GS_BASE, 1 << 63) == GP
    assert processor.write_msr(Msr.PAT, PAT & ~0xFF | 2) == GP
    assert processor.write_msr(Msr.APIC_BASE, 0) == GP
    assert processor.write_msr(Msr.PAT, PAT ^ 6 ^ 4) is None
    assert processor.read_msr(Msr.PAT) == PAT ^ 6 ^ 4
    assert processor.write_msr(Msr.KERNEL_GS_BASE, 0x1000) is None
    assert processor.registers.read("kernel_gs_base") == 0x1000
    first, second = processor.read_msr(Msr.TSC), processor.read_msr(Msr.TSC)
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert first < second


def test_invpcid(machine: Machine, processor: Processor) -> None:
    assert processor.invpcid(4, 0) == GP
    assert processor.invpcid(1, 5) == GP  # a PCID without CR4.PCIDE
    assert processor.invpcid(0, 1 << 12) == GP
    assert processor.invpcid(0, 1 << 127) == GP
    for kind in range(4):
        assert processor.invpcid(kind, 0) is None
    assert [done.name for done in machine.vcpu.mmu.invalidations] == [
        "INVPCID_ADDRESS", "INVPCID_CONTEXT", "INVPCID_ALL", "INVPCID_ALL_RETAINING_GLOBALS",
    ]  # fmt: skip


def test_ports() -> None:
    class Latch:
        value = 0

        def read(self, size: int) -> int:
            return self.value

        def write(self, value: int, size: int) -> None:
            self.value = value

    ports = Ports()
    ports.attach(0x70, Latch())
    ports.write(0x70, 0x12345678, 2)
    assert ports.read(0x70, 1) == 0x78
    assert ports.read(0x71, 4) == 0xFFFFFFFF
    with pytest.raises(MisuseError, match="has a device already"):
        ports.attach(0x70, Latch())
    with pytest.raises(MisuseError, match="does not exist"):
        ports.attach(0x10000, Latch())


def test_a_native_machine_has_a_host_of_its_own() -> None:
    host = Host.for_guest(8 << 20, 4096)
    with pytest.raises(MisuseError, match="cannot share a host"):
        Machine(GuestConfig("native", 8 << 20, kind="machine"), IdleCpu, host=host)  # type: ignore[arg-type]
    host.pool.audit()
    host.close()
    with pytest.raises(MisuseError, match="of kind"):
        GuestConfig(kind="unikernel")
