"""Guests that forget a flush and guests that do not: each rule broken once, each kept once."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from agreement import FAULTS
from ring0_guest import SWITCH, make, reported

from quire.arch import ExitReason
from quire.exits import RESUME, SKIP, ExitContext, Next, StopGuest
from quire.guest.boot.bare import FIRST_FREE, BareGuest, bare_config
from quire.machine import CachingMode
from quire.observe.flushes import StaleUse
from quire.paging import Rights
from quire.report import render_advice, render_findings
from quire.tlb import Operation
from quire.vcpu import Exit

#: 0x400000 to 0x402000 are pages at 0x300000 to 0x302000, which hold 10, 20, 30; RBX and RCX are the first two.
START = (
    FAULTS
    + SWITCH
    + """
    .macro control number, bits
        mov rax, cr\\number
        xor rax, \\bits
        mov cr\\number, rax
    .endm
    .macro root value, bits=0
        mov rax, (\\value) | (\\bits << 63)
        mov cr3, rax
    .endm
    .macro invpcid_ type, pcid, address
        mov rax, \\address
        mov [descriptor + 8], rax
        mov rax, \\pcid
        mov [descriptor], rax
        mov eax, \\type
        invpcid rax, [descriptor]
    .endm
    .set PGE, 0x80
    .set PCIDE, 0x20000
    .set SMEP, 0x100000
    .set TSD, 4
    jmp 1f
    descriptor: .quad 0, 0
1:  store 0x300000, 10
    store 0x301000, 20
    store 0x302000, 30
    store 0x203000, 0x300003
    store 0x203008, 0x301003
    store 0x203010, 0x302003
    mov rbx, 0x400000
    mov rcx, 0x401000
