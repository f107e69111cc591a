"""Signals: the frame to the byte as the kernel's headers have it, and what is delivered when."""

from __future__ import annotations

import ctypes
import struct

import pytest
from guest_fakes import K4, FakeMachine

from quire.arch import DR6
from quire.guest.kernel.actions import (
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTART,
    SA_RESTORER,
    SA_SIGINFO,
    AltStack,
    SigAction,
    signal_bit,
)
from quire.guest.kernel.delivery import deliver, sigreturn
from quire.guest.kernel.frame import FRAME_BYTES, INITIAL_FPU, Trap
from quire.guest.kernel.options import GuestOptions
from quire.guest.kernel.outside import Nowhere
from quire.guest.kernel.process import ProcessGuest
from quire.guest.kernel.siginfo import SignalInfo
from quire.guest.load.launch import prepare
from quire.guest.mm.linux import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE

AT, ALT = 0x10_0000_0000, 0x20_0000_0000
HANDLER, RESTORER = 0x401000, 0x402000
FLAGS = SA_RESTORER | SA_SIGINFO
INT, QUIT, ILL, USR1, SEGV, CHLD, STOP, TSTP = 2, 3, 4, 10, 11, 17, 19, 20


class Stopped(Nowhere):
    """Notes what stops the process."""

    def __init__(self):
        self.by = []

    def stop(self, signo):
        self.by.append(signo)


