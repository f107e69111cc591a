"""Unicorn's own MMU (its default, not the fill hooks that the soft Cpu uses): QEMU's page walker as an oracle.

Unicorn delivers no exception through the guest's IDT, so there is no frame to read the error code from; the engine's
own field is read while the exception hook runs. Its place in a saved context is found by experiment: faults whose
codes cannot be in doubt (not present, write to a read-only page, reserved bit, fetch) leave one word that holds them.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import Uc, UcError, uclib

from quire.arch import CR0, CR4, EFER, RFLAGS, Access
from quire.errors import BackendError
from quire.testing.oracles.answer import Answer

__all__ = ["CODE_FRAME", "UnicornMmu"]

#: The frame and the linear page of the three instructions; the tables that map it are the caller's.
CODE_FRAME = 40
_CODE = CODE_FRAME << 12
_LOAD, _STORE, _JUMP, _SYSRET_AT = _CODE, _CODE + 0x10, _CODE + 0x20, _CODE + 0x30
_LOAD_CODE, _STORE_CODE = bytes.fromhex("8a07"), bytes.fromhex("8807")  # mov al, [rdi]; mov [rdi], al
_JUMP_CODE, _SYSRET = bytes.fromhex("ffe7"), bytes.fromhex("480f07")  # jmp rdi; sysretq
_WRPKRU_AT, _WRPKRU = _CODE + 0x40, bytes.fromhex("0f01ef")
_EFER, _STAR = 0xC0000080, 0xC0000081
_USER_SELECTORS = 0x23 << 48
_PAGED = CR0.encode(PE=1, MP=1, ET=1, NE=1, PG=1)
_PKRU_ENABLED = CR4.mask("PKE")

Words = npt.NDArray[np.uint64]


class UnicornMmu:
    """One engine over `memory` at address 0, in 64-bit mode or not, at CPL 3 or 0. Raises BackendError."""

    def __init__(self, memory: Words, *, long_mode: bool, user: bool) -> None:
        self.memory, self.long_mode, self.user = memory, long_mode, user
        self._engine: Any = Uc(uc.UC_ARCH_X86, uc.UC_MODE_64 if long_mode else uc.UC_MODE_32)
        self._engine.ctl_set_cpu_model(x86.UC_CPU_X86_ICELAKE_SERVER)
        self._engine.mem_map_ptr(0, memory.nbytes, uc.UC_PROT_ALL, memory.ctypes.data)
        code = {
            _LOAD: _LOAD_CODE,
            _STORE: _STORE_CODE,
            _JUMP: _JUMP_CODE,
            _SYSRET_AT: _SYSRET,
            _WRPKRU_AT: _WRPKRU,
        }
        octets = memory.view(np.uint8)
        for at, instruction in code.items():
            octets[at : at + len(instruction)] = list(instruction)
        self._vector: int | None = None
        self._words: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._error_at = -1
        self._clean, self._scratch = ctypes.c_void_p(), ctypes.c_void_p()
        for context in (self._clean, self._scratch):
            uclib.uc_context_alloc(self._engine._uch, ctypes.byref(context))
        uclib.uc_context_size.restype = ctypes.c_size_t
        self._size = uclib.uc_context_size(self._engine._uch) & ~3
        if user:
            self._enter_user_mode()
        self._engine.hook_add(uc.UC_HOOK_INTR, self._on_exception)
        uclib.uc_context_save(self._engine._uch, self._clean)

    def _enter_user_mode(self) -> None:
        """Execute SYSRET once, unpaged: flat ring-3 segments without a descriptor table."""
        engine = self._engine
        engine.msr_write(_EFER, engine.msr_read(_EFER) | EFER.mask("SCE"))
        engine.msr_write(_STAR, _USER_SELECTORS)
        engine.reg_write(x86.UC_X86_REG_RCX, _LOAD)
        engine.reg_write(x86.UC_X86_REG_R11, 0x202)
        engine.emu_start(_SYSRET_AT, _LOAD, count=1)

    def _on_exception(self, engine: Any, vector: int, data: Any) -> None:
        if self._vector is None:
            self._vector = vector
            self._words = self._context()
        engine.emu_stop()

    def _context(self) -> npt.NDArray[np.int32]:
        uclib.uc_context_save(self._engine._uch, self._scratch)
        assert self._scratch.value is not None
        return np.frombuffer(ctypes.string_at(self._scratch.value, self._size), np.int32)

    def control(self, *, cr3: int, wp: int, nxe: int, cr4: int, ac: int = 0, pkru: int = 0) -> None:
        """Set the controls of the next access; `cr4` holds PSE, PAE, LA57, SMEP, SMAP, PKE as they are to be."""
        engine = self._engine
        uclib.uc_context_restore(engine._uch, self._clean)
        efer = engine.msr_read(_EFER) & ~EFER.mask("NXE")
        engine.msr_write(_EFER, efer | EFER.encode(NXE=nxe))
        engine.reg_write(x86.UC_X86_REG_CR3, cr3)
        engine.reg_write(x86.UC_X86_REG_CR4, cr4)
        engine.reg_write(x86.UC_X86_REG_CR0, _PAGED | CR0.encode(WP=wp))
        if ac:
            flags = engine.reg_read(x86.UC_X86_REG_EFLAGS)
            engine.reg_write(x86.UC_X86_REG_EFLAGS, flags | RFLAGS.mask("AC"))
        if cr4 & _PKRU_ENABLED:
            self._write_pkru(pkru)

    def _write_pkru(self, pkru: int) -> None:
        """Execute WRPKRU: the engine's API does not offer the register."""
        engine = self._engine
        for register, value in ((x86.UC_X86_REG_EAX, pkru), (x86.UC_X86_REG_ECX, 0), (x86.UC_X86_REG_EDX, 0)):
            engine.reg_write(register, value)
        self._vector = None
        engine.emu_start(_WRPKRU_AT, _WRPKRU_AT + len(_WRPKRU))
        if self._vector is not None:
            raise BackendError(f"Unicorn raised exception {self._vector} at WRPKRU: leave CR4.PKE clear")

    def access(self, gva: int, access: Access) -> Answer:
        """Execute one load, store or jump to `gva`; three instructions of the code page do it."""
        engine = self._engine
        self._vector = None
        engine.reg_write(x86.UC_X86_REG_RDI if self.long_mode else x86.UC_X86_REG_EDI, gva)
        engine.reg_write(x86.UC_X86_REG_EAX, 0x5A)
        begin, end = {
            Access.READ: (_LOAD, _LOAD + len(_LOAD_CODE)),
            Access.WRITE: (_STORE, _STORE + len(_STORE_CODE)),
            Access.FETCH: (_JUMP, gva + 1),
        }[access]
        try:
            engine.emu_start(begin, end)
        except UcError as error:
            if error.errno in (uc.UC_ERR_READ_UNMAPPED, uc.UC_ERR_WRITE_UNMAPPED, uc.UC_ERR_FETCH_UNMAPPED):
                return Answer(outside=True)
            raise BackendError(
                f"Unicorn stopped at {gva:#x} with {error}: reinstall unicorn 2.1.3 or newer"
            ) from None
        if self._vector is not None:
            cr2 = engine.reg_read(x86.UC_X86_REG_CR2)
            error = int(self._words[self._error_at]) if self._error_at >= 0 else 0
            return Answer(vector=self._vector, error_code=error, cr2=cr2)
        return Answer(value=engine.reg_read(x86.UC_X86_REG_EAX) & 0xFF)

    def calibrate(self, faults: list[tuple[int, Access, int]], prepare: Callable[[int], None]) -> None:
        """Find the error-code field: `prepare(n)` sets fault `n` up, whose (gva, access, code) is `faults[n]`."""
        table = []
        for n, (gva, access, _) in enumerate(faults):
            prepare(n)
            if self.access(gva, access).vector is None:
                raise BackendError(f"Unicorn does not fault at {gva:#x}: install unicorn 2.1.3 or newer")
            table.append(self._words)
        codes = np.array([code for _, _, code in faults])
        found = np.flatnonzero((np.array(table) == codes[:, None]).all(axis=0))
        if len(found) != 1:
            raise BackendError(
                f"Unicorn's error code is in {len(found)} places: install unicorn 2.1.3 or newer"
            )
        self._error_at = int(found[0])
