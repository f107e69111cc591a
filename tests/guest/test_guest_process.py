"""The process on a fake machine: what is loaded where, the system-call protocol, what close() gives back."""

from __future__ import annotations

import os
import struct

import pytest
from guest_fakes import K4, M2, FakeMachine

import quire.guest.kernel.calls as module
from quire.guest.kernel.options import GuestOptions
from quire.guest.kernel.process import ProcessGuest
from quire.guest.kernel.siginfo import SignalInfo
from quire.guest.load.launch import LaunchError, prepare
from quire.guest.syscalls import NO_RESULT, RESTART

OPTIONS = GuestOptions(seed=5, sandbox=False, cwd="/", hwcap=0x178BFBFF)


def made(page_size=K4, options=OPTIONS, frames=4096, argv=("ls", "-l")):
    machine = FakeMachine(frames, page_size)
    return ProcessGuest(machine, prepare(argv, "/bin", "/"), {b"A": b"1"}, options)


@pytest.fixture(params=[K4, M2], ids=["4K", "2M"])
def guest(request):
    process = made(request.param)
    process.start()
    yield process
    process.close()
    process.space.pages.shared.reclaim()
    assert len(process.machine.free_frames) == process.machine.frames and not process.machine.leaves


def test_segments_are_loaded(guest):
    image, loader = guest.program.image, guest.program.interpreter
    registers = guest.machine.registers.values
    bias = registers["rip"] - loader.entry
    with open(loader.path, "rb") as file:
        content = file.read()
    for segment in loader.segments:
        expected = content[segment.offset :][: segment.filesz]
        assert guest.memory.read(segment.vaddr + bias, segment.filesz) == expected
        bss = segment.memsz - segment.filesz
        assert guest.memory.read(segment.vaddr + bias + segment.filesz, bss) == bytes(bss)
    rsp = registers["rsp"]
    argc, first = struct.unpack("<2Q", guest.memory.read(rsp, 16))
    assert argc == 2 and guest.memory.read_cstring(first) == b"ls" and rsp % 16 == 0
    assert registers["rflags"] == 0x202 and registers["rax"] == registers["fs_base"] == 0
    assert guest.space.brk_start >= image.end and b"[stack]" in guest.space.maps_text()
    assert guest.program.envp == (b"A=1",)


def test_same_seed_same_run():
    texts = []
    for _ in range(2):
        process = made()
        process.start()
        rsp = process.machine.registers.read("rsp")
        texts.append(
            (process.space.maps_text(), rsp, process.memory.read(rsp, process.space.layout.stack_top - rsp))
        )
        process.close()
    assert texts[0] == texts[1]


def test_without_aslr():
    process = made(options=GuestOptions(5, False, "/", 0, aslr=False))
    process.start()
    assert process.space.regions()[0].start == 0x555555554000
    assert process.space.regions()[-1].end == 0x7FFFFFFFF000
    process.close()


def test_too_little_memory():
    process = made(frames=1)
    with pytest.raises(LaunchError) as caught:
        process.start()
    assert caught.value.status == 125 and "guest memory exhausted (--memory SIZE)" in str(caught.value)
    process.close()
    assert len(process.machine.free_frames) == 1


def call(guest, monkeypatch, result, number=39):
    seen = []

    def dispatch(process, at, arguments):
        seen.append((at, arguments))
        return result(process) if callable(result) else result

    monkeypatch.setattr(module, "dispatch", dispatch)
    guest.machine.registers.values.update(
        rax=number, rdi=1, rsi=2, rdx=3, r10=4, r8=5, r9=6, rip=0x400502, rflags=0x246, rcx=0, r11=0
    )
    guest.syscall()
    return seen


def test_system_call(guest, monkeypatch):
    assert call(guest, monkeypatch, -2) == [(39, (1, 2, 3, 4, 5, 6))]
    registers = guest.machine.registers.values
    assert (registers["rax"], registers["rcx"], registers["r11"]) == ((1 << 64) - 2, 0x400502, 0x246)
    assert guest.syscall_counts == {"getpid": 1}


def test_no_result_and_restart(guest, monkeypatch):
    call(guest, monkeypatch, NO_RESULT)
    registers = guest.machine.registers.values
    assert (registers["rax"], registers["rcx"]) == (39, 0)
    call(guest, monkeypatch, RESTART)
    assert (registers["rax"], registers["rip"], registers["rcx"]) == (39, 0x400500, 0x400502)


def test_numbers_that_no_kernel_has(guest, monkeypatch):
    for number in range(5000, 5100):
        call(guest, monkeypatch, -38, number)
    assert guest.syscall_counts == {"unknown": 100}


def test_a_signal_kills(guest, monkeypatch):
    guest.signals.queue(SignalInfo(15, 0))
    call(guest, monkeypatch, 0)
    assert guest.finished and guest.death.signo == 15
    assert guest.death.text == "SIGTERM: sent by a process"


def test_exit_delivers_nothing(guest, monkeypatch):
    def leave(process):
        process.exit_process(3)
        process.signals.queue(SignalInfo(15, 0))
        return NO_RESULT

    call(guest, monkeypatch, leave)
    assert guest.finished and guest.death is None


def test_memory_runs_out_in_a_system_call(monkeypatch):
    process = made(frames=64, argv=("ls",))
    process.start()
    at = process.space.mmap(0, 100 * K4, 3, 0x8022, -1, 0)
    assert at > 0
    call(process, monkeypatch, 0)
    assert (
        process.death.text == "SIGKILL: guest memory exhausted (--memory SIZE)" and process.death.signo == 9
    )
    process.close()
    assert len(process.machine.free_frames) == 64


def test_close_closes_descriptors():
    before = os.listdir("/proc/self/fd")
    process = made()
    process.start()
    assert len(os.listdir("/proc/self/fd")) > len(before)
    process.close()
    assert os.listdir("/proc/self/fd") == before