class Process(ProcessGuest):
    """The first thread on a fake machine, with two areas mapped and nothing loaded."""

    def __init__(self):
        options = GuestOptions(0, False, "/", 0)
        super().__init__(FakeMachine(64), prepare(["true"], "/bin:/usr/bin", "/"), {}, options)
        self.trap = Trap(14, 6, 0xDEAD)
        for start in (AT, ALT):
            self.space.mmap(start, 4 * K4, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
        values = self.machine.registers.values
        for number, name in enumerate(values):
            values[name] = 0x1000 + number
        values.update(rip=0x400500, rsp=AT + 4 * K4 - 0x101, rflags=0x246 | 0x400)
        self.machine.registers.fpu = bytes(range(24)) + struct.pack("<I", 0x1F80) + bytes(484)

    def handle(self, signo, flags=FLAGS, mask=0):
        self.signals.set_action(signo, SigAction(HANDLER, flags, RESTORER, mask))

    def send(self, signo, **fields):
        assert self.signals.queue(SignalInfo(signo, fields.pop("code", 0), **fields))
        return deliver(self)

    @property
    def registers(self):
        return self.machine.registers.values


@pytest.fixture
def process():
    return Process()


def test_frame_layout(process):
    process.handle(SEGV)
    before = dict(process.registers)
    process.signals.mask = signal_bit(USR1)
    assert process.send(SEGV, code=1, addr=0xBAD) is None
    after, frame = process.registers, process.registers["rsp"]
    assert (after["rip"], after["rdi"], after["rax"]) == (HANDLER, SEGV, 0)
    assert after["rsi"] == frame + 312 and after["rdx"] == frame + 8 and (frame + 8) % 16 == 0
    assert after["rflags"] == 0x246 and frame + FRAME_BYTES <= before["rsp"] - 128 - 512
    data = process.memory.read(frame, FRAME_BYTES)
    assert FRAME_BYTES == 440

    def at(offset, form="<Q"):
        return struct.unpack_from(form, data, offset)[0]

    assert (at(0), at(8), at(16)) == (RESTORER, 6, 0)
    # uc_stack: sp, flags (SS_DISABLE), size
    assert (at(24), at(32, "<I"), at(40)) == (0, 2, 0)
    order = [
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
        "r14",
        "r15",
        "rdi",
        "rsi",
        "rbp",
        "rbx",
        "rdx",
        "rax",
        "rcx",
        "rsp",
        "rip",
        "rflags",
    ]
    assert [at(48 + 8 * n) for n in range(18)] == [before[name] for name in order]
    assert struct.unpack_from("<4H", data, 192) == (0x33, 0, 0, 0x2B)
    assert (at(200), at(208), at(216), at(224)) == (6, 14, signal_bit(USR1), 0xDEAD)
    fpu = at(232)
    assert fpu % 64 == 0 and process.memory.read(fpu, 512)[:24] == bytes(range(24))
    assert fpu + 512 <= before["rsp"] - 128
    assert at(304) == signal_bit(USR1)
    assert struct.unpack_from("<iii", data, 312) == (SEGV, 0, 1) and at(328) == 0xBAD
    assert process.machine.registers.fpu == INITIAL_FPU
    assert process.signals.mask == signal_bit(USR1) | signal_bit(SEGV)


def test_layout_matches_the_hosts_headers():
    """ucontext_t of the C library begins as the kernel's: gregs at 40, the mask at 296."""

    class Stack(ctypes.Structure):
        _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

    class UContext(ctypes.Structure):
        _fields_ = [
            ("flags", ctypes.c_ulong),
            ("link", ctypes.c_void_p),
            ("stack", Stack),
            ("gregs", ctypes.c_longlong * 23),
            ("fpregs", ctypes.c_void_p),
            ("reserved", ctypes.c_ulonglong * 8),
            ("mask", ctypes.c_ulong),
        ]

    assert (UContext.gregs.offset, UContext.fpregs.offset, UContext.mask.offset) == (40, 224, 296)


def test_sigreturn_restores_everything(process):
    process.handle(USR1, FLAGS | SA_ONSTACK, mask=signal_bit(INT))
    process.signals.altstack = AltStack(ALT, 0, 4 * K4)
    before, fpu = dict(process.registers), process.machine.registers.fpu
    process.send(USR1)
    assert ALT < process.registers["rsp"] < ALT + 4 * K4
    assert process.signals.mask == signal_bit(USR1) | signal_bit(INT)
    assert process.signals.altstack_at(process.registers["rsp"]).flags == 1
    process.registers.update(dict.fromkeys(before, 77) | {"rsp": process.registers["rsp"] + 8, "rflags": 2})
    fs = process.registers["fs_base"], process.registers["gs_base"]
    sigreturn(process)
    restored = dict(process.registers)
    assert (restored.pop("fs_base"), restored.pop("gs_base")) == fs
    expected = {name: value for name, value in before.items() if name not in ("fs_base", "gs_base")}
    expected["rflags"] = 2 | (before["rflags"] & 0x50DD5)
    assert restored == expected and process.machine.registers.fpu == fpu
    assert process.signals.mask == 0 and process.signals.altstack == AltStack(ALT, 0, 4 * K4)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(176, 1 << 47), (192, 0x10), (232, 0x123), (232, 1 << 63)],
    ids=["rip", "cs", "fpstate", "fpstate high"],
)
def test_bad_frames_kill(process, offset, value):
    process.handle(USR1)
    process.send(USR1)
    frame = process.registers["rsp"]
    process.memory.write_u64(frame + offset, value)
    process.registers["rsp"] = frame + 8
    sigreturn(process)
    death = deliver(process)
    assert (death.signo, death.si_code) == (SEGV, 0x80)
    assert death.text == "SIGSEGV: the signal frame cannot be written or read"


def test_bad_mxcsr_kills(process):
    process.handle(USR1)
    process.send(USR1)
    frame = process.registers["rsp"]
    process.memory.write_u32(process.memory.read_u64(frame + 232) + 24, 0x10000)
    process.registers["rsp"] = frame + 8
    sigreturn(process)
    assert deliver(process).signo == SEGV


def test_null_fpstate_resets(process):
    process.handle(USR1)
    process.send(USR1)
    frame = process.registers["rsp"]
    process.memory.write_u64(frame + 232, 0)
    process.machine.registers.fpu = bytes(512)
    process.registers["rsp"] = frame + 8
    sigreturn(process)
    assert process.machine.registers.fpu == INITIAL_FPU


