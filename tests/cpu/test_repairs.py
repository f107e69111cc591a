"""Instructions that the library computes wrongly: what stands for them, exceptions, and who is left alone."""

import ctypes
import random
import struct

import pytest
from soft_guest import CODE, DATA_HPA, Guest
from unicorn import UC_ARCH_X86, UC_MODE_64, Uc
from unicorn.x86_const import UC_X86_REG_MXCSR, UC_X86_REG_XMM0, UC_X86_REG_XMM1

from quire.arch import Vector
from quire.cpu import Detail
from quire.cpu.soft.tcg import context
from quire.cpu.soft.tcg.repairs import _kernels_text as text
from quire.cpu.soft.tcg.repairs.table import stand_ins
from quire.vcpu import Syscall, Trap, TrapKind

#: ldmxcsr [rdi]; movups xmm0, [rdi+16]; movups xmm1, [rdi+32]; cmp eax, eax; divss xmm0, xmm1; mov ecx, 7; syscall
DIVIDE = "0fae17 0f104710 0f104f20 39c0 f30f5ec1 b907000000 0f05"
AT_DIVIDE = CODE + 13
ONE, THREE, ZERO, TINY, HUGE = (struct.pack("<ffff", x, 0, 0, 0) for x in (1.0, 3.0, 0.0, 2e-38, 3e38))
MASKS, PE, ZE, UE, OE, IE = 0x1F80, 0x20, 0x04, 0x10, 0x08, 0x01


