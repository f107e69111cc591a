"""Golden vectors: what Bochs did, recorded in files of this package, and the processor that it was.

The files say which oracle made them, with its CPUID and VMX capability MSRs; tools/bochs_vectors makes them anew.
"""

import gzip
import json
from importlib.resources import files
from typing import Any

from quire.arch import LOW32, Allowed, CpuProfile, VmxCapabilities, VmxMsr
from quire.arch.capabilities import VMX_BASIC, VMX_VMCS_ENUM

__all__ = ["about", "bochs_profile", "vectors"]


def vectors(name: str) -> dict[str, Any]:
    """Return the contents of the vectors called `name`, ``ept`` or ``entry``."""
    raw = (files("quire.testing") / "vectors" / f"bochs_{name}.json.gz").read_bytes()
    return dict(json.loads(gzip.decompress(raw)))


def about(made: dict[str, Any]) -> str:
    """Return a line that says where vectors come from."""
    origin = made["about"]
    return f"{origin['oracle']}, {origin['date']}, {origin['command']}"


def bochs_profile(made: dict[str, Any]) -> CpuProfile:
    """Return the processor that Bochs was, from the CPUID and the capability MSRs that it reported."""
    origin = made["about"]
    msrs = {int(number, 0): value for number, value in origin["capabilities"].items()}
    cpuid = {int(leaf, 0): registers for leaf, registers in origin["cpu"].items()}

    def allowed(msr: VmxMsr) -> Allowed:
        return Allowed(msrs[msr] & LOW32, msrs[msr] >> 32)

    return CpuProfile(
        name="bochs",
        title="What Bochs reported",
        vendor="Bochs",
        maxphyaddr=cpuid[0x8000_0008][0] & 0xFF,
        linear_bits=cpuid[0x8000_0008][0] >> 8 & 0xFF,
        page_1g=bool(cpuid[0x8000_0001][3] >> 26 & 1),
        nx=bool(cpuid[0x8000_0001][3] >> 20 & 1),
        rtm=bool(cpuid[7][1] >> 11 & 1) if 7 in cpuid else False,
        ept_caps=msrs[VmxMsr.EPT_VPID_CAP],
        tlbs=(),
        vmx=VmxCapabilities(
            pin=allowed(VmxMsr.TRUE_PINBASED_CTLS),
            primary=allowed(VmxMsr.TRUE_PROCBASED_CTLS),
            secondary=allowed(VmxMsr.PROCBASED_CTLS2),
            tertiary=Allowed(0, 0),
            exit=allowed(VmxMsr.TRUE_EXIT_CTLS),
            secondary_exit=Allowed(0, 0),
            entry=allowed(VmxMsr.TRUE_ENTRY_CTLS),
            vm_functions=Allowed(0, msrs[VmxMsr.VMFUNC]),
            cr0=Allowed(msrs[VmxMsr.CR0_FIXED0], msrs[VmxMsr.CR0_FIXED1]),
            cr4=Allowed(msrs[VmxMsr.CR4_FIXED0], msrs[VmxMsr.CR4_FIXED1]),
            misc=msrs[VmxMsr.MISC],
            highest_index=VMX_VMCS_ENUM.get(msrs[VmxMsr.VMCS_ENUM], "highest_index"),
            any_error_code=bool(VMX_BASIC.get(msrs[VmxMsr.BASIC], "any_error_code")),
        ),
    )
