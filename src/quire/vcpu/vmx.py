"""VMX instructions of one logical processor: which VMCS is current, and what each instruction comes to.

Models SDM 3C §30.3 in VMX root operation at CPL 0: operands, pointers, launch states and the numbers of failures.
Does not model VMCALL, the dual-monitor treatment of SMIs, and what INVEPT and INVVPID invalidate: the caller does
that when they succeed. The results are values; #UD outside VMX operation is a :class:`~quire.vcpu.Nested`.
"""

from quire.arch import (
    EPT_VPID_CAP,
    LOW32,
    NO_VMCS,
    PAGE_SIZE,
    VMCS_ENCODING,
    VMCS_REVISION,
    VMX_MISC,
    CpuProfile,
    Vector,
    VmcsField,
    VmInstructionError,
    field_by_encoding,
    is_canonical,
)
from quire.errors import MisuseError
from quire.memory import HostMemory
from quire.vcpu.checks.execution import ept_pointer_reserved, ept_pointer_valid
from quire.vcpu.delivery import Nested
from quire.vcpu.entry import enter, fail
from quire.vcpu.field_support import field_exists
from quire.vcpu.result import EntryExit, VmFailInvalid, VmFailValid, VmSucceed, VmxResult
from quire.vcpu.vmcs import LaunchState, Vmcs

__all__ = ["Vmx"]

_Fail = VmFailInvalid | VmFailValid
_Error = VmInstructionError
_UD = Nested(Vector.UD)
_SHADOW = 1 << 31
_INVEPT_TYPES = {1: "invept_single", 2: "invept_all"}
_INVVPID_TYPES = {
    0: "invvpid_individual",
    1: "invvpid_single",
    2: "invvpid_all",
    3: "invvpid_retaining_globals",
}
_ALL_CONTEXTS = 2