"""
)
END = "\nfinish\n"


@dataclass(frozen=True)
class Case:
    """`before`, then the rule that is broken or, with `flush`, kept, then `after`; what is found if it is broken."""

    name: str
    before: str
    flush: str
    after: str
    differs: str
    missing: Operation
    attempts: tuple[str, ...] = ()
    broken: str = ""  #: in place of `flush`, what does not do
    mapping: str = "translation"

    def source(self, *, kept: bool) -> str:
        return START + self.before + (self.flush if kept else self.broken) + self.after + END


EVERY = Rights.READ | Rights.WRITE | Rights.EXECUTE
INVLPG = "\ninvlpg [rbx]\n"
READ = "\nmov rax, [rbx]\n"
REMAP = READ + "\nstore 0x203000, 0x302003\n"
TRY_READ, TRY_WRITE = "\ntry mov rax, [rbx]\n", "\ntry mov qword ptr [rbx], 1\n"
GLOBAL = "\ncontrol 4, PGE\nstore 0x203000, 0x300003 | G\n" + READ + "\nstore 0x203000, 0x302003 | G\n"
PCIDS = "\ncontrol 4, PCIDE\n"
RELOAD = "\nmov rax, cr3\nmov cr3, rax\n"

CASES = (
    Case("another frame", REMAP, INVLPG, READ, "address", Operation.INVLPG),
    Case("another frame, CR3 loaded", REMAP, RELOAD, READ, "address", Operation.INVLPG),
    Case("a right that goes", "\nmov qword ptr [rbx], 1\nstore 0x203000, 0x300001\n", INVLPG, TRY_WRITE,
         "access", Operation.INVLPG),
    Case("a page that goes", READ + "\nstore 0x203000, 0\n", INVLPG, TRY_READ, "access", Operation.INVLPG),
    Case("a dirty flag that is cleared", "\nmov qword ptr [rbx], 1\nand qword ptr [0x203000], ~0x40\n", INVLPG,
         "\nmov qword ptr [rbx], 2\n", "dirty flag", Operation.INVLPG),
    Case("a memory type", READ + "\nor qword ptr [0x203000], 0x10\n", INVLPG, READ, "memory type", Operation.INVLPG),
    Case("another page table", READ + "\nstore 0x204000, 0x302003\nstore 0x202010, 0x204007\n", INVLPG, READ,
         "address", Operation.INVLPG),
    Case("another page table, of a page not met before",
         READ + "\nstore 0x204008, 0x302003\nstore 0x202010, 0x204007\n", INVLPG, "\nmov rax, [rcx]\n",
         "address", Operation.INVLPG, mapping="paging-structure entry"),
    Case("a large page made small, and read-only",
         "\nstore 0x202018, 0x200000 | P | RW | PS\nmov rdi, 0x600000\nmov rax, [rdi]\nstore 0x204000, 0x200001\n"
         "store 0x202018, 0x204007\n", "\ninvlpg [rdi]\n", "\nmov rax, [rdi]\n", "page size", Operation.INVLPG),
    Case("a global page", GLOBAL, INVLPG, READ, "address", Operation.INVLPG,
         attempts=("MOV_CR3 keeps global pages",), broken=RELOAD),
    Case("a global page, CR4.PGE", GLOBAL, "\ncontrol 4, PGE\n", READ, "address", Operation.INVLPG,
         attempts=("MOV_CR4_OTHER invalidates nothing",), broken="\ncontrol 4, TSD\n"),
    Case("INVPCID, type 0", PCIDS + REMAP, "\ninvpcid_ 0, 0, 0x400000\n", READ, "address", Operation.INVLPG,
         attempts=("INVPCID_ADDRESS reaches address 0x401000 only",), broken="\ninvpcid_ 0, 0, 0x401000\n"),
    Case("INVPCID, type 1", PCIDS + REMAP, "\ninvpcid_ 1, 0, 0\n", READ, "address", Operation.INVLPG,
         attempts=("INVPCID_CONTEXT reaches PCID 0x1 only",), broken="\ninvpcid_ 1, 1, 0\n"),
    Case("INVPCID, types 2 and 3", PCIDS + GLOBAL, "\ninvpcid_ 2, 0, 0\n", READ, "address", Operation.INVLPG,
         attempts=("INVPCID_ALL_RETAINING_GLOBALS keeps global pages",), broken="\ninvpcid_ 3, 0, 0\n"),
    Case("bit 63 of CR3", PCIDS + REMAP, "\nroot 0x200000\n", READ, "address", Operation.INVLPG,
         attempts=("MOV_CR3_KEEP invalidates nothing",), broken="\nroot 0x200000, 1\n"),
    Case("another PCID", PCIDS + "\nroot 0x200001\n" + READ + "\nroot 0x200002\nstore 0x203000, 0x302003\n",
         "\ninvpcid_ 0, 1, 0x400000\n", "\nroot 0x200001, 1\n" + READ, "address", Operation.INVPCID_ADDRESS,
         attempts=("INVLPG reaches PCID 0x2 only", "MOV_CR3_KEEP invalidates nothing"), broken=INVLPG),
    Case("another root of a PCID",
         PCIDS + "\nmov rax, [0x200000]\nmov [0x206000], rax\n" + READ
         + "\nstore 0x206000, 0x207007\nstore 0x207000, 0x208007\nstore 0x208000, P | RW | PS\n"
         "store 0x208008, 0x200000 | P | RW | PS\nstore 0x208010, 0x204007\nstore 0x204000, 0x302003\n",
         "\nroot 0x206000\n", READ, "address", Operation.INVPCID_CONTEXT,
         attempts=("MOV_CR3_KEEP invalidates nothing",), broken="\nroot 0x206000, 1\n"),
    Case("PCIDs turned off", PCIDS + REMAP, "\ncontrol 4, PCIDE\n", READ, "address", Operation.INVLPG),
    Case("SMEP turned on", REMAP, "\ncontrol 4, SMEP\n", READ, "address", Operation.INVLPG),
)  # fmt: skip


Action = Callable[[BareGuest], None]


def found(
    source: str, mmu: str, caching: CachingMode = CachingMode.MODELLED, on_cpuid: Action | None = None
) -> BareGuest:
    """Return the guest that has run `source` checked; it is closed. `on_cpuid` is what the hypervisor does there."""
    guest = make(source, mmu, caching=caching, check_flushes=True)

    def cpuid(vcpu: ExitContext, stop: Exit) -> Next:
        assert on_cpuid is not None
        on_cpuid(guest)
        return SKIP

    def violation(vcpu: ExitContext, stop: Exit) -> Next:
        return RESUME if vcpu.mmu.back(stop.gpa) else StopGuest(stop)

    def restore(vcpu: ExitContext, stop: Exit) -> Next:
        """Give back a right that the action has taken."""
        mapped = vcpu.mmu.mapped
        assert mapped is not None
        if mapped.memory_map.target(stop.gpa) is None:
            return violation(vcpu, stop)
        mapped.memory_map.protect(stop.gpa, EVERY)
        return RESUME

    if on_cpuid is not None:
        guest.machine.handlers[ExitReason.CPUID] = cpuid
        guest.machine.handlers[ExitReason.EPT_VIOLATION] = restore
    try:
        outcome = guest.run()
    finally:
        guest.close()
    assert outcome.reason == "exited", outcome
    return guest


def findings(guest: BareGuest) -> list[StaleUse]:
    assert guest.vcpu.flush_check is not None
    return guest.vcpu.flush_check.findings


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rule_is_broken(case: Case) -> None:
    mmu = "ept" if len(case.name) % 2 else "native"
    seen = findings(found(case.source(kept=False), mmu))
    assert [(one.kind, one.missing) for one in seen] == [(case.differs, case.missing)]
    record = seen[0].record(lambda rip: None)
    attempts = tuple(f"{one['operation']} {one['spared']}" for one in record["attempts"])
    assert attempts == case.attempts
    assert record["mapping"]["kind"] == case.mapping
    assert (record["used"], record["count"]) == (False, 1)
    json.dumps(record)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rule_is_kept(case: Case) -> None:
    mmu = "native" if len(case.name) % 2 else "ept"
    assert findings(found(case.source(kept=True), mmu)) == []


NOT_REQUIRED = {
    "a page that comes": "\nstore 0x203018, 0x302003\nmov rax, [0x403000]\n",
    "rights that come": (
        "\nstore 0x203000, 0x300001\nmov rax, [rbx]\nstore 0x203000, 0x300003\nmov qword ptr [rbx], 1\n"
    ),
    "an accessed flag": "\nmov rax, [rbx]\nand qword ptr [0x203000], ~0x20\nmov rax, [rbx]\n",
    "a page size alone": (
        "\nstore 0x202018, 0x200000 | P | RW | PS\nmov rax, [0x600000]\nstore 0x204000, 0x200003\n"
        "store 0x202018, 0x204007\nmov rax, [0x600000]\n"
    ),
    "a fault drops what it met": (
        "\nstore 0x203000, 0x300001\nmov rax, [rbx]\nstore 0x203000, 0x301001\ntry mov qword ptr [rbx], 1\n"
        "mov rax, [rbx]\n"
    ),
    "CR0.WP and RFLAGS are not cached": (
        "\nstore 0x203000, 0x300001\nmov rax, [rbx]\ncontrol 0, 0x10000\nmov qword ptr [rbx], 1\n"
        "control 0, 0x10000\ntry mov qword ptr [rbx], 1\n"
    ),
}


@pytest.mark.parametrize("name", NOT_REQUIRED)
def test_what_requires_no_flush(name: str) -> None:
    seen = findings(found(START + NOT_REQUIRED[name] + END, "ept"))
    assert not seen, render(seen)


def render(seen: list[StaleUse]) -> str:
    return render_findings([one.record(lambda rip: None) for one in seen])


def moved(guest: BareGuest) -> None:
    """Guest-physical 0x300000 moves to where 0x302000 lies."""
    ept = guest.vcpu.mmu.memory_map
    target = ept.target(0x302000)
    assert target is not None
    ept.unmap(0x300000)
    ept.map(0x300000, target, 0x1000, EVERY)


def write_protected(guest: BareGuest) -> None:
    guest.vcpu.mmu.memory_map.protect(0x300000, Rights.READ | Rights.EXECUTE)


def another_guest(guest: BareGuest) -> None:
    guest.vcpu.vmcs.write("guest_cr3", 0x206000)


def edited(guest: BareGuest) -> None:
    """The hypervisor writes the guest's table, as a debugger would."""
    guest.write(0x203000, (0x302003).to_bytes(8, "little"))


