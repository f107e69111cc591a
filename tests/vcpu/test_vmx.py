"""VMX instructions: every failure number by hand, then random sequences against a model of a few dictionaries."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sampling import some

from quire.arch import (
    EPTP,
    SKYLAKE_X,
    VMCS_FIELDS,
    VMCS_REVISION,
    CpuProfile,
    field_by_name,
    profile_by_name,
)
from quire.memory import HostMemory
from quire.vcpu import EntryExit, Nested, VmFailInvalid, VmFailValid, VmSucceed, Vmx
from quire.vcpu.field_support import _NEEDED, field_exists
from quire.vcpu.process_state import process_state

ARCHITECTURE = profile_by_name("architecture")
VMXON, A, B, BAD_REVISION, SHADOW = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
BEYOND = 1 << 52
ABSENT = 0x100000  # an address that the processor has and the machine does not
NO_VMCS = (1 << 64) - 1
UD = Nested(6)
OK = VmSucceed()
CR3 = field_by_name("guest_cr3").encoding
EPT = field_by_name("ept_pointer")
REASON = field_by_name("exit_reason").encoding
ERROR = field_by_name("vm_instruction_error").encoding


def machine(profile: CpuProfile = ARCHITECTURE, *, on: bool = True, current: int | None = None) -> Vmx:
    memory = HostMemory(0x10000)
    for region in (VMXON, A, B):
        memory.store(region, VMCS_REVISION)
    memory.store(SHADOW, VMCS_REVISION | 1 << 31)
    vmx = Vmx(memory, profile)
    if on:
        assert vmx.vmxon(VMXON) == OK
    if current is not None:
        assert vmx.vmptrld(current) == OK
    return vmx


def make_good(vmx: Vmx) -> None:
    for name, value in process_state(vmx.profile, 1).items():
        assert vmx.vmwrite(field_by_name(name).encoding, value) == OK


def failed(vmx: Vmx, result: object, error: int) -> None:
    """Check VMfail in both forms: the number in the current VMCS, or no VMCS to hold it."""
    if vmx.current is None:
        assert result == VmFailInvalid()
    else:
        assert isinstance(result, VmFailValid)
        assert result.error == error
        assert vmx.vmread(ERROR) == VmSucceed(error)


def test_outside_vmx_operation() -> None:
    vmx = machine(on=False)
    calls = (
        vmx.vmxoff(),
        vmx.vmclear(A),
        vmx.vmptrld(A),
        vmx.vmptrst(),
        vmx.vmread(CR3),
        vmx.vmwrite(CR3, 0),
        vmx.vmlaunch(),
        vmx.vmresume(),
        vmx.invept(2, 0),
        vmx.invvpid(2, 0),
    )
    assert calls == (UD,) * 10


@pytest.mark.parametrize("pointer", [0x1008, BEYOND, BAD_REVISION, SHADOW, ABSENT])
def test_vmxon_refuses_without_a_number(pointer: int) -> None:
    vmx = machine(on=False)
    assert vmx.vmxon(pointer) == VmFailInvalid()
    assert vmx.vmxoff() == UD


def test_vmxon_twice() -> None:
    failed(vmx := machine(), vmx.vmxon(VMXON), 15)
    failed(vmx := machine(current=A), vmx.vmxon(VMXON), 15)


def test_vmxoff_forgets_the_current_vmcs_only() -> None:
    vmx = machine(current=A)
    make_good(vmx)
    assert vmx.vmlaunch() == OK
    assert vmx.vmxoff() == OK
    assert vmx.vmxon(VMXON) == OK
    assert vmx.vmptrst() == VmSucceed(NO_VMCS)
    assert vmx.vmptrld(A) == OK
    assert vmx.vmresume() == OK


@pytest.mark.parametrize("current", [None, B])
@pytest.mark.parametrize(
    ("name", "pointer", "error"),
    [
        ("vmclear", 0x2008, 2),
        ("vmclear", BEYOND, 2),
        ("vmclear", VMXON, 3),
        ("vmptrld", 0x2008, 9),
        ("vmptrld", BEYOND, 9),
        ("vmptrld", VMXON, 10),
        ("vmptrld", BAD_REVISION, 11),
        ("vmptrld", ABSENT, 11),
    ],
)
def test_pointers(current: int | None, name: str, pointer: int, error: int) -> None:
    vmx = machine(current=current)
    failed(vmx, getattr(vmx, name)(pointer), error)
    assert vmx.vmptrst() == VmSucceed(NO_VMCS if current is None else current)


def test_vmclear_takes_any_region_and_only_its_own_ceases_to_be_current() -> None:
    vmx = machine(current=A)
    for region in (B, BAD_REVISION, ABSENT):
        assert vmx.vmclear(region) == OK
        assert vmx.vmptrst() == VmSucceed(A)
    assert vmx.vmclear(A) == OK
    assert vmx.vmptrst() == VmSucceed(NO_VMCS)


def test_a_vmcs_keeps_its_fields_while_another_is_current() -> None:
    vmx = machine(current=A)
    assert vmx.vmwrite(CR3, 0x5000) == OK
    assert vmx.vmptrld(B) == OK
    assert vmx.vmread(CR3) == VmSucceed(0)
    assert vmx.vmclear(A) == OK
    assert vmx.vmptrld(A) == OK
    assert vmx.vmread(CR3) == VmSucceed(0x5000)


def test_a_shadow_vmcs_is_read_and_never_entered() -> None:
    vmx = machine(current=SHADOW)
    assert vmx.vmwrite(CR3, 1) == OK
    assert vmx.vmlaunch() == VmFailInvalid()


# VMREAD and VMWRITE


def test_without_a_current_vmcs() -> None:
    vmx = machine()
    assert vmx.vmread(0xFFFF) == vmx.vmwrite(0xFFFF, 0) == VmFailInvalid()
    assert vmx.vmlaunch() == vmx.vmresume() == VmFailInvalid()


@pytest.mark.parametrize("encoding", [0x6802 | 1, 0x2046, 0x1000, 1 << 40, 0xFFFF_FFFF, 0x4400 | 1])
def test_unsupported_components(encoding: int) -> None:
    vmx = machine(current=A)
    failed(vmx, vmx.vmread(encoding), 12)
    failed(vmx, vmx.vmwrite(encoding, 0), 12)


def test_read_only_components() -> None:
    vmx = machine(current=A)
    failed(vmx, vmx.vmwrite(REASON, 1), 13)
    vmx = machine(SKYLAKE_X, current=A)  # IA32_VMX_MISC bit 29
    assert vmx.vmwrite(REASON, 0x30) == OK
    assert vmx.vmread(REASON) == VmSucceed(0x30)


def test_halves_and_widths() -> None:
    vmx = machine(current=A)
    assert vmx.vmwrite(EPT.encoding, 0x1111_2222_3333_4444) == OK
    assert vmx.vmread(EPT.encoding_high) == VmSucceed(0x1111_2222)
    assert vmx.vmwrite(EPT.encoding_high, 0x9_AAAA_BBBB) == OK
    assert vmx.vmread(EPT.encoding) == VmSucceed(0xAAAA_BBBB_3333_4444)
    for name, bits in (("virtual_processor_identifier", 16), ("exception_bitmap", 32), ("guest_cr3", 64)):
        encoding = field_by_name(name).encoding
        assert vmx.vmwrite(encoding, (1 << 64) - 1) == OK
        assert vmx.vmread(encoding) == VmSucceed((1 << bits) - 1)


def test_fields_of_controls_that_the_processor_lacks() -> None:
    assert all(field_exists(field, ARCHITECTURE) for field in VMCS_FIELDS)
    assert set(_NEEDED) <= {field.name for field in VMCS_FIELDS}
    vmx = machine(SKYLAKE_X, current=A)
    for name in ("tertiary_processor_based_controls", "hlat_pointer", "guest_ia32_s_cet", "host_ia32_pkrs"):
        failed(vmx, vmx.vmread(field_by_name(name).encoding), 12)
    highest = max(field.index for field in VMCS_FIELDS if field_exists(field, SKYLAKE_X))
    assert highest == SKYLAKE_X.vmx.highest_index


# VMLAUNCH and VMRESUME


def test_launch_states() -> None:
    vmx = machine(current=A)
    failed(vmx, vmx.vmresume(), 5)
    make_good(vmx)
    failed(vmx, vmx.vmresume(), 5)
    assert vmx.vmlaunch() == OK
    failed(vmx, vmx.vmlaunch(), 4)
    assert vmx.vmresume() == OK
    assert vmx.vmclear(A) == vmx.vmptrld(A) == OK
    failed(vmx, vmx.vmresume(), 5)
    assert vmx.vmlaunch() == OK


def test_an_entry_that_fails_does_not_launch() -> None:
    vmx = machine(current=A)
    failed(vmx, vmx.vmlaunch(), 7)
    make_good(vmx)
    assert vmx.vmwrite(field_by_name("host_cs_selector").encoding, 0) == OK
    failed(vmx, vmx.vmlaunch(), 8)
    assert vmx.vmwrite(field_by_name("host_cs_selector").encoding, 0x10) == OK
    assert vmx.vmwrite(field_by_name("guest_rflags").encoding, 0) == OK
    result = vmx.vmlaunch()
    assert isinstance(result, EntryExit)
    assert vmx.vmread(REASON) == VmSucceed(1 << 31 | 33)
    failed(vmx, vmx.vmresume(), 5)


def test_mov_ss_blocks_entries_before_anything_else_is_looked_at() -> None:
    vmx = machine(current=A)
    vmx.interruptibility = 2
    failed(vmx, vmx.vmlaunch(), 26)
    failed(vmx, vmx.vmresume(), 26)
    vmx.interruptibility = 1
    failed(vmx, vmx.vmlaunch(), 7)


# INVEPT and INVVPID

GOOD_EPTP = EPTP.encode(MT=6, walk_length=3, addr=0x5000)


@pytest.mark.parametrize(
    ("kind", "eptp", "reserved", "good"),
    [
        (1, GOOD_EPTP, 0, True),
        (2, 0, 0, True),
        (0, GOOD_EPTP, 0, False),
        (3, GOOD_EPTP, 0, False),
        (1 << 33, GOOD_EPTP, 0, False),
        (1, GOOD_EPTP | 1 << 8, 0, False),
        (1, GOOD_EPTP & ~7 | 4, 0, False),
        (1, BEYOND | GOOD_EPTP, 0, False),
        (1, GOOD_EPTP, 1, False),
    ],
)
def test_invept(kind: int, eptp: int, reserved: int, good: bool) -> None:
    vmx = machine(current=A)
    result = vmx.invept(kind, eptp, reserved)
    assert result == OK if good else isinstance(result, VmFailValid) and result.error == 28


@pytest.mark.parametrize(
    ("kind", "low", "gva", "good"),
    [
        (0, 1, 0x1000, True),
        (0, 1, 1 << 57, False),
        (0, 0, 0x1000, False),
        (1, 5, 1 << 57, True),
        (1, 0, 0, False),
        (2, 0, 0, True),
        (3, 0xFFFF, 0, True),
        (3, 0, 0, False),
        (4, 1, 0, False),
        (2, 1 << 16, 0, False),
    ],
)
def test_invvpid(kind: int, low: int, gva: int, good: bool) -> None:
    vmx = machine(current=A)
    result = vmx.invvpid(kind, low, gva)
    assert result == OK if good else isinstance(result, VmFailValid) and result.error == 28


# Against a model

POINTERS = st.sampled_from([VMXON, A, B, BAD_REVISION, A + 8, BEYOND])


class Model(RuleBasedStateMachine):
    """`launched` maps each region to whether it is, `current` and `on` are what the processor must think."""

    def __init__(self) -> None:
        super().__init__()
        self.vmx = machine(on=False)
        self.on = False
        self.current: int | None = None
        self.launched = {A: False, B: False}
        self.cr3 = {A: 0, B: 0}
        self.good: set[int] = set()

    def expect(self, result: object, error: int) -> None:
        """Expect success for error 0."""
        if not self.on:
            assert result == UD
        elif not error:
            assert result == OK
        elif self.current is None:
            assert result == VmFailInvalid()
        else:
            assert isinstance(result, VmFailValid)
            assert result.error == error

    @rule(pointer=POINTERS)
    def vmxon(self, pointer: int) -> None:
        result = self.vmx.vmxon(pointer)
        if self.on:
            self.expect(result, 15)
        elif pointer in (VMXON,):
            assert result == OK
            self.on, self.current = True, None
        elif pointer not in (A, B):
            assert result == VmFailInvalid()
        else:  # any region of the revision will do; keep to one
            assert result == OK
            assert self.vmx.vmxoff() == OK

    @rule()
    def vmxoff(self) -> None:
        self.expect(self.vmx.vmxoff(), 0)
        self.on, self.current = False, None

    @rule(pointer=POINTERS)
    def vmclear(self, pointer: int) -> None:
        error = 2 if pointer in (A + 8, BEYOND) else 3 if pointer == VMXON else 0
        self.expect(self.vmx.vmclear(pointer), error)
        if self.on and pointer in self.launched:
            self.launched[pointer] = False
            self.current = None if self.current == pointer else self.current

    @rule(pointer=POINTERS)
    def vmptrld(self, pointer: int) -> None:
        error = {A + 8: 9, BEYOND: 9, VMXON: 10, BAD_REVISION: 11}.get(pointer, 0)
        self.expect(self.vmx.vmptrld(pointer), error)
        if self.on and not error:
            self.current = pointer

    @rule(launch=st.booleans())
    def enter(self, launch: bool) -> None:
        result = self.vmx.vmlaunch() if launch else self.vmx.vmresume()
        if self.on and self.current is None:
            assert result == VmFailInvalid()
            return
        if not self.on:
            assert result == UD
            return
        assert self.current is not None
        launched = self.launched[self.current]
        if launched == launch:
            self.expect(result, 4 if launch else 5)
        elif self.current not in self.good:
            self.expect(result, 7)
        else:
            assert result == OK
            self.launched[self.current] = True

    @rule(value=st.integers(0, (1 << 52) - 1))
    def write_cr3(self, value: int) -> None:
        result = self.vmx.vmwrite(CR3, value)
        if self.on and self.current is not None:
            assert result == OK
            self.cr3[self.current] = value
        else:
            assert result == (VmFailInvalid() if self.on else UD)

    @precondition(lambda self: self.current is not None)
    @rule()
    def complete(self) -> None:
        make_good(self.vmx)
        assert self.current is not None
        self.good.add(self.current)

    @invariant()
    def pointer_and_fields(self) -> None:
        if not self.on:
            assert self.vmx.vmptrst() == UD
            return
        assert self.vmx.vmptrst() == VmSucceed(NO_VMCS if self.current is None else self.current)
        if self.current is not None:
            assert self.vmx.vmread(CR3) == VmSucceed(self.cr3[self.current])


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=some(40, 20), stateful_step_count=40, deadline=None)
