"""SVM guest mode, entered once: from then on privileged instructions and exceptions stop the engine at themselves.

Facts, found by experiment with Unicorn 2.1.4 (model EPYC Rome). VMRUN at CPL 0 with EFER.SVME set and VM_HSAVE_PA
given enters guest mode and loads CS, SS, DS, ES, RIP, RSP, RAX, CR0, CR4 and EFER from the VMCB; nothing leaves guest
mode, because the engine hands an intercept to UC_HOOK_INTR as 0x100 + SVM exit code, RIP at the instruction, and not
to its own #VMEXIT. Intercepts work for CR and DR access, exceptions, INT n, RDTSC and RDTSCP (one code), RDPMC, CPUID,
RSM, INVD and WBINVD (one code), HLT, INVLPG, MSRs, MONITOR, MWAIT and the SVM instructions. They do not for I/O:
Unicorn lets every IN and OUT pass, so hooks of ours raise that intercept. Event injection by the VMCB does nothing,
the MSR bitmap is read from the VMCB's memory at each RDMSR, and uc_reg_read of an MSR crashes in guest mode.
SYSRET, SWAPGS, IRET, LGDT, LIDT, LLDT, LTR and segment loads are executed by the engine itself.
"""

import ctypes
import struct

import numpy as np
from unicorn import unicorn_const as uc
from unicorn.unicorn_py3.unicorn import uclib

from quire.arch import CR0, CR4, EFER, WORD
from quire.cpu.soft.cpu_state import different_layout
from quire.cpu.soft.engine import Engine
from quire.cpu.soft.ring0.environment import Environment, Segment, SegmentName
from quire.cpu.soft.ring0.guest_state import CODE_RIGHTS, DATA_RIGHTS, FLAT

__all__ = ["SCRATCH", "enter_guest_mode"]

#: Physical address of the VMCB and its bitmaps: above any host memory, so that no translation can yield it.
SCRATCH = 1 << 45
_VMCB, _SAVE, _BITMAPS, _CODE, _SIZE = 0, 0x1000, 0x2000, 0x5000, 0x6000
_EFER, _VM_HSAVE_PA = 0xC0000080, 0xC0010117
_SVME = 1 << 12
_VMRUN_HLT = bytes.fromhex("0f01d8 f4")
_FIRST_INTERCEPT = 0x60
#: What the engine executes itself: descriptor tables, PUSHF, POPF, IRET, PAUSE; and RDTSC, for which hooks of ours
#: come behind that intercept.
_PASSED = (*range(0x66, 0x6F), 0x70, 0x71, 0x74, 0x77)
_GDTR, _IDTR = (0x123450, 0), (0x678900, 0xFFF)  # base and limit, for the layout to be checked by


def enter_guest_mode(engine: Engine) -> Environment:
    """Bring `engine` from CPL 3 to CPL 0 and into guest mode; return its CPU state.

    Raises BackendError if it does not get there or is laid out differently.
    """
    environment = Environment(engine)
    scratch = np.zeros(_SIZE, np.uint8)
    scratch[_BITMAPS:_CODE] = 0xFF
    scratch[_CODE : _CODE + len(_VMRUN_HLT)] = list(_VMRUN_HLT)
    _fill_vmcb(scratch.data)
    address = ctypes.c_uint64(SCRATCH)
    error = uclib.uc_mem_map(engine.handle, address, ctypes.c_size_t(_SIZE), uc.UC_PROT_ALL)
    engine.check(error, "map the VMCB")
    error = uclib.uc_mem_write(engine.handle, address, scratch.tobytes(), ctypes.c_size_t(_SIZE))
    engine.check(error, "write the VMCB")
    engine.write_msr(_EFER, engine.read_msr(_EFER) | _SVME)
    engine.write_msr(_VM_HSAVE_PA, SCRATCH + _SAVE)
    environment.set_segment(SegmentName.CS, Segment(8, 0, FLAT, CODE_RIGHTS))
    environment.set_segment(SegmentName.SS, Segment(16, 0, FLAT, DATA_RIGHTS))
    environment.settle()
    with engine.identity_fetches():
        engine.write_general([SCRATCH] + [0] * 15)
        engine.start(SCRATCH + _CODE)
        _check_layout(environment)
    engine.drop_code()
    engine.flush_tlb()
    return environment


def _fill_vmcb(vmcb: memoryview) -> None:
    """Fill in the control and save areas (AMD64 Architecture Programmer's Manual 2, appendix B)."""
    intercepts = WORD
    for code in _PASSED:
        intercepts &= ~(1 << code - _FIRST_INTERCEPT)
    every = 0xFFFF
    struct.pack_into("<4HIQ", vmcb, 0, every, every, every, every, FLAT, intercepts)
    struct.pack_into("<QQ", vmcb, 0x40, SCRATCH + _BITMAPS, SCRATCH + _BITMAPS)
    struct.pack_into("<I", vmcb, 0x58, 1)  # the ASID must not be that of the host
    for at, selector, rights in (
        (0x400, 16, DATA_RIGHTS),
        (0x410, 8, CODE_RIGHTS),
        (0x420, 16, DATA_RIGHTS),
        (0x430, 16, DATA_RIGHTS),
    ):
        attributes = rights & 0xFF | rights >> 4 & 0xF00
        struct.pack_into("<HHIQ", vmcb, at, selector, attributes, FLAT, 0)
    for at, (base, limit) in ((0x460, _GDTR), (0x480, _IDTR)):
        struct.pack_into("<HHIQ", vmcb, at, 0, 0, limit, base)
    efer = EFER.encode(SCE=1, LME=1, LMA=1, NXE=1) | _SVME
    cr4 = CR4.encode(PAE=1, OSFXSR=1, OSXMMEXCPT=1)
    for at, value in (
        (0x4D0, efer),
        (0x548, cr4),
        (0x558, CR0.encode(PE=1, MP=1, ET=1, NE=1)),
        (0x570, 2),
        (0x578, SCRATCH + _CODE + 3),
    ):
        struct.pack_into("<Q", vmcb, at, value)


def _check_layout(environment: Environment) -> None:
    """Compare what VMRUN loaded with where it should be."""
    code = environment.segment(SegmentName.CS)
    tables = [environment.segment(name) for name in (SegmentName.GDTR, SegmentName.IDTR)]
    if not environment.guest_mode or environment.cpl or not environment.long_code:
        raise different_layout("its hidden flags, or cannot enter SVM guest mode,")
    if code != Segment(8, 0, FLAT, CODE_RIGHTS) or [(t.base, t.limit) for t in tables] != [_GDTR, _IDTR]:
        raise different_layout("the segment registers")