TWO_ROOTS = (
    "\nstore 0x206000, 0x207007\nstore 0x207000, 0x208007\nstore 0x208000, P | RW | PS\n"
    "store 0x208008, 0x200000 | P | RW | PS\nstore 0x208010, 0x204007\nstore 0x204000, 0x302003\n"
)
HYPERVISORS: dict[str, tuple[str, Action, str, str, Operation]] = {
    "EPT maps another page": (READ, moved, READ, "address", Operation.INVEPT_CONTEXT),
    "EPT maps another page, INVLPG does not do": (
        READ, moved, INVLPG + READ, "address", Operation.INVEPT_CONTEXT,
    ),
    "EPT takes a right": (
        "\nmov qword ptr [rbx], 1\n", write_protected, "\nmov qword ptr [rbx], 1\n", "access",
        Operation.INVEPT_CONTEXT,
    ),
    "the guest's table is edited": (READ, edited, READ, "address", Operation.INVVPID_ADDRESS),
    "a VPID is used again": (READ + TWO_ROOTS, another_guest, READ, "address", Operation.INVVPID_CONTEXT),
}  # fmt: skip


@pytest.mark.parametrize("flushed", (False, True), ids=("broken", "kept"))
@pytest.mark.parametrize("name", HYPERVISORS)
def test_a_rule_of_the_hypervisor(name: str, flushed: bool) -> None:
    """CPUID exits, and its handler does what a hypervisor does behind the guest's back."""
    before, action, after, differs, missing = HYPERVISORS[name]

    def on_cpuid(guest: BareGuest) -> None:
        action(guest)
        if flushed:
            guest.machine.shoot_down(missing, gva=0x400000)

    seen = findings(found(START + before + "\ncpuid\n" + after + END, "ept", on_cpuid=on_cpuid))
    assert [(one.kind, one.missing) for one in seen] == ([] if flushed else [(differs, missing)])
    if not flushed and missing is not Operation.INVVPID_CONTEXT:
        assert seen[0].change is not None and seen[0].change.actor.kind == "hypervisor"


