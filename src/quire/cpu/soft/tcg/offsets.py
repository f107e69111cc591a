"""Where the engine's library keeps what emitted operations need: known for libraries whose code is known.

Offsets are those of Unicorn's structures, in the words of QEMU 5.0, from which its generator comes. They show in the
code of the functions whose SHA-256 is taken here: a library that keeps anything elsewhere has other code and is not
known.
"""

import hashlib
from enum import IntEnum
from functools import cache

from unicorn.unicorn_py3.unicorn import uclib

from quire.cpu.soft.tcg.library import Library

__all__ = ["GUEST_MODE", "Condition", "Offset", "Opcode", "engines_library", "is_known", "knows_library"]


class Offset(IntEnum):
    """Bytes from the start of what the name begins with; those of ENV lie before it."""

    UC_CPU = 0x1B8  #: of the CPU in the engine's structure
    CPU_ENV = 0x128  #: of the address of CPUX86State, `env`
    CONTEXT_UC = 0x9970  #: of the engine in TCGContext
    CONTEXT_ENV = 0x98F0  #: of the temporary that is `env`, from TCGContext
    CONTEXT_OPS = 0x7388  #: of the address of the first operation of the block
    CONTEXT_LAST_OP = 0x7390  #: of the address of the last one's link to the next
    OP_LINK = 8  #: of that link in TCGOp
    OP_PREVIOUS = 0x10  #: of the address of the link of the operation before
    OP_ARGUMENTS = 0x18
    TB_SIZE = 20  #: of TranslationBlock: bytes of guest code, uint16
    TB_INSTRUCTIONS = 22  #: uint16
    ENV_EIP = 0x80
    ENV_CC_OP = (
        0xA8  #: how flags follow from what an instruction has computed, uint32; 0 in a block: as it is there
    )
    ENV_CC_SRC = 0x98  #: flags that an instruction has computed
    ENV_HFLAGS = 0xB0  #: hidden flags, uint32
    ENV_CR4 = 0x1C8
    ENV_FPSTT = 0x25C  #: number of the register that is ST(0), uint32
    ENV_FPUS = 0x260  #: x87 status word without TOP, uint16
    ENV_FPUC = 0x262  #: x87 control word, uint16
    ENV_FPTAGS = 0x264  #: a byte for each x87 register: 1 if it is empty
    ENV_FPREGS = 0x270  #: x87 registers, 16 bytes each
    ENV_FT0 = 0x310  #: second operand of an x87 instruction, 80 bits
    ENV_MXCSR = 0x330
    ENV_XMM = 0x338  #: vector registers, 64 bytes each
    ENV_EXIT = -0x10  #: icount_decr: negative when somebody wants the CPU to leave its loop
    ENV_TLB = -0x40  #: CPUTLBDescFast of the first mmu index: mask, table; 16 bytes each
    ENV_TLB_REST = -0x870  #: CPUTLBDesc of the first mmu index
    TLB_REST_SIZE = 0x2B8  #: of a CPUTLBDesc
    TLB_USED = 0x20  #: in CPUTLBDesc: n_used_entries
    TLB_VICTIMS = 0x30  #: in CPUTLBDesc: vtable
    TLB_IO = 0x2B0  #: in CPUTLBDesc: the address of iotlb, 16 bytes an entry
    TLB_ENTRY = 64  #: size of a CPUTLBEntry: addr_read, addr_write, addr_code, paddr, addend


#: Of the hidden flags: in SVM guest mode.
GUEST_MODE = 1 << 21
#: Mmu indices of x86, and entries of each one's victim TLB.
MMU_INDICES, VICTIMS = 3, 8


class Opcode(IntEnum):
    """TCG operations (tcg-opc.h)."""

    SET_LABEL = 1
    LD_I32 = 13
    MOVI_I64 = 64
    LD_I64 = 73
    ST_I64 = 77
    ADD_I64 = 78
    INSN_START = 129


class Condition(IntEnum):
    """TCGCond."""

    LT = 2
    GE = 3
    EQ = 8


#: Functions in whose code the above shows.
_TELLING = (
    "gen_intermediate_code_x86_64",
    "translator_loop_x86_64",
    "tcg_gen_callN_x86_64",
    "tcg_const_i64_x86_64",
    "tcg_emit_op_x86_64",
    "tcg_gen_addi_i64_x86_64",
    "tcg_gen_brcond_i64_x86_64",
    "tcg_gen_qemu_ld_i64_x86_64",
    "tcg_gen_qemu_st_i64_x86_64",
    "gen_new_label_x86_64",
    "tb_gen_code_x86_64",
    "tlb_flush_by_mmuidx_x86_64",
    "tlb_flush_page_x86_64",
    "tb_invalidate_phys_range_x86_64",
    "tlb_set_page_with_attrs_x86_64",
    "tlb_protect_code_x86_64",
    "helper_le_ldq_mmu_x86_64",
    "helper_le_stq_mmu_x86_64",
    "helper_lookup_tb_ptr_x86_64",
    "cpu_exec_x86_64",
    "tcg_temp_free_internal_x86_64",
    "restore_state_to_opc_x86_64",
    "raise_exception_x86_64",
    "cpu_x86_update_cr4_x86_64",
    "helper_fpop_x86_64",
    "helper_fnstsw_x86_64",
    "helper_fnstcw_x86_64",
    "helper_ldmxcsr_x86_64",
    "helper_fmov_FT0_STN_x86_64",
    "helper_fcomi_ST0_FT0_x86_64",
    "helper_ucomiss_x86_64",
    "helper_pcmpestri_xmm_x86_64",
    "helper_pcmpistrm_xmm_x86_64",
)
#: SHA-256 of that code: of PyPI's wheel of Unicorn 2.1.4 for manylinux.
_KNOWN = frozenset(("3d7c7de527d954020c9c6cfb7669ca1ed345ddd01c8e91cb0d53b55ca5e04b88",))


def fingerprint(library: Library) -> str:
    """Return the SHA-256 of the functions that tell. Raises LookupError if one is not exported."""
    digest = hashlib.sha256()
    for name in _TELLING:
        digest.update(library.code(name))
    return digest.hexdigest()


@cache
def engines_library() -> Library:
    """Return the engine's library."""
    return Library(uclib)


@cache
def knows_library() -> bool:
    """Whether the offsets are those of the engine's library."""
    return is_known(engines_library())


def is_known(library: Library) -> bool:
    """Whether the offsets are those of `library`."""
    try:
        return fingerprint(library) in _KNOWN
    except LookupError:
        return False
