"""A VMCS as hypervisors print it in three sections: KVM's dump_vmcs, Xen's vmcs_dump, and those that copied either.

Both print labels with values, some with 0x and some without, each padded to a width: fewer digits are a value that was
cut. Labels mean different fields in the sections of the guest and of the host.
"""

import re

from quire.arch import field_by_name
from quire.dumps.lines import Line
from quire.dumps.vmcs_dump import VmcsDump

__all__ = ["VmcsText"]

_SECTIONS = {"guest state": "guest", "host state": "host", "control state": "control"}
_HEADING = re.compile(r"\*{2,3} (Guest|Host|Control) State \*{2,3}$", re.IGNORECASE)
_ADDRESS = re.compile(
    r"VMCS (?:[0-9a-fx]{1,18}|\(_{1,8}ptrval_{1,8}\)), last attempted VM-entry on CPU (\d{1,6})$"
)
_AREAS = re.compile(r"\*{3,20} VMCS Areas? \*{3,20}$|(?:>>> )?Domain \d{1,6} <<<$|VCPU \d{1,6}$")
_END = re.compile(r"\*{20,80}$")

# Label: field and digits that the printers pad it to.
_SYSENTER = {
    "Sysenter RSP": ("ia32_sysenter_esp", 16),
    "CS:RIP": ("ia32_sysenter_cs", 4),
}
_SSP_TABLE = (
    "ISST",
    "SSP TABLE",
    "INTR SSP TABLE",
)  # Xen's word, Linux's, that of Linux before it was merged
# Of FRED's state; RSP0 beside them is an MSR and no field.
_FRED = {
    "config": ("ia32_fred_config", 16),
    "stack_levels": ("ia32_fred_stklvls", 16),
    **{f"RSP{n}": (f"ia32_fred_rsp{n}", 16) for n in (1, 2, 3)},
}
_LABELS: dict[str, dict[str, tuple[str, int]]] = {
    "guest": {
        "CR3": ("guest_cr3", 16),
        **{f"PDPT{letter}{n}": (f"guest_pdpte{n}", 16) for letter in "RE" for n in range(4)},
        "RSP": ("guest_rsp", 16),
        "RIP": ("guest_rip", 16),
        "RFLAGS": ("guest_rflags", 8),
        "DR7": ("guest_dr7", 16),
        "EFER": ("guest_ia32_efer", 16),
        "EFER(VMCS)": ("guest_ia32_efer", 16),
        "PAT": ("guest_ia32_pat", 16),
        "DebugCtl": ("guest_ia32_debugctl", 16),
        "DebugExceptions": ("guest_pending_debug_exceptions", 16),
        "PerfGlobCtl": ("guest_ia32_perf_global_ctrl", 16),
        "BndCfgS": ("guest_ia32_bndcfgs", 16),
        "Interruptibility": ("guest_interruptibility_state", 8),
        "ActivityState": ("guest_activity_state", 8),
        "InterruptStatus": ("guest_interrupt_status", 4),
        "PreemptionTimer": ("vmx_preemption_timer_value", 8),
        "SM Base": ("guest_smbase", 8),
        "S_CET": ("guest_ia32_s_cet", 16),
        "SSP": ("guest_ssp", 16),
        **{one: ("guest_ia32_interrupt_ssp_table_address", 16) for one in _SSP_TABLE},
        **{label: (f"guest_{name}", digits) for label, (name, digits) in (_SYSENTER | _FRED).items()},
    },
    "host": {
        "RIP": ("host_rip", 16),
        "RSP": ("host_rsp", 16),
        **{one: (f"host_{one.lower()}_selector", 4) for one in ("CS", "SS", "DS", "ES", "FS", "GS", "TR")},
        **{f"{one}Base": (f"host_{one.lower()}_base", 16) for one in ("FS", "GS", "TR")},
        "GDTBase": ("host_gdtr_base", 16),
        "IDTBase": ("host_idtr_base", 16),
        **{f"CR{n}": (f"host_cr{n}", 16) for n in (0, 3, 4)},
        "EFER": ("host_ia32_efer", 16),
        "PAT": ("host_ia32_pat", 16),
        "PerfGlobCtl": ("host_ia32_perf_global_ctrl", 16),
        "S_CET": ("host_ia32_s_cet", 16),
        "SSP": ("host_ssp", 16),
        **{one: ("host_ia32_interrupt_ssp_table_address", 16) for one in _SSP_TABLE},
        **{label: (f"host_{name}", digits) for label, (name, digits) in (_SYSENTER | _FRED).items()},
    },
    "control": {
        "PinBased": ("pin_based_controls", 8),
        "CPUBased": ("primary_processor_based_controls", 8),
        "SecondaryExec": ("secondary_processor_based_controls", 8),
        "TertiaryExec": ("tertiary_processor_based_controls", 16),
        "EntryControls": ("vm_entry_controls", 8),
        "ExitControls": ("vm_exit_controls", 8),
        "SecondaryExitControls": ("secondary_vm_exit_controls", 16),
        "ExceptionBitmap": ("exception_bitmap", 8),
        "PFECmask": ("page_fault_error_code_mask", 8),
        "PFECmatch": ("page_fault_error_code_match", 8),
        "reason": ("exit_reason", 8),
        "qualification": ("exit_qualification", 16),
        "TSC Offset": ("tsc_offset", 16),
        "TSC Multiplier": ("tsc_multiplier", 16),
        "TPR Threshold": ("tpr_threshold", 2),
        "APIC-access addr": ("apic_access_address", 16),
        "virt-APIC addr": ("virtual_apic_address", 16),
        "PostedIntrVec": ("posted_interrupt_notification_vector", 2),
        "EPT pointer": ("ept_pointer", 16),
        "EPTP index": ("eptp_index", 4),
        "PLE Gap": ("ple_gap", 8),
        "Window": ("ple_window", 8),
        "Virtual processor ID": ("virtual_processor_identifier", 4),
        "VE info address": ("virtualization_exception_information_address", 16),
        "VMfunc controls": ("vm_function_controls", 16),
        **{f"CR3 target{n}": (f"cr3_target_value_{n}", 16) for n in range(4)},
    },
}
# Three lines of events have the same labels: the word before the colon says whose they are.
_EVENTS = {
    "VMEntry": (
        "vm_entry_interruption_information",
        "vm_entry_exception_error_code",
        "vm_entry_instruction_length",
        "injected_event_data",
    ),
    "VMExit": (
        "vm_exit_interruption_information",
        "vm_exit_interruption_error_code",
        "vm_exit_instruction_length",
        "",
    ),
    "IDTVectoring": ("idt_vectoring_information", "idt_vectoring_error_code", "", "original_event_data"),
}
_EVENT = re.compile(
    r"(?:(VMEntry|VMExit|IDTVectoring): ?)?(?=intr_info=|info=|errcode=|ilen=|event_data=)(.*)"
)
# Label: which of the fields above, and digits.
_EVENT_LABELS = {
    "intr_info": (0, 8),
    "info": (0, 8),
    "errcode": (1, 8),
    "ilen": (2, 8),
    "event_data": (3, 16),
}
_SHADOWED = re.compile(r"(?:(CR[04]): ?)?(?=actual ?=|shadow ?=|gh_mask ?=)(.*)")
_SHADOW_LABELS = {
    "actual": "guest_cr{}",
    "shadow": "cr{}_read_shadow",
    "gh_mask": "cr{}_guest_host_mask",
}
_SEGMENT = re.compile(r"(?:([C-GS]S|LDTR|GDTR|IDTR|TR): {0,40}(?!RIP)|(?=(?:attr|limit|base)=))(.*)")
_COLUMNS = re.compile(r"(?:([0-9a-f]{4}) ([0-9a-f]{5}) )?([0-9a-f]{8}) ([0-9a-f]{16})$")
_SEGMENT_LABELS = {
    "sel": ("selector", 4),
    "attr": ("access_rights", 5),
    "limit": ("limit", 8),
    "base": ("base", 16),
}
_NOT_THE_FIELD = re.compile(r"EFER ?= ?0x[0-9a-f]{16} \((?:autoload|effective)\)$")
_MSR_AREA = re.compile(
    r"MSR (?:guest|host) auto(?:load|store):$|\d{1,4}: msr=0x[0-9a-f]{8} value=0x[0-9a-f]{16}$"
)
_TABLE_HEAD = re.compile(r"sel {1,9}attr {1,9}limit {1,9}base$")
_VE_INFORMATION = re.compile(r"ve_info: 0x[0-9a-f]{8} .{0,80}$")  # what lies in memory, no field
_SVI = re.compile(r"SVI\|RVI = [0-9a-f]{2}\|[0-9a-f]{2}(?:$| (?=TPR))")
_PAIR = r"(?<![\w:])({}) {{0,5}}= {{0,8}}(?:0x)?([0-9a-fA-F]{{0,20}})(?::([0-9a-fA-F]{{0,20}}))?"
_TAIL_WORDS = 4
_LABEL_WORD = re.compile(r"[A-Za-z][\w|:()-]{0,19}=?$|=$")