REMAPPED = """\
1. supervisor read of 0x400000 at rip 0x12172, vCPU 0, may use a stale translation: the tables give another address
   kept     combined mapping of 0x400000, 4 KiB, VPID 0x1, PCID 0x0, EP4TA 0x5000, since step 64: \
hpa 0x5011000, RWX, clean, 4 KiB, WB
   tables   hpa 0x5013000, RWX, clean, 4 KiB, WB
   changed  guest entry of level 1 at hpa 0x5014000 (gpa 0x203000), 0x0000000000300023 to 0x0000000000302003, \
by the guest at CPL 0 at rip 0x1216a, step 71
   missing  INVLPG for address 0x400000, PCID 0x0 (SDM 3A §4.10.4.1)
"""
GLOBAL_KEPT = """\
1. supervisor read of 0x400000 at rip 0x1219f, vCPU 0, uses a stale translation: the tables give another address
   kept     linear mapping of 0x400000, 4 KiB, VPID 0x1, PCID any, since step 20: \
hpa 0x300000, RWX, clean, 4 KiB, WB
   tables   hpa 0x302000, RWX, clean, 4 KiB, WB
   changed  guest entry of level 1 at hpa 0x203000 (gpa 0x203000), 0x0000000000300123 to 0x0000000000302103, \
by the guest at CPL 0 at rip 0x12191, step 27
   missing  INVLPG for address 0x400000 (SDM 3A §4.10.4.1); or a change of CR4.PGE; MOV to CR3 keeps global pages
   but      MOV to CR3, CR4.PCIDE = 0 or bit 63 = 0 at step 29 keeps global pages
"""


def test_the_text_of_findings() -> None:
    assert render(findings(found(START + REMAP + READ + END, "ept"))) == REMAPPED
    kept = found(START + PCIDS + GLOBAL + RELOAD + READ + END, "native", CachingMode.RETAIN)
    assert render(findings(kept)) == GLOBAL_KEPT


ADVICE = """\
INVLPG by the guest at rip 0x1217e: 3 times for nothing, needed once; dropped 12 mappings that the tables still say
"""