@pytest.mark.parametrize("rsp", [0, 0x5000, 100, 1 << 63, (1 << 64) - 1])
def test_no_stack_kills(process, rsp):
    process.registers["rsp"] = rsp
    process.handle(USR1)
    process.handle(SEGV)
    assert process.send(USR1).signo == SEGV


def test_a_handler_for_the_failed_frame(process):
    process.signals.altstack = AltStack(ALT, 0, 4 * K4)
    process.handle(USR1)
    process.handle(SEGV, FLAGS | SA_ONSTACK)
    process.registers["rsp"] = 0x5000
    assert process.send(USR1) is None and process.registers["rdi"] == SEGV


def test_no_restorer_kills(process):
    process.handle(USR1, SA_SIGINFO)
    assert process.send(USR1).signo == SEGV


def test_flags(process):
    process.handle(USR1, FLAGS | SA_NODEFER | SA_RESETHAND)
    assert process.send(USR1) is None
    assert process.signals.mask == 0 and process.signals.action(USR1).handler == 0
    assert process.send(USR1).signo == USR1


def test_defaults(process):
    assert process.send(CHLD) is None and process.send(28) is None
    assert process.send(TSTP) is None and process.process.stopped == TSTP
    death = process.send(QUIT)
    assert (death.signo, death.rip, death.text) == (QUIT, 0x400500, "SIGQUIT: sent by a process")


def test_blocked_and_coalesced(process):
    process.handle(USR1, FLAGS)
    process.signals.mask = signal_bit(USR1) | signal_bit(9) | signal_bit(STOP)
    assert process.signals.mask == signal_bit(USR1)
    process.send(USR1)
    process.send(USR1)
    assert process.signals.pending == signal_bit(USR1) and not process.signals.deliverable
    for _ in range(2):
        process.signals.queue(SignalInfo(40, -1, value=5))
    process.signals.mask |= signal_bit(40)
    taken = [process.signals.dequeue(signal_bit(40) | signal_bit(USR1)) for _ in range(4)]
    assert [info and info.signo for info in taken] == [USR1, 40, 40, None]


def test_faults_go_first_then_by_number(process):
    process.signals.mask = (1 << 64) - 1
    for signo in (INT, USR1, SEGV):
        process.signals.queue(SignalInfo(signo, 0))
    assert [process.signals.dequeue(-1).signo for _ in range(3)] == [SEGV, INT, USR1]


def test_queue_is_bounded(process):
    process.signals.mask = signal_bit(40)
    process.handle(40)
    results = [process.signals.queue(SignalInfo(40, -1)) for _ in range(5000)]
    assert results == [True] * 4096 + [False] * 904
    assert process.signals.queue(SignalInfo(9, 0))


@pytest.mark.parametrize("how", ["blocked", "ignored"])
def test_fault_that_cannot_be_handled_kills(process, how):
    if how == "blocked":
        process.handle(SEGV)
        process.signals.mask = signal_bit(SEGV)
    else:
        process.signals.set_action(SEGV, SigAction(1))
    process.page_fault(0x10, 6)
    assert (process.death.signo, process.death.si_code, process.death.address) == (SEGV, 1, 0x10)
    assert process.death.text == ("SIGSEGV: user write: page not present at 0x10: nothing is mapped there")


@pytest.mark.parametrize(
    ("vector", "signo", "code", "address"),
    [
        (0, 8, 1, 0x400500),
        (6, ILL, 2, 0x400500),
        (3, 5, 0x80, 0),
        (13, SEGV, 0x80, 0),
        (17, 7, 1, 0),
        (12, 7, 0x80, 0),
        (1, 5, 1, 0x400500),
        (19, 8, 3, 0x400500),
        (4, SEGV, 0x80, 0),
    ],
)
def test_exceptions(process, vector, signo, code, address):
    process.machine.registers.fpu = struct.pack("<24xI", (0x1F80 & ~0x200) | 4).ljust(512, b"\0")
    process.exception(vector, 0)
    assert (process.death.signo, process.death.si_code, process.death.address) == (signo, code, address)