@pytest.fixture(params=["exits", "hooks", "emitted"])
def how(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def guest_of(how: str, code: str) -> Guest:
    return Guest(Detail.EXITS if how == "exits" else Detail.FULL, code, by_hooks=how == "hooks")


def divide(how: str, control: int, first: bytes, second: bytes) -> tuple[Guest, object, int, float]:
    """Divide under MXCSR `control`: the guest, its stop, MXCSR and the result."""
    guest = guest_of(how, DIVIDE)
    guest.memory.write(DATA_HPA, struct.pack("<IIII", control, 0, 0, 0) + first + second)
    stop = guest.cpu.run()
    image = guest.cpu.registers.save_fpu()
    return guest, stop, struct.unpack_from("<I", image, 24)[0], struct.unpack_from("<f", image, 160)[0]


@pytest.mark.parametrize(
    ("first", "second", "flags"),
    [(ONE, THREE, PE), (ONE, ZERO, ZE), (ZERO, ZERO, IE), (TINY, HUGE, UE | PE), (HUGE, TINY, OE | PE)],
    ids=["inexact", "by zero", "invalid", "underflow", "overflow"],
)
def test_masked_exceptions_set_flags(how: str, first: bytes, second: bytes, flags: int) -> None:
    _, stop, mxcsr, _ = divide(how, MASKS, first, second)
    assert stop == Syscall()
    assert mxcsr == MASKS | flags


def test_flags_stay_until_the_guest_clears_them(how: str) -> None:
    for held in (0, IE | OE, 0):  # what one guest has met is not what another has
        _, _, mxcsr, _ = divide(how, MASKS | held, ONE, THREE)
        assert mxcsr == MASKS | held | PE


def test_an_exception_that_is_not_masked_is_at_its_instruction(how: str) -> None:
    guest, stop, mxcsr, result = divide(how, MASKS & ~(ZE << 7), ONE, ZERO)
    assert stop == Trap(TrapKind.EXCEPTION, Vector.XM)
    assert guest.cpu.registers.read("rip") == AT_DIVIDE
    assert guest.cpu.registers.read("rcx") == 0
    assert guest.cpu.registers.read("rflags") & 0x8D5 == 0x44  # of the comparison before
    assert (mxcsr, result) == (MASKS & ~(ZE << 7) | ZE, 1.0)
    if how != "exits":
        assert guest.cpu.events()["instructions"] == 4


def test_an_old_flag_is_no_exception_of_a_new_instruction(how: str) -> None:
    """ZE is set and not masked: that something else is inexact is no division by zero."""
    divide(how, MASKS | ZE, ONE, ZERO)
    _, stop, mxcsr, _ = divide(how, MASKS & ~(ZE << 7) | ZE, ONE, THREE)
    assert (stop, mxcsr) == (Syscall(), MASKS & ~(ZE << 7) | ZE | PE)


def test_an_exception_before_the_operation_hides_those_of_the_result(how: str) -> None:
    """1 / 0 beside 1 / 3: a processor that raises the one does not make the other."""
    code = DIVIDE.replace("f30f5ec1", "900f5ec1")  # nop; divps
    guest = guest_of(how, code)
    lanes = struct.pack("<ffff", 1, 1, 1, 1), struct.pack("<ffff", 0, 3, 3, 3)
    guest.memory.write(DATA_HPA, struct.pack("<IIII", MASKS & ~(ZE << 7), 0, 0, 0) + lanes[0] + lanes[1])
    assert guest.cpu.run() == Trap(TrapKind.EXCEPTION, Vector.XM)
    assert struct.unpack_from("<I", guest.cpu.registers.save_fpu(), 24)[0] & 0x3F == ZE


def test_the_hosts_rounding_and_masks_stay_as_they_are(how: str) -> None:
    libm = ctypes.CDLL("libm.so.6")
    before = libm.fegetround(), libm.fegetexcept()
    for control in (MASKS | 3 << 13 | 1 << 15, 0xFFFF_FFFF, MASKS | 1 << 6):
        divide(how, control, ONE, THREE)
    assert (libm.fegetround(), libm.fegetexcept()) == before
    assert float.fromhex("0x1.5555555555555p-2") == 1.0 / 3.0
    assert 5e-324 / 1.0 == 5e-324


def test_many_in_one_block() -> None:
    """The generator has few temporaries: each instruction gives back what it took."""
    guest = Guest(Detail.FULL, "f30f58c1" * 700 + "0f05")
    assert guest.cpu.run() == Syscall()
    assert guest.cpu.events()["instructions"] == 701


def test_an_engine_of_somebody_elses_is_left_alone() -> None:
    divide("exits", MASKS, ONE, THREE)
    other = Uc(UC_ARCH_X86, UC_MODE_64)
    other.mem_map(0x1000, 0x1000)
    other.mem_write(0x1000, bytes.fromhex("f30f5ec1"))
    other.reg_write(UC_X86_REG_XMM0, int.from_bytes(ONE, "little"))
    other.reg_write(UC_X86_REG_XMM1, int.from_bytes(THREE, "little"))
    other.emu_start(0x1000, 0x1004)
    assert other.reg_read(UC_X86_REG_MXCSR) & 0x3F == 0


def test_without_repairs_the_engine_does_what_its_library_does(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(context.interposition, "table_of_repairs", lambda: None)
    _, stop, mxcsr, result = divide(how, MASKS, ONE, THREE)
    assert (stop, mxcsr) == (Syscall(), MASKS)
    assert result == pytest.approx(1 / 3)


def test_every_helper_is_the_librarys_and_has_one_that_stands_for_it() -> None:
    table = context.interposition.table_of_repairs()
    assert table is not None
    assert {int(one) for one in table.rows[:, 0] if one} and (table.rows[:, 0] != 0).sum() == len(stand_ins())
    modules = {"_kernels_text": text}
    assert all(
        hasattr(modules[one.module], one.name) for one in stand_ins().values() if one.module in modules
    )


def reference(first: bytes, second: bytes, count: int, valid: int, how: int) -> int:
    """IntRes2 of SDM 2B §4.1.5, bit by bit: the matrix of comparisons, overridden, summed up, negated."""
    size = 2 if how & 1 else 1
    most = 16 // size
    a, b = (
        [int.from_bytes(s[n * size : n * size + size], "little", signed=bool(how & 2)) for n in range(most)]
        for s in (first, second)
    )
    mode = how >> 2 & 3

    def matrix(j: int, i: int) -> bool:
        """BoolRes[j, i], of element j of the second string and i of the first, with table 4-7's overrides."""
        if i >= count and j >= valid:
            return mode >= 2
        if i >= count:
            return mode == 3
        if j >= valid:
            return False
        return (a[i] <= b[j] if i % 2 == 0 else b[j] <= a[i]) if mode == 1 else a[i] == b[j]

    bits = []
    for j in range(most):
        if mode == 0:
            bits.append(any(matrix(j, i) for i in range(most)))
        elif mode == 1:
            bits.append(any(matrix(j, i) and matrix(j, i + 1) for i in range(0, most, 2)))
        elif mode == 2:
            bits.append(matrix(j, j))
        else:
            bits.append(all(matrix(j + i, i) for i in range(most - j)))
    for j in range(most):
        if how & 0x10 and (not how & 0x20 or j < valid):
            bits[j] = not bits[j]
    return sum(bit << j for j, bit in enumerate(bits))


@pytest.mark.parametrize("how", range(1 << 6))
def test_text_instructions_are_those_of_the_manual(how: int) -> None:
    choose = random.Random(how)
    guest = guest_of("exits", f"660f3a60c1{how:02x} 0f05")  # pcmpestrm xmm0, xmm1, how
    registers = guest.cpu.registers
    for _ in range(40):
        strings = [bytes(choose.choice(b"abc\x80\x00") for _ in range(16)) for _ in range(2)]
        most = 8 if how & 1 else 16
        count, valid = choose.randint(0, most), choose.randint(0, most)
        registers.load_fpu(
            bytes(24) + struct.pack("<II", MASKS, 0xFFFF) + bytes(128) + strings[0] + strings[1] + bytes(320)
        )
        registers.write_many({"rip": CODE, "rax": count, "rdx": valid})
        assert guest.cpu.run() == Syscall()
        found = int.from_bytes(registers.save_fpu()[160:176], "little")
        assert found == reference(*strings, count, valid, how), (strings, count, valid)


def test_an_engine_that_is_gone_leaves_nothing_to_the_next_in_its_memory() -> None:
    """An engine that counts by hooks has its helpers repaired, too."""
    for _ in range(4):
        for how in ("hooks", "emitted"):
            guest, *_ = divide(how, MASKS, ONE, THREE)
            assert guest.cpu.events()["instructions"] == 7
            guest.cpu.close()