def test_flushes_that_nothing_needed() -> None:
    """Only the last of four at one place had to be."""
    loop = "\nmov r8d, 4\n2: mov rax, [rbx]\ncmp r8d, 1\njne 1f\nstore 0x203000, 0x302003\n1:"
    guest = found(START + loop + INVLPG + READ + "\ndec r8d\njnz 2b" + END, "ept")
    assert guest.vcpu.flush_check is not None
    assert findings(guest) == []
    assert render_advice(guest.vcpu.flush_check.record(lambda rip: None)["advice"]) == ADVICE


def test_what_may_be_given_is_given_in_retain_mode() -> None:
    """A guest without its flush sees the old page until it flushes, and a correct one sees no difference."""
    source = START + REMAP + "\nreport [rbx]\n" + INVLPG + "\nreport [rbx]\n" + END
    seen = {}
    for caching in CachingMode:
        for check in (False, True):
            guest = make(source, "native", caching=caching, check_flushes=check)
            try:
                seen[caching, check] = reported(guest.run())
            finally:
                guest.close()
    assert seen.pop((CachingMode.RETAIN, False)) == seen.pop((CachingMode.RETAIN, True)) == [10, 30]
    # Unchecked, the engine's own TLB may keep the page too: that is permitted.
    assert all(values in ([30, 30], [10, 30]) for values in seen.values())


def test_an_instruction_writes_two_tables() -> None:
    """One store over the border of two watched frames: each entry that it changes is noted."""
    source = (
        START
        + """
    store 0x202018, 0x204007                # 0x600000 is a page of the next table
    store 0x204000, 0x300003
    mov rdi, 0x600000
    mov rax, [rdi]
    mov rax, [0x5ff000 - 0x5ff000 + 0x400000]
    store 0x203ff8, 0x301003
    mov rax, [0x5ff000]
    mov rsi, 0x203ffc
    mov rax, 0x0030200300000000
    mov qword ptr [rsi], rax                # the high half of one entry, the low half of the next
"""
        + "\nmov rax, [rdi]\n"
        + END
    )
    seen = findings(found(source, "native"))
    assert [(one.kind, one.change and (hex(one.change.old), hex(one.change.new))) for one in seen] == [
        ("address", ("0x300023", "0x302003"))
    ]


def test_evictions_depend_on_the_seed_alone() -> None:
    """The pages of a loop are walked for again, in each run alike, and in a run with another seed differently."""
    loop = "\nmov r8d, 5\n2: mov edi, 0x300000\n1: mov rax, [rdi]\nadd edi, 0x1000\ncmp edi, 0x340000\njb 1b"
    source = START + loop + "\ndec r8d\njnz 2b" + END
    walks = []
    for seed in (1, 1, 3):
        guest = make(source, "native", caching=CachingMode.EVICT, seed=seed)
        try:
            walks.append(guest.run().events["walks"])
        finally:
            guest.close()
    assert walks[0] == walks[1] != walks[2]


@pytest.mark.parametrize("caching", list(CachingMode))
@pytest.mark.parametrize("checks", [False, True])
@pytest.mark.parametrize("mmu", ["native", "ept", "shadow"])
@pytest.mark.parametrize("shift", [21, 30])
def test_a_page_that_reaches_beyond_memory_is_used_to_its_end(
    mmu: str, caching: CachingMode, checks: bool, shift: int
) -> None:
    """What is kept of a large page gives the part that there is, and no more: the rest is outside memory."""
    memory = (8 << 20) + (1 << 20)  # the last 2 MiB page is there by half
    beyond = (8 << 20) + 0x180000 if shift == 21 else 0x20BE48D0
    code = b"\x48\x8b\x04\x25" + (0x800000).to_bytes(4, "little")  # mov rax, [0x800000]
    code += b"\x48\x8b\x0c\x25" + beyond.to_bytes(4, "little") + b"\xf4"  # mov rcx, [beyond]; hlt
    guest = BareGuest(code, bare_config(memory=memory, mmu=mmu, caching=caching, check_flushes=checks))
    try:
        if shift == 30:
            guest.write(0x3000, (0x87).to_bytes(8, "little"))
        else:
            guest.write(0x4020, (0x800087).to_bytes(8, "little"))
        outcome = guest.run()
        assert outcome.reason == "stopped", outcome
        assert guest.cpu.registers.read("rip") == FIRST_FREE + 8
    finally:
        guest.close()
