"""The Bochs side: runs under the Python that has bochscpu, reads jobs from standard input, writes what came of them.

Knows nothing of Quire. A job is a line of JSON: a VMCS (encoding and value of each field), words of memory, and cases.
An *entry* job tries a VM entry for each case, which changes fields and words; an *access* job enters once and, at the
instruction that makes the access, gives each case its own words. Each case runs in a process of its own, so that none
sees what another did, and one that crashes or hangs is only itself. One line of JSON comes back a case.
"""

import ctypes
import json
import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import bochscpu
import bochscpu.cpu
import bochscpu.memory

MEMORY, WORLD = 0x40_0000, 0x4_0000
TABLES, CODE, FIELDS = 0x20_0000, 0x21_0000, 0x22_0000
READ, ENCODINGS = 0x22_8000, 0x22_9000  # of the fields that the exit handler reads, as its code has them
VMXON, VMCS, STACK, CAPABILITIES, POINTERS = 0x23_0000, 0x23_1000, 0x24_0000, 0x24_1000, 0x24_2000
CAPABILITY_MSRS = range(0x480, 0x492)
CPUID_LEAVES = (0, 1, 7, 0x8000_0001, 0x8000_0008)
EXIT_FIELDS = (
    0x4402,
    0x6400,
    0x2400,
    0x4404,
    0x4406,
)  # reason, qualification, GPA, interruption and error code
SECONDS = 3

Words = list[tuple[int, int]]

#: CPUID of the leaf in EAX; HLT.
CPUID_CODE = "0fa2f4"
#: RDMSR of each capability into memory at RSI; HLT.
SURVEY_CODE = "b9800400000f3289068956044883c608ffc181f99204000072ebf4"
#: IA32_FEATURE_CONTROL = 5; VMXON; HLT.
BEGIN_CODE = "b93a000000b80500000031d20f30f3410fc730f4"
#: VMCLEAR, VMPTRLD, VMWRITE of each of ECX pairs at RSI, VMLAUNCH; VMREAD of the error into RBX; HLT with RAX = 0,
#: or with RAX = 1 after a VMWRITE that failed.
LAUNCH_CODE = (
    "66410fc730410fc730488b06488b56080f79c276164883c610ffc975ec0f01c2b8004400000f78c331c0f4b801000000f4"
)
#: After an exit, VMREAD of each field at ENCODINGS into READ; HLT with RAX = 2.
EXIT_CODE = "be00902200bf00802200b9050000008b060f78c348891f4883c6044883c708ffc975ecb802000000f4"
PROGRAMS = (SURVEY_CODE, BEGIN_CODE, LAUNCH_CODE, EXIT_CODE, CPUID_CODE)
SURVEY, BEGIN, LAUNCH, EXIT, CPUID = range(CODE, CODE + 0x500, 0x100)
REFUSED, EXITED = 1, 2  # RAX at HLT


def segment(selector: int, rights: int, limit: int = 0xFFFF_FFFF) -> Any:
    """Return a segment register; `rights` as its descriptor has them, 0 if it is unusable."""
    one = bochscpu.Segment()
    one.present, one.selector, one.base, one.limit, one.attr = bool(rights), selector, 0, limit, rights
    return one


class Machine:
    """One CPU of Bochs over memory at physical 0, in VMX root operation once it is made."""

    def __init__(self) -> None:
        self.pages = mmap.mmap(-1, MEMORY, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.pages))
        self.session = bochscpu.Session()
        self.session.missing_page_handler = self._missing
        for page in range(0, MEMORY, 4096):
            bochscpu.memory.page_insert(page, address + page)
        for at, program in zip((SURVEY, BEGIN, LAUNCH, EXIT, CPUID), PROGRAMS, strict=True):
            raw = bytes.fromhex(program)
            self.pages[at : at + len(raw)] = raw
        self.store([(TABLES, TABLES + 0x1003), (TABLES + 0x1000, TABLES + 0x2003)])
        self.store([(TABLES + 0x2000 + 8 * n, n << 21 | 0x83) for n in range(512)])
        self.store([(POINTERS, VMXON), (POINTERS + 8, VMCS)])
        struct.pack_into(f"<{len(EXIT_FIELDS)}I", self.pages, ENCODINGS, *EXIT_FIELDS)
        self.on_exit: Callable[[int, int], None] = lambda reason, qualification: None
        self.on_instruction: Callable[[], None] = lambda: None
        self.run(SURVEY, rsi=CAPABILITIES)
        revision = self.load(CAPABILITIES) & 0x7FFF_FFFF
        self.store([(VMXON, revision), (VMCS, revision)])
        self.run(BEGIN, r8=POINTERS)

    def store(self, words: Words) -> None:
        """Write 8-byte words, (address, value) each."""
        for address, value in words:
            struct.pack_into("<Q", self.pages, address, value)

    def load(self, address: int) -> int:
        """Read an 8-byte word."""
        return int(struct.unpack_from("<Q", self.pages, address)[0])

    def capabilities(self) -> dict[str, int]:
        """Return number to value of the capability MSRs."""
        return {f"{msr:#x}": self.load(CAPABILITIES + 8 * n) for n, msr in enumerate(CAPABILITY_MSRS)}

    def cpuid(self) -> dict[str, list[int]]:
        """Return leaf to EAX, EBX, ECX, EDX of the leaves that say what the processor is."""
        states = {leaf: self.run(CPUID, rax=leaf) for leaf in CPUID_LEAVES}
        return {f"{leaf:#x}": [one.rax, one.rbx, one.rcx, one.rdx] for leaf, one in states.items()}

    def run(self, rip: int, **registers: int) -> Any:
        """Run from `rip` at CPL 0 in 64-bit mode until HLT; return the state then."""
        state = bochscpu.State()
        state.cr0, state.cr3, state.cr4, state.efer = 0x8005_0033, TABLES, 0x2620, 0xD00
        state.cs, state.tr, state.ldtr = segment(0x10, 0xA09B), segment(0x20, 0x8B, 0x67), segment(0, 0)
        state.ds = state.es = state.ss = state.fs = state.gs = segment(0x18, 0xC093)
        state.rip, state.rsp, state.rflags = rip, STACK, 2
        for name, value in registers.items():
            setattr(state, name, value)
        self.session.cpu.state = state
        hook = bochscpu.Hook()
        hook.exception = lambda session, cpu, vector, error: None
        hook.hlt = lambda session, cpu: session.stop()
        hook.vmexit = lambda session, cpu, reason, qualification: self.on_exit(reason, qualification)
        hook.before_execution = lambda session, cpu, instruction: self.on_instruction()
        self.session.run([hook])
        return self.session.cpu.state

    def launch(self, fields: Words, rdi: int = 0) -> Any:
        """VMWRITE `fields`, (encoding, value) each, and VMLAUNCH; return the state at HLT."""
        for n, (encoding, value) in enumerate(fields):
            struct.pack_into("<QQ", self.pages, FIELDS + 16 * n, encoding, value)
        return self.run(LAUNCH, rsi=FIELDS, rcx=len(fields), rdi=rdi, r8=POINTERS + 8)

    @staticmethod
    def _missing(address: int) -> None:
        raise RuntimeError(f"no memory at {address:#x}")