def test_a_single_step_is_told_from_int1(process):
    process.exception(1, DR6.mask("BS"))
    assert (process.death.signo, process.death.si_code) == (5, 2)
    assert process.trap.error_code == 0


@pytest.mark.parametrize(("vector", "rip", "trap"), [(3, 0x400500, (3, 0)), (4, 0x400500, (4, 0)),
                                                    (0x81, 0x4004FE, (13, 0x40A)), (0, 0x4004FE, (13, 2))])  # fmt: skip
def test_a_software_interrupt_needs_a_gate_of_the_programs(process, vector, rip, trap):
    process.software_interrupt(vector)
    assert (process.trap.vector, process.trap.error_code) == trap
    assert process.machine.registers.read("rip") == rip


def test_exception_text(process):
    process.exception(13, 0x18)
    assert process.death.text == "SIGSEGV: #GP with error code 0x18 at rip 0x400500"


@pytest.mark.parametrize(
    ("flags", "rax", "rip"),
    [(0, (1 << 64) - 4, 0x400500), (SA_RESTART, 7, 0x4004FE)],
    ids=["EINTR", "restart"],
)
def test_restart_with_a_handler(process, flags, rax, rip):
    process.handle(USR1, FLAGS | flags)
    assert process.signals.interrupted_restart(USR1) == bool(flags)
    process._restart = 7
    process.send(USR1)
    frame = process.registers["rsp"]
    assert process.memory.read_u64(frame + 48 + 13 * 8) == rax
    assert process.memory.read_u64(frame + 48 + 16 * 8) == rip
    process.registers["rsp"] = frame + 8
    sigreturn(process)
    assert (process.registers["rax"], process.registers["rip"]) == (rax, rip)


def test_restart_without_a_handler(process):
    process._restart = 7
    deliver(process)
    assert (process.registers["rax"], process.registers["rip"]) == (7, 0x4004FE)


def test_sigsuspend_mask_is_the_one_in_the_frame(process):
    process.handle(USR1)
    process.signals.saved_mask = signal_bit(INT)
    process.send(USR1)
    assert process.memory.read_u64(process.registers["rsp"] + 304) == signal_bit(INT)
    assert process.signals.saved_mask is None
    process.signals.saved_mask = 5
    deliver(process)
    assert process.signals.mask == 5


def test_altstack_rules(process):
    signals = process.signals
    assert signals.set_altstack(AltStack(ALT, 0, 100), AT) == -12
    assert signals.set_altstack(AltStack(ALT, 8, K4), AT) == -22
    assert signals.set_altstack(AltStack(ALT, 0, K4), AT) == 0
    assert signals.set_altstack(AltStack(ALT, 0, K4), ALT + 16) == -1
    assert AltStack.unpack(signals.altstack_at(ALT + 16).pack()) == AltStack(ALT, 1, K4)
    assert signals.set_altstack(AltStack(0, 2, 0), AT) == 0 and signals.altstack_at(AT).flags == 2


def test_overflowing_the_altstack_kills(process):
    process.signals.altstack = AltStack(ALT, 0, 4 * K4)
    process.handle(USR1, FLAGS | SA_ONSTACK)
    process.registers["rsp"] = ALT + 600
    assert process.send(USR1).signo == SEGV


def test_siginfo_members():
    assert struct.unpack_from("<iiiIIIQ", SignalInfo(40, -1, pid=7, uid=8, value=9).pack()) == (
        (40, 0, -1, 0, 7, 8, 9)
    )
    assert struct.unpack_from("<iiiIIIi", SignalInfo(CHLD, 1, pid=7, uid=8, status=-9).pack())[-1] == -9
    action = SigAction(1, 2, 3, 4)
    assert SigAction.unpack(action.pack()) == action and len(action.pack()) == 32
    assert len(SignalInfo(1, 0).pack()) == 128