class Vmx:
    """One logical processor with `profile`, whose VMXON and VMCS regions are frames of `memory`.

    `current` is the current VMCS, None while the pointer is all ones; `interruptibility` the processor's own
    state in root operation, of which blocking by MOV SS matters.
    """

    def __init__(self, memory: HostMemory, profile: CpuProfile) -> None:
        self.memory = memory
        self.profile = profile
        self.vmxon_pointer: int | None = None
        self.current: Vmcs | None = None
        self.interruptibility = 0
        self._regions: dict[int, Vmcs] = {}

    def vmxon(self, pointer: int) -> VmxResult:
        """Enter VMX operation with the VMXON region at `pointer`."""
        if self.vmxon_pointer is not None:
            return self._fail(_Error.VMXON_IN_ROOT)
        if not self._is_region(pointer) or self._revision(pointer) != VMCS_REVISION:
            return VmFailInvalid()
        self.vmxon_pointer, self.current = pointer, None
        return VmSucceed()

    def vmxoff(self) -> VmxResult | Nested:
        """Leave VMX operation. Launch states outlive it: they belong to the regions."""
        if self.vmxon_pointer is None:
            return _UD
        self.vmxon_pointer = self.current = None
        return VmSucceed()

    def vmclear(self, pointer: int) -> VmxResult | Nested:
        """Make the VMCS at `pointer` clear, and not current."""
        if self.vmxon_pointer is None:
            return _UD
        if not self._is_region(pointer):
            return self._fail(_Error.VMCLEAR_ADDRESS)
        if pointer == self.vmxon_pointer:
            return self._fail(_Error.VMCLEAR_VMXON_POINTER)
        found = self._regions.pop(pointer, None)
        if found is not None:
            found.launch_state = LaunchState.CLEAR
        if self.current is not None and self.current.hpa == pointer:
            self.current = None
        return VmSucceed()

    def vmptrld(self, pointer: int) -> VmxResult | Nested:
        """Make the VMCS at `pointer` current."""
        if self.vmxon_pointer is None:
            return _UD
        if not self._is_region(pointer):
            return self._fail(_Error.VMPTRLD_ADDRESS)
        if pointer == self.vmxon_pointer:
            return self._fail(_Error.VMPTRLD_VMXON_POINTER)
        revision = self._revision(pointer)
        shadows = self.profile.vmx.offers("secondary", "vmcs_shadowing")
        if revision & ~_SHADOW != VMCS_REVISION or (revision & _SHADOW and not shadows):
            return self._fail(_Error.VMPTRLD_REVISION)
        if pointer not in self._regions:
            self._regions[pointer] = Vmcs(self.memory, pointer, fresh=False)
        self.current = self._regions[pointer]
        return VmSucceed()

    def vmptrst(self) -> VmxResult | Nested:
        """Return the current-VMCS pointer: all ones if there is none."""
        if self.vmxon_pointer is None:
            return _UD
        return VmSucceed(NO_VMCS if self.current is None else self.current.hpa)

    def vmread(self, encoding: int) -> VmxResult | Nested:
        """Return the field, or the high half of one, that `encoding` names."""
        if self.vmxon_pointer is None:
            return _UD
        if self.current is None:
            return VmFailInvalid()
        field = self._field(encoding)
        if field is None:
            return self._fail(_Error.UNSUPPORTED_COMPONENT)
        value = self.current.read(field.name)
        return VmSucceed(value >> 32 if VMCS_ENCODING.get(encoding, "high") else value)

    def vmwrite(self, encoding: int, value: int) -> VmxResult | Nested:
        """Set the field, or the high half of one, that `encoding` names to the low bits of `value`."""
        if self.vmxon_pointer is None:
            return _UD
        if self.current is None:
            return VmFailInvalid()
        field = self._field(encoding)
        if field is None:
            return self._fail(_Error.UNSUPPORTED_COMPONENT)
        if field.read_only and not VMX_MISC.get(self.profile.vmx.misc, "vmwrite_any"):
            return self._fail(_Error.VMWRITE_READ_ONLY)
        if VMCS_ENCODING.get(encoding, "high"):
            low = self.current.read(field.name) & LOW32
            self.current.write(field.name, (value & LOW32) << 32 | low)
        else:
            self.current.write(field.name, value & (1 << field.bits) - 1)
        return VmSucceed()

    def vmlaunch(self) -> VmxResult | Nested:
        """Enter the guest of a clear VMCS."""
        return self._enter(launch=True)

    def vmresume(self) -> VmxResult | Nested:
        """Enter the guest of a launched VMCS."""
        return self._enter(launch=False)

    def invept(self, kind: int, eptp: int, reserved: int = 0) -> VmxResult | Nested:
        """Check the operands of INVEPT: type and the two halves of its descriptor."""
        caps = EPT_VPID_CAP.decode(self.profile.ept_caps)
        if self.vmxon_pointer is None or not caps["invept"]:
            return _UD
        if reserved or not caps.get(_INVEPT_TYPES.get(kind, ""), 0):
            return self._fail(_Error.INVALID_OPERAND_TO_INVEPT_INVVPID)
        if kind != _ALL_CONTEXTS and not self._eptp_enters(eptp):
            return self._fail(_Error.INVALID_OPERAND_TO_INVEPT_INVVPID)
        return VmSucceed()

    def invvpid(self, kind: int, low: int, gva: int = 0) -> VmxResult | Nested:
        """Check the operands of INVVPID: type, and `low`, the VPID and its reserved bits, before `gva`."""
        caps = EPT_VPID_CAP.decode(self.profile.ept_caps)
        if self.vmxon_pointer is None or not caps["invvpid"]:
            return _UD
        good = (
            bool(caps.get(_INVVPID_TYPES.get(kind, ""), 0))
            and not low >> 16
            and (low != 0 or kind == _ALL_CONTEXTS)
            and (kind != 0 or is_canonical(gva, self.profile.linear_bits))
        )
        return VmSucceed() if good else self._fail(_Error.INVALID_OPERAND_TO_INVEPT_INVVPID)

    def _enter(self, *, launch: bool) -> VmSucceed | _Fail | EntryExit | Nested:
        if self.vmxon_pointer is None:
            return _UD
        if self.current is None or self.current.shadow:
            return VmFailInvalid()
        return enter(self.current, self.profile, launch=launch, interruptibility=self.interruptibility)

    def _fail(self, error: VmInstructionError) -> _Fail:
        """VMfail: what it is depends on whether there is a VMCS to hold `error` (SDM 3C §30.2)."""
        return VmFailInvalid() if self.current is None else fail(self.current, error)

    def _is_region(self, pointer: int) -> bool:
        return not (pointer % PAGE_SIZE or pointer >> self.profile.maxphyaddr)

    def _revision(self, pointer: int) -> int:
        """Return the first four bytes at `pointer`; all ones where there is no memory."""
        return self.memory.load(pointer) & LOW32 if pointer < self.memory.size else LOW32

    def _eptp_enters(self, eptp: int) -> bool:
        return ept_pointer_valid(eptp, self.profile) and ept_pointer_reserved(eptp, self.profile)

    def _field(self, encoding: int) -> VmcsField | None:
        """Return the field that `encoding` reaches on this processor, None if there is none."""
        try:
            field = field_by_encoding(encoding)
        except MisuseError:  # a guest's number: for it the lookup is no misuse
            return None
        return field if field_exists(field, self.profile) else None
