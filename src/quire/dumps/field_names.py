"""VMCS fields by the names that people give them: Linux's constants, HAXM's, ia32-doc's, the manual's titles, our own.

A name becomes a key: words in lower case, abbreviations written out, words that tell nothing left out. Our names become
keys in the same way, so that only names which differ in more than spelling are listed.
"""

import re
from functools import cache, lru_cache

from quire.arch import VMCS_FIELDS, VmcsField

__all__ = ["field_of", "name_key"]

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORDS = re.compile(r"[a-z]{1,100}|\d{1,100}")
_LONGEST_NAME = 100
#: Words and what they are written out to, in this order; each is looked for as whole words.
_PHRASES = (
    ("vmexit", "vm exit"),
    ("vmentry", "vm entry"),
    ("ctls", "controls"),
    ("ctrls", "controls"),
    ("ctrl", "controls"),
    ("control", "controls"),
    ("perf global controls", "perf global"),
    ("rtit ctl", "rtit"),
    ("lbr ctl", "lbr"),
    ("vm execution controls", "controls"),
    ("vm exec controls", "controls"),
    ("execution controls", "controls"),
    ("exec controls", "controls"),
    ("exec", "controls"),
    ("vm function controls", "vmfunc"),
    ("processor based", "cpu"),
    ("proc based", "cpu"),
    ("cpu based", "cpu"),
    ("processor controls", "cpu controls"),
    ("proc controls", "cpu controls"),
    ("primary cpu", "cpu"),
    ("secondary cpu controls", "secondary controls"),
    ("tertiary cpu controls", "tertiary controls"),
    ("pin based", "pin"),
    ("primary vm exit", "vm exit"),
    ("ar bytes", "rights"),
    ("access rights", "rights"),
    ("ar", "rights"),
    ("attributes", "rights"),
    ("attr", "rights"),
    ("sel", "selector"),
    ("addr", "address"),
    ("pointer", "ptr"),
    ("eptp list", "epts"),
    ("eptp index", "eptindex"),
    ("eptp", "ept ptr"),
    ("ept ptr ept ptr", "ept ptr"),
    ("interruption", "intr"),
    ("interrupt", "intr"),
    ("information", "info"),
    ("instruction", "instr"),
    ("exitinfo", "exit info"),
    ("exit info", "exit"),
    ("len", "length"),
    ("err", "error"),
    ("pdptr", "pdpte"),
    ("dbg", "debug"),
    ("dbe", "debug exceptions"),
    ("vpid", "virtual processor identifier"),
    ("virtual processor id", "virtual processor identifier"),
    ("identifier virtual processor identifier", "identifier"),
    ("link ptr", "link"),
    ("vmcs link", "vmlink"),
    ("target val", "target value"),
    ("bitmaps", "bitmap"),
    ("bitmap of io", "io bitmap"),
    ("i o", "io"),
    ("desc", "descriptor"),
    ("nv", "vector"),
    ("notification vector", "vector"),
    ("xss exit", "xss exiting"),
    ("interruptibility info", "interruptibility"),
    ("interruptibility state", "interruptibility"),
    ("gpa", "guest physical"),
    ("gla", "guest linear"),
    ("vm instr error code", "vm instr error"),
    ("vmx instr error", "vm instr error"),
    ("vmx", ""),
    ("preemption timer value", "preemption timer"),
    ("activity state", "activity"),
    ("ssp table", "ssptable"),
    ("s cet", "scet"),
)
_TELL_NOTHING = frozenset(
    {"vmcs", "field", "full", "the", "of", "for", "ia", "32", "vm", "address", "page", "register", "code"}
)
_ADDRESS_SIZE = re.compile(r"^(?:vmx_)?vmcs(?:16|32|64)?[_ ](?:ctrl_|control_)?|^vmcs[_ ]?", re.IGNORECASE)
#: Names that no spelling leads to, as keys.
_OTHER_NAMES = {
    "guest_interrupt_status": ("INTERRUPT_STATUS",),
    "pml_index": ("GUEST_PML_INDEX", "GUEST_PAGE_MODIFICATION_LOG_INDEX"),
    "cr0_guest_host_mask": ("CR0_MASK",),
    "cr4_guest_host_mask": ("CR4_MASK",),
    "cr3_target_value_0": ("CR3_TARGET_VAL_BASE",),
    "instruction_timeout_control": ("NOTIFY_WINDOW",),
    "vm_exit_instruction_information": ("INSTRUCTION_INFO",),
    "vm_exit_instruction_length": ("INSTRUCTION_LENGTH",),
    "idt_vectoring_information": ("EXIT_IDT_VECTORING", "IDT_VECTORING"),
    "idt_vectoring_error_code": ("EXIT_IDT_VECTORING_ERROR_CODE",),
    "vm_instruction_error": ("INSTRUCTION_ERROR",),
    "guest_physical_address": ("EXIT_GUEST_PHYSICAL_ADDRESS",),
    "guest_linear_address": ("EXIT_GUEST_LINEAR_ADDRESS",),
    "vmcs_link_pointer": ("GUEST_VMCS_LINK_POINTER", "LINK_POINTER"),
    "virtualization_exception_information_address": ("VE_INFORMATION_ADDRESS", "VIRT_EXCEPTION_INFO"),
    "guest_ia32_interrupt_ssp_table_address": ("GUEST_INTR_SSP_TABLE",),
    "vm_entry_exception_error_code": ("VM_ENTRY_ERROR_CODE",),
    "vm_exit_interruption_error_code": ("VM_EXIT_INFO_EXCEPTION_ERROR_CODE",),
    "posted_interrupt_notification_vector": ("POSTED_INTR_NV", "POSTED_INTERRUPT_VECTOR"),
    "vm_function_controls": ("VMFUNC_CONTROLS", "VM_FUNC_CONTROLS"),
    "exit_reason": ("REASON_FOR_EXIT",),
    "guest_ia32_efer": ("GUEST_MSR_EFER",),
    "guest_pending_debug_exceptions": ("GUEST_PENDING_DEBUG",),
    "secondary_processor_based_controls": ("SECONDARY_EXEC",),
    **{
        f"io_{register}": (f"EXIT_IO_{register}", f"EXIT_IO_E{register[1:]}")
        for register in ("rcx", "rsi", "rdi", "rip")
    },
}


def name_key(name: str) -> str:
    """Return what `name` has in common with every other spelling of it."""
    text = _CAMEL.sub("_", _ADDRESS_SIZE.sub("", name.strip()[:_LONGEST_NAME]))
    joined = f" {' '.join(_WORDS.findall(text.lower()))} "
    for phrase, full in _PHRASES:
        joined = joined.replace(f" {phrase} ", f" {full} ")
    return " ".join(word for word in joined.split() if word not in _TELL_NOTHING)


@cache
def _by_key() -> dict[str, VmcsField]:
    fields = {field.name: field for field in VMCS_FIELDS}
    found = {name_key(other): fields[name] for name, others in _OTHER_NAMES.items() for other in others}
    return found | {name_key(field.name): field for field in VMCS_FIELDS}


@lru_cache(maxsize=4096)  # a log says the same names again and again
def field_of(name: str) -> VmcsField | None:
    """Return the field that `name` means, None if it means none."""
    return _by_key().get(name_key(name)) if name[:1].isalpha() else None
