"""Interrupts of a PC come when devices raise them: a guest that goes on computing is interrupted, not later."""

from __future__ import annotations

import struct

import pytest
from silent import Silent

from quire.devices import COM1
from quire.guest.boot.boot_spec import boot_config
from quire.guest.boot.long_mode import build_tables, start_long_mode
from quire.guest.boot.pc import Pc
from quire.guest.boot.zero_page import DESCRIPTORS, STACK

CODE, HANDLER, IDT = 0x100000, 0x101000, 0x102000
VECTOR, LATER = 0x40, 20_000_000
#: 1: inc rcx; cmp rcx, LATER; jne 1b; mov al, 9; out 0xf4, al; hlt
SPINS = bytes.fromhex("48ffc1 4881f9") + struct.pack("<I", LATER) + bytes.fromhex("75f4 b009 e6f4 f4")
#: mov al, 5; out 0xf4, al; hlt
ENDS = bytes.fromhex("b005 e6f4 f4")
#: mov edx, IER; mov al, 2; out dx, al: the transmitter has nothing left, which it tells.
BY_SERIAL_PORT = b"\xba" + struct.pack("<I", COM1 + 1) + bytes.fromhex("b002 ee")
#: mov ebx, ICR; mov dword ptr [rbx], self, fixed, VECTOR
BY_ITSELF = b"\xbb" + struct.pack("<I", 0xFEE00300) + b"\xc7\x03" + struct.pack("<I", 1 << 18 | VECTOR)


@pytest.mark.parametrize("start", [BY_SERIAL_PORT, BY_ITSELF], ids=["port", "itself"])
@pytest.mark.parametrize("mmu", ["native", "ept", "shadow"])
def test_a_guest_that_computes_is_interrupted_at_once(mmu, start):
    pc = Pc(boot_config(memory=16 << 20, mmu=mmu), lambda byte: None, Silent())
    write, vcpu = pc.memory.write, pc.machine.vcpu
    build_tables(write, 4 << 30, DESCRIPTORS)
    write(CODE, start + SPINS)
    write(HANDLER, ENDS)
    write(IDT + 16 * VECTOR, struct.pack("<HHBBHII", HANDLER & 0xFFFF, 0x10, 0, 0x8E, HANDLER >> 16, 0, 0))
    start_long_mode(vcpu, 0x10, 0x18, len(DESCRIPTORS))
    vcpu.vmcs.write("guest_idtr_base", IDT)
    vcpu.vmcs.write("guest_idtr_limit", 0xFFF)
    vcpu.cpu.registers.write_many({"rip": CODE, "rsp": STACK, "rcx": 0, "rflags": 0x202})
    pc.apic.write(0xF0, 0x1FF, 4)
    for register, value in ((0x19, 0), (0x18, VECTOR)):
        pc.io_apic.write(0, register, 4)
        pc.io_apic.write(0x10, value, 4)
    pc.serial.write(4, 8, 1)
    pc.turns.run()
    assert pc.exit_port.status == 5
    assert vcpu.cpu.registers.read("rcx") < 100
    pc.close()
