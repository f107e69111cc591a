"""The VMCS of a process guest as it first enters: ring 3, 64-bit, with NX and write protection on.

Quire plays the guest's kernel, so descriptor tables and TSS are never read; they only have to be what VM entry
takes. The host state is that of a 64-bit host, and as little read: Quire itself is what a VM exit returns to.
"""

from quire.arch import (
    ACCESS_RIGHTS,
    CR0,
    CR4,
    EFER,
    ENTRY_CONTROLS,
    EXIT_CONTROLS,
    LOW32,
    NO_VMCS,
    PIN_BASED,
    PRIMARY_CONTROLS,
    RFLAGS,
    SECONDARY_CONTROLS,
    CpuProfile,
)

__all__ = ["process_state"]

_USER_CS, _USER_SS = 0x33, 0x2B
_HOST_CS, _HOST_SS, _TR = 0x10, 0x18, 0x40
_TSS_LIMIT = 0x67
_CODE, _DATA, _BUSY_TSS = 11, 3, 11  # segment types
_CR0 = CR0.encode(PE=1, MP=1, ET=1, NE=1, WP=1, AM=1, PG=1)
_CR4 = CR4.encode(PAE=1, OSFXSR=1, OSXMMEXCPT=1, VMXE=1)
_EFER = EFER.encode(SCE=1, LME=1, LMA=1, NXE=1)


def process_state(profile: CpuProfile, vpid: int) -> dict[str, int]:
    """Return the fields of a VMCS that enters on `profile` once RIP and CR3 are set; all others are 0."""
    return {**_controls(profile, vpid), **_guest_registers(), **_guest_segments(), **_host()}


def _controls(profile: CpuProfile, vpid: int) -> dict[str, int]:
    vmx = profile.vmx
    return {
        "pin_based_controls": vmx.pin.adjust(PIN_BASED.encode(external_interrupt_exiting=1, nmi_exiting=1)),
        "primary_processor_based_controls": vmx.primary.adjust(
            PRIMARY_CONTROLS.encode(hlt_exiting=1, unconditional_io_exiting=1, activate_secondary_controls=1)
        ),
        "secondary_processor_based_controls": vmx.secondary.adjust(
            SECONDARY_CONTROLS.encode(enable_vpid=vpid != 0)
        ),
        "vm_entry_controls": vmx.entry.adjust(ENTRY_CONTROLS.encode(ia32e_guest=1, load_efer=1)),
        "vm_exit_controls": vmx.exit.adjust(
            EXIT_CONTROLS.encode(host_address_space_size=1, save_efer=1, load_efer=1)
        ),
        "virtual_processor_identifier": vpid,
        "vmcs_link_pointer": NO_VMCS,
    }


def _guest_registers() -> dict[str, int]:
    return {
        "guest_cr0": _CR0,
        "guest_cr4": _CR4,
        "guest_ia32_efer": _EFER,
        "guest_rflags": RFLAGS.encode(always_1=1, IF=1),
    }


def _guest_segments() -> dict[str, int]:
    flat = {"S": 1, "DPL": 3, "P": 1, "G": 1}
    state = {
        "guest_cs_selector": _USER_CS,
        "guest_cs_limit": LOW32,
        "guest_cs_access_rights": ACCESS_RIGHTS.encode(type=_CODE, L=1, **flat),
        "guest_ss_selector": _USER_SS,
        "guest_ss_limit": LOW32,
        "guest_ss_access_rights": ACCESS_RIGHTS.encode(type=_DATA, DB=1, **flat),
        "guest_tr_selector": _TR,
        "guest_tr_limit": _TSS_LIMIT,
        "guest_tr_access_rights": ACCESS_RIGHTS.encode(type=_BUSY_TSS, P=1),
    }
    for segment in ("ds", "es", "fs", "gs", "ldtr"):
        state[f"guest_{segment}_access_rights"] = ACCESS_RIGHTS.mask("unusable")
    return state


def _host() -> dict[str, int]:
    return {
        "host_cr0": _CR0,
        "host_cr4": _CR4,
        "host_ia32_efer": _EFER,
        "host_cs_selector": _HOST_CS,
        "host_ss_selector": _HOST_SS,
        "host_tr_selector": _TR,
    }