def report(pipe: int, answer: dict[str, Any]) -> NoReturn:
    """End this process with its answer."""
    os.write(pipe, json.dumps(answer).encode())
    os._exit(0)


def apart(work: Callable[[int], None]) -> dict[str, Any]:
    """Return what `work` reports to the pipe that it is given, in a process of its own, or how that ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Bochs says at length why it gives up
        try:
            work(writing)
        except Exception as error:
            report(writing, {"outcome": "error", "why": repr(error)})
        report(writing, {"outcome": "error", "why": "the case has not reported"})
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    if said:
        return dict(json.loads(said))
    return {"outcome": "hung" if os.WTERMSIG(status) == signal.SIGALRM else "died"}


def entry_job(machine: Machine, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Try each entry: refused (a field that Bochs lacks), fail with its error, idle, or the first exit."""

    def attempt(case: dict[str, Any], pipe: int) -> None:
        machine.store(case["words"])
        machine.on_exit = lambda reason, said: report(
            pipe, {"outcome": "exit", "reason": reason, "qualification": said}
        )
        fields = dict(job["fields"]) | dict(case["fields"])
        state = machine.launch(list(fields.items()))
        if not LAUNCH <= state.rip < LAUNCH + 0x100:
            report(pipe, {"outcome": "idle"})  # the guest is in HLT or shutdown: nothing is left to run
        refused = state.rax == REFUSED
        report(pipe, {"outcome": "refused"} if refused else {"outcome": "fail", "error": state.rbx})

    machine.store(job["words"])
    for case in job["cases"]:
        yield apart(lambda pipe, case=case: attempt(case, pipe))


def access_job(machine: Machine, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Enter, and give each case its memory when the guest is about to execute the instruction at `at`."""

    def attempt(case: dict[str, Any], pipe: int) -> None:
        def arrive() -> None:
            if machine.session.cpu.state.rip == job["at"]:
                machine.on_instruction = lambda: None
                machine.pages[:WORLD] = bytes(WORLD)
                machine.store(job["world"])
                machine.store(case["words"])

        machine.on_instruction = arrive
        state = machine.launch(job["fields"], job["rdi"])
        if state.rax != EXITED:
            report(pipe, {"outcome": "fail", "rax": state.rax, "error": state.rbx})
        after = struct.unpack_from(f"<{WORLD // 8}Q", machine.pages)
        wanted = dict(job["world"]) | dict(case["words"])
        changed = [(8 * n, word) for n, word in enumerate(after) if word != wanted.get(8 * n, 0)]
        read = [machine.load(READ + 8 * n) for n in range(len(EXIT_FIELDS))]
        report(pipe, {"outcome": "exit", "read": read, "changed": changed})

    machine.store(job["words"])
    for case in job["cases"]:
        yield apart(lambda pipe, case=case: attempt(case, pipe))


JOBS = {"entry": entry_job, "access": access_job}


def main() -> None:
    """Answer each job; the first line is of the CPU."""
    machine = Machine()
    about = {
        "version": bochscpu._bochscpu.__version__,
        "cpu": machine.cpuid(),
        "capabilities": machine.capabilities(),
        "host": {"rip": EXIT, "rsp": STACK, "cr3": TABLES},
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        for answer in JOBS[job["kind"]](machine, job):
            print(json.dumps(answer), flush=True)
    os._exit(0)  # the bindings crash when the interpreter takes them down


if __name__ == "__main__":
    main()
