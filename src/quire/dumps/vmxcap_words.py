"""What KVM's script vmxcap says of controls, a line each, put back into the MSRs that it read.

``no`` is a control that must be 0, ``yes`` one that may be either, ``forced`` one that must be 1, ``default`` one that
is 1 by default. Its words of a control are not ours: each is known by a key of its own.
"""

import re

from quire.arch import LOW32
from quire.arch.capabilities import VmxMsr

__all__ = ["VMXCAP_SECTIONS", "VmxcapWords"]

#: Heading: the MSR that the section is about.
VMXCAP_SECTIONS = {
    "Basic VMX Information": VmxMsr.BASIC,
    "pin-based controls": VmxMsr.TRUE_PINBASED_CTLS,
    "primary processor-based controls": VmxMsr.TRUE_PROCBASED_CTLS,
    "secondary processor-based controls": VmxMsr.PROCBASED_CTLS2,
    "VM-Exit controls": VmxMsr.TRUE_EXIT_CTLS,
    "VM-Entry controls": VmxMsr.TRUE_ENTRY_CTLS,
    "Miscellaneous data": VmxMsr.MISC,
    "VPID and EPT capabilities": VmxMsr.EPT_VPID_CAP,
    "VM Functions": VmxMsr.VMFUNC,
}
_LINE = re.compile(r"(.{3,70}?)\s{1,60}(yes|no|default|forced|\d{1,10})$")
# vmxcap's words of each control, by its bit, in lower case.
_BITS: dict[VmxMsr, dict[str, int]] = {
    VmxMsr.TRUE_PINBASED_CTLS: {
        "external interrupt exiting": 0,
        "nmi exiting": 3,
        "virtual nmis": 5,
        "activate vmx-preemption timer": 6,
        "process posted interrupts": 7,
    },
    VmxMsr.TRUE_PROCBASED_CTLS: {
        "interrupt window exiting": 2,
        "use tsc offsetting": 3,
        "hlt exiting": 7,
        "invlpg exiting": 9,
        "mwait exiting": 10,
        "rdpmc exiting": 11,
        "rdtsc exiting": 12,
        "cr3-load exiting": 15,
        "cr3-store exiting": 16,
        "activate tertiary controls": 17,
        "cr8-load exiting": 19,
        "cr8-store exiting": 20,
        "use tpr shadow": 21,
        "nmi-window exiting": 22,
        "mov-dr exiting": 23,
        "unconditional i/o exiting": 24,
        "use i/o bitmaps": 25,
        "monitor trap flag": 27,
        "use msr bitmaps": 28,
        "monitor exiting": 29,
        "pause exiting": 30,
        "activate secondary control": 31,
        "activate secondary controls": 31,
    },
    VmxMsr.PROCBASED_CTLS2: {
        "virtualize apic accesses": 0,
        "enable ept": 1,
        "descriptor-table exiting": 2,
        "enable rdtscp": 3,
        "virtualize x2apic mode": 4,
        "enable vpid": 5,
        "wbinvd exiting": 6,
        "unrestricted guest": 7,
        "apic register emulation": 8,
        "virtual interrupt delivery": 9,
        "pause-loop exiting": 10,
        "rdrand exiting": 11,
        "enable invpcid": 12,
        "enable vm functions": 13,
        "vmcs shadowing": 14,
        "enable encls exiting": 15,
        "rdseed exiting": 16,
        "enable pml": 17,
        "ept-violation #ve": 18,
        "conceal non-root operation from pt": 19,
        "enable xsaves/xrstors": 20,
        "mode-based execute control (xs/xu)": 22,
        "sub-page write permissions": 23,
        "gpa translation for pt": 24,
        "tsc scaling": 25,
        "user wait and pause": 26,
        "enable pconfig": 27,
        "enable enclv exiting": 28,
    },
    VmxMsr.TRUE_EXIT_CTLS: {
        "save debug controls": 2,
        "host address-space size": 9,
        "load ia32_perf_global_ctrl": 12,
        "acknowledge interrupt on exit": 15,
        "save ia32_pat": 18,
        "load ia32_pat": 19,
        "save ia32_efer": 20,
        "load ia32_efer": 21,
        "save vmx-preemption timer value": 22,
        "clear ia32_bndcfgs": 23,
        "conceal vm exits from pt": 24,
        "clear ia32_rtit_ctl": 25,
    },
    VmxMsr.TRUE_ENTRY_CTLS: {
        "load debug controls": 2,
        "ia-32e mode guest": 9,
        "ia-64 mode guest": 9,
        "entry to smm": 10,
        "deactivate dual-monitor treatment": 11,
        "load ia32_perf_global_ctrl": 13,
        "load ia32_pat": 14,
        "load ia32_efer": 15,
        "load ia32_bndcfgs": 16,
        "conceal vm entries from pt": 17,
        "load ia32_rtit_ctl": 18,
    },
}
#: What a control must be, and may be, by vmxcap's word.
_ALLOWED = {"no": (0, 0), "yes": (0, 1), "default": (0, 1), "forced": (1, 1)}
_HIGH = 32


class VmxcapWords:
    """The words of one run of vmxcap, as far as they were read."""

    def __init__(self) -> None:
        self.msr: VmxMsr | None = None
        self._said: dict[VmxMsr, dict[int, str]] = {}

    def begin(self, text: str) -> bool:
        """Begin the section that `text` is the heading of; return whether it is one."""
        found = VMXCAP_SECTIONS.get(text)
        if found is not None:
            self.msr = found
        return found is not None

    def take(self, text: str) -> bool:
        """Take a line of the section; return whether it is one."""
        found = _LINE.match(text) if self.msr is not None else None
        if found is None or self.msr is None:
            return False
        bit = _BITS.get(self.msr, {}).get(found[1].strip().lower())
        if bit is not None and found[2] in _ALLOWED:
            self._said.setdefault(self.msr, {})[bit] = found[2]
        return True

    def msrs(self) -> dict[VmxMsr, int]:
        """Return the MSRs of the controls; bits of which nothing was said may be either."""
        found = {}
        for msr, said in self._said.items():
            must, may = 0, LOW32
            for bit, word in said.items():
                least, most = _ALLOWED[word]
                must |= least << bit
                may &= ~((1 - most) << bit)
            found[msr] = may << _HIGH | must
        return found