def _pairs(labels: list[str]) -> re.Pattern[str]:
    longest_first = sorted(labels, key=len, reverse=True)
    return re.compile(_PAIR.format("|".join(map(re.escape, longest_first))))


def _tail(text: str) -> str:
    """Return the words at the end of `text` that may be the beginning of a pair."""
    words = text.split(" ")[-_TAIL_WORDS:]
    behind = next((n for n in range(len(words), 0, -1) if not _LABEL_WORD.match(words[n - 1])), 0)
    return " ".join(words[behind:])


_PAIRS = {section: _pairs(list(labels)) for section, labels in _LABELS.items()}
_EVENT_PAIRS = _pairs(list(_EVENT_LABELS))
_SHADOW_PAIRS = _pairs(list(_SHADOW_LABELS))
_SEGMENT_PAIRS = _pairs(list(_SEGMENT_LABELS))


class VmcsText(VmcsDump):
    """The sections Guest State, Host State and Control State."""

    title = "VMCS in sections, as KVM's dump_vmcs and Xen's vmcs_dump print it"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self.section = ""
        self.register = ""  # whose shadow and mask a line that was wrapped goes on with
        self.segment = ""  # likewise
        self.event = ""  # whose numbers such a line goes on with
        self.tail = ""  # a label at the end of the line before, whose value may follow
        self.begun = False

    @classmethod
    def begins(cls, text: str) -> bool:
        return bool(_HEADING.match(text) or _ADDRESS.match(text) or _AREAS.match(text))

    def take(self, line: Line) -> bool:
        text = line.text
        heading = _HEADING.match(text)
        if heading is not None:
            section = _SECTIONS[f"{heading[1].lower()} state"]
            if section in ("guest", self.section) and self.section:
                return False
            self.section = section
            return True
        if _ADDRESS.match(text):
            first, self.begun = not self.begun and not self.section, True
            return first
        if _AREAS.match(text) or not self.section:
            return not self.section and bool(_AREAS.match(text))
        return self._ignored(text) or self._take_values(self._unwrapped(line))

    def _unwrapped(self, line: Line) -> Line:
        """Return the line behind the label that a mail program left on the line before, if its value follows."""
        tail, self.tail = self.tail, _tail(line.text)
        joined = f"{tail} {line.text}"
        pairs = _PAIRS[self.section].finditer(joined) if tail else iter(())
        found = next((one for one in pairs if one.start() < len(tail) < one.end() and one[2]), None)
        if found is None:
            return line
        name, _ = _LABELS[self.section][found[1]]
        self.damaged = [one for one in self.damaged if (one.name, one.line) != (name, self.lines[-1])]
        return Line(line.number, joined[found.start() :], line.context)

    @staticmethod
    def _ignored(text: str) -> bool:
        """Return whether `text` belongs to a dump and holds no field of the VMCS."""
        return any(one.match(text) for one in (_NOT_THE_FIELD, _MSR_AREA, _TABLE_HEAD, _VE_INFORMATION, _END))

    def _take_values(self, line: Line) -> bool:
        text = _SVI.sub("", line.text)
        if not text:
            return True
        if self.section == "guest":
            if (found := _SHADOWED.match(text)) is not None:
                return self._take_shadowed(line, found)
            if (found := _SEGMENT.match(text)) is not None:
                return self._take_segment(line, found)
        if self.section == "control" and (found := _EVENT.match(text)) is not None:
            return self._take_event(line, found)
        labels = _LABELS[self.section]
        seen = False
        for pair in _PAIRS[self.section].finditer(text):
            seen = True
            name, digits = labels[pair[1]]
            self._keep(line, name, pair[2], digits)
            if pair[1] == "CS:RIP":
                self._keep(line, name.replace("_cs", "_eip"), pair[3] or "", 16)
        return seen

    def _take_shadowed(self, line: Line, found: re.Match[str]) -> bool:
        self.register = found[1] or self.register
        if not self.register:
            return False
        for pair in _SHADOW_PAIRS.finditer(found[2]):
            self._keep(line, _SHADOW_LABELS[pair[1]].format(self.register[-1]), pair[2], 16)
        return True

    def _take_segment(self, line: Line, found: re.Match[str]) -> bool:
        self.segment = found[1] or self.segment
        if not self.segment:
            return False
        name, rest = f"guest_{self.segment.lower()}", found[2]
        columns = _COLUMNS.match(rest)
        if columns is not None:
            for (part, digits), value in zip(_SEGMENT_LABELS.values(), columns.groups(), strict=True):
                if value is not None:
                    self._keep(line, f"{name}_{part}", value, digits)
            return True
        seen = False
        for pair in _SEGMENT_PAIRS.finditer(rest):
            part, digits = _SEGMENT_LABELS[pair[1]]
            self._keep(line, f"{name}_{part}", pair[2], digits)
            seen = True
        if rest and not seen:
            self.damage(line, name, "the columns of the segment are not whole")
        return True

    def _take_event(self, line: Line, found: re.Match[str]) -> bool:
        self.event = found[1] or self.event
        if not self.event:
            return False
        fields = _EVENTS[self.event]
        for pair in _EVENT_PAIRS.finditer(found[2]):
            which, digits = _EVENT_LABELS[pair[1]]
            if fields[which]:
                self._keep(line, fields[which], pair[2], digits)
        return True

    def _keep(self, line: Line, name: str, text: str, digits: int) -> None:
        """Keep a value that is padded to `digits`; fewer of them are a value that was cut."""
        if len(text) < digits:
            self.damage(line, name, f"{len(text)} of {digits} digits are there")
            return
        value, bits = int(text, 16), field_by_name(name).bits
        if value >> bits:
            self.damage(line, name, f"{value:#x} does not fit in its {bits} bits")
        else:
            self.note(name, value, line)
