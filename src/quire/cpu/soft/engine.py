"""Unicorn through its C library: one x86-64 engine, hooks by address, and what its API does not offer.

Three facts are needed that no call returns: the exact address of a failed translation (the fill hook sees the page
only), the flag that spares hooks the computation of the program counter, which costs half of a hooked access, and the
flag under which a request to stop waits for the end of the block (see exit_flag.py; stop_request.py for the request).
All are fields of the engine's structure. They are found by experiment, each twice, and used only if both experiments
agree; without them addresses are page-exact and runs are slower.
"""

import ctypes
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from quire.arch import GENERAL, RFLAGS
from quire.cpu.soft.cpu_state import LastException, find_cpu_state
from quire.cpu.soft.exit_flag import find_exit_flag
from quire.cpu.soft.stop_request import find_stop_cells
from quire.cpu.soft.tcg.offsets import Offset, knows_library
from quire.cpu.soft.tlb_clock import find_tlb_windows
from quire.cpu.soft.trial import structure_of
from quire.errors import BackendError

__all__ = ["LIBRARY_PATH", "Engine"]

LIBRARY_PATH: str = uclib._name

_PROBE_CODE = bytes.fromhex("488b07")  # mov rax, [rdi]
_PROBE_AT = 0x1000
_DIVIDE_AT, _DIVIDE = 0x1200, bytes.fromhex("31c9f7f1")  # xor ecx, ecx; div ecx: #DE
_HALT_AT, _HALT = 0x1300, bytes.fromhex("f4")  # hlt: #GP at CPL 3
_INT_AT, _INT = 0x1400, bytes.fromhex("cd81")  # int 0x81
_SELECTOR_AT, _SELECTOR = 0x1500, bytes.fromhex("8ed8")  # mov ds, ax
_PROVOKING = {"divide": _DIVIDE_AT, "halt": _HALT_AT, "int": _INT_AT, "selector": _SELECTOR_AT}
_SYSRET = bytes.fromhex("480f07")  # sysretq
_STAR = 0xC0000081
_EFER = 0xC0000080
_GENERAL = tuple(getattr(x86, f"UC_X86_REG_{name.upper()}") for name in GENERAL)
_RFLAGS = RFLAGS.encode(always_1=1, IF=1)
_USER_SELECTORS = 0x23 << 48  # SYSRET: CS = this + 16, SS = this + 8, both with RPL 3


class Engine:
    """One Unicorn engine over `size` bytes of host memory at `address`; it runs at CPL 3 in 64-bit mode."""

    def __init__(self, address: int, size: int) -> None:
        begin = time.time_ns()
        self.handle = ctypes.c_void_p()
        self.check(uclib.uc_open(uc.UC_ARCH_X86, uc.UC_MODE_64, ctypes.byref(self.handle)), "open")
        self._close = weakref.finalize(self, uclib.uc_close, self.handle)
        self.control(uc.UC_CTL_CPU_MODEL, x86.UC_CPU_X86_EPYC_ROME)
        scratch = bytearray(0x2000)
        for at, code in (
            (_PROBE_AT, _PROBE_CODE),
            (0x1100, _SYSRET),
            (_DIVIDE_AT, _DIVIDE),
            (_HALT_AT, _HALT),
            (_INT_AT, _INT),
            (_SELECTOR_AT, _SELECTOR),
        ):
            scratch[at : at + len(code)] = code
        self._enter_user_mode(bytes(scratch))
        self.set_tables(0, 0)
        self._octets = structure_of(self.handle)
        self._windows = find_tlb_windows(self._octets.view(np.uint64), begin, time.time_ns())
        self._words = memoryview(self._octets).cast("Q")  # type: ignore[arg-type]
        self.fault_offset, self.sync_offset = self._find_fields()
        self.exit_offset = find_exit_flag()
        self._stop_cells = find_stop_cells()
        self.map_memory(0, address, size)

    def check(self, error: int, doing: str) -> None:
        """Raise BackendError if a call to the library failed."""
        if error:
            uclib.uc_strerror.restype = ctypes.c_char_p
            said = uclib.uc_strerror(error).decode()
            raise BackendError(
                f"Unicorn cannot {doing}: {said} (error {error}): reinstall unicorn 2.1.3 or newer"
            )

    def control(self, kind: int, *values: int) -> None:
        """Call uc_ctl to write `kind`."""
        request = kind | len(values) << 26 | uc.UC_CTL_IO_WRITE << 30
        arguments = [ctypes.c_uint64(value) for value in values]
        self.check(uclib.uc_ctl(self.handle, ctypes.c_int32(request), *arguments), f"set control {kind}")

    def hook(
        self, kind: int, callback: int | None, user: int, *extra: int, begin: int = 1, end: int = 0
    ) -> int:
        """Register the compiled `callback`, for every address unless `begin` to `end` says for which.

        `extra` is the instruction of UC_HOOK_INSN. Return what :meth:`unhook` takes.
        """
        made = ctypes.c_size_t()
        error = uclib.uc_hook_add(
            self.handle,
            ctypes.byref(made),
            ctypes.c_int(kind),
            ctypes.c_void_p(callback),
            ctypes.c_void_p(user),
            _u64(begin),
            _u64(end),
            *(ctypes.c_int(one) for one in extra),
        )
        self.check(error, f"add hook {kind:#x}")
        return made.value

    def unhook(self, hook: int) -> None:
        """Take away a hook; code that was compiled with it goes when the caller drops compiled code."""
        self.check(uclib.uc_hook_del(self.handle, ctypes.c_size_t(hook)), "take a hook away")

    def start(self, rip: int, end: int = 0, count: int = 0) -> int:
        """Run from `rip` until a hook stops, RIP is `end` or `count` instructions are done (0: without end).

        Return the library's error number.
        """
        return int(uclib.uc_emu_start(self.handle, rip, end, 0, count))

    @property
    def stops_at_blocks(self) -> bool:
        """Whether :meth:`stop` can be used: the engine can be asked to stop at blocks and nowhere else."""
        return self.exit_offset > 0 and self._stop_cells is not None

    def stop(self) -> None:
        """Ask the running engine to stop at its next block, as :meth:`end_at_blocks` has it. Any thread may call.

        Needs :attr:`stops_at_blocks`.
        """
        assert self._stop_cells is not None
        self._stop_cells.ask(self.handle)

    def stop_cells(self) -> tuple[int, int, int]:
        """Return the addresses of the cells by which :meth:`stop` asks, in its order."""
        assert self._stop_cells is not None
        return self._stop_cells.addresses(self.handle)

    def end_at_blocks(self, at_blocks: bool) -> None:
        """Have code that is compiled from now on look for requests to stop at blocks alone, or behind accesses too.

        Needs :attr:`exit_offset`. Runs of a number of instructions, and hooks of one instruction that stop, need the
        latter.
        """
        self._octets[self.exit_offset] = at_blocks

    def flush_tlb(self) -> None:
        """Drop every translation that the engine cached; its TLB doubles if it was full, shrinks if it was empty."""
        for window in self._windows:
            window.value = 0
        self.control(uc.UC_CTL_TLB_FLUSH)

    def drop_code(self) -> None:
        """Drop all compiled code."""
        self.control(uc.UC_CTL_TB_FLUSH)

    def droppers(self) -> tuple[int, int, int, int]:
        """Return the CPU and the engine, as the library has them, and its functions that drop a page and code.

        All 0 where the library is not known: there is no way to drop one thing then.
        """
        if not knows_library():
            return 0, 0, 0, 0
        cpu = int(self._words[Offset.UC_CPU >> 3])
        functions = uclib.tlb_flush_page_x86_64, uclib.tb_invalidate_phys_range_x86_64
        page, code = (ctypes.cast(one, ctypes.c_void_p).value or 0 for one in functions)
        return cpu, self.handle.value or 0, page, code

    def drop_page(self, gva: int) -> None:
        """Drop the 4 KiB at `gva` from the cached translations. Needs :meth:`droppers`."""
        uclib.tlb_flush_page_x86_64(ctypes.c_void_p(self._words[Offset.UC_CPU >> 3]), _u64(gva & -4096))

    def drop_code_of(self, hpa: int) -> None:
        """Drop code that was compiled from the frame at `hpa`. Needs :meth:`droppers`."""
        uclib.tb_invalidate_phys_range_x86_64(self.handle, _u64(hpa), _u64(hpa + 4096))

    def fault_address(self) -> int | None:
        """Return the exact linear address of the last failed translation, or None if it cannot be known."""
        if not self.fault_offset:
            return None
        return int(self._words[self.fault_offset >> 3])

    def map_memory(self, hpa: int, address: int, size: int) -> None:
        """Let the `size` bytes of this process at `address` be the engine's memory at `hpa`."""
        error = uclib.uc_mem_map_ptr(
            self.handle, _u64(hpa), _u64(size), uc.UC_PROT_ALL, ctypes.c_void_p(address)
        )
        self.check(error, f"map {size:#x} bytes of host memory")

    def set_tables(self, base: int, limit: int) -> None:
        """Give the engine a GDT at linear address `base`, and no LDT."""
        for register, table in (
            (x86.UC_X86_REG_GDTR, _Table(0, base, limit, 0)),
            (x86.UC_X86_REG_LDTR, _Table()),
        ):
            self.check(
                uclib.uc_reg_write(self.handle, register, ctypes.byref(table)), "set a descriptor table"
            )

    def read_msr(self, number: int) -> int:
        """Return an MSR. Not in SVM guest mode, where the library would jump out of the call."""
        cell = _Msr(number, 0)
        self.check(
            uclib.uc_reg_read(self.handle, x86.UC_X86_REG_MSR, ctypes.byref(cell)), f"read MSR {number:#x}"
        )
        return int(cell.value)

    def write_msr(self, number: int, value: int) -> None:
        """Set an MSR. Not in SVM guest mode either."""
        cell = _Msr(number, value)
        self.check(
            uclib.uc_reg_write(self.handle, x86.UC_X86_REG_MSR, ctypes.byref(cell)), f"write MSR {number:#x}"
        )

    def write_general(self, values: list[int], rip: int = 0) -> None:
        """Set the sixteen general registers, in the order of their encodings, and RIP."""
        for register, value in zip((*_GENERAL, x86.UC_X86_REG_RIP), (*values, rip), strict=True):
            uclib.uc_reg_write(self.handle, register, ctypes.byref(_u64(value)))

    @contextmanager
    def identity_fetches(self) -> Iterator[None]:
        """Let the engine fetch from physical addresses and read nothing: before any other hook is there."""
        self.control(uc.UC_CTL_TLB_TYPE, uc.UC_TLB_VIRTUAL)
        fill = ctypes.CFUNCTYPE(
            ctypes.c_bool, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
        )(self._probe_fill)
        made = ctypes.c_size_t()
        uclib.uc_hook_add(
            self.handle,
            ctypes.byref(made),
            ctypes.c_int(uc.UC_HOOK_TLB_FILL),
            fill,
            ctypes.c_void_p(0),
            _u64(1),
            _u64(0),
        )
        try:
            yield
        finally:
            uclib.uc_hook_del(self.handle, made)

    def structure(self) -> npt.NDArray[np.uint64]:
        """Return the engine's own structure as words: its pointers lead to its objects."""
        return self._octets.view(np.uint64)

    def close(self) -> None:
        """Free the engine; idempotent."""
        self._close()

    def _enter_user_mode(self, scratch: bytes) -> None:
        """Execute SYSRET once, unpaged: it loads flat ring-3 segments without reading a descriptor table."""
        self._map_scratch(scratch)
        self.write_msr(_EFER, self.read_msr(_EFER) | 1)
        self.write_msr(_STAR, _USER_SELECTORS)
        for register, value in ((x86.UC_X86_REG_RCX, 0x1800), (x86.UC_X86_REG_R11, _RFLAGS)):
            uclib.uc_reg_write(self.handle, register, ctypes.byref(_u64(value)))
        error = uclib.uc_emu_start(self.handle, _u64(0x1100), _u64(0x1800), _u64(0), ctypes.c_size_t(1))
        self.check(error, "enter user mode")

    def _find_fields(self) -> tuple[int, int]:
        """Return the offsets of the fault address and of the flag, 0 for one that cannot be told apart."""
        before = structure_of(self.handle).copy()
        changed = []
        for target in (0x1800, 0x1810):
            uclib.uc_reg_write(self.handle, x86.UC_X86_REG_RIP, ctypes.byref(_u64(target)))
            now = structure_of(self.handle)
            changed.append({int(n) for n in np.nonzero((before == 0) & (now == 1))[0]})
        found: set[int] | None = None
        with self.identity_fetches():
            for address in (0x5A5A12345678, 0x2B7D0BADCAFE):
                uclib.uc_reg_write(self.handle, x86.UC_X86_REG_RDI, ctypes.byref(_u64(address)))
                self.start(_PROBE_AT)
                words = structure_of(self.handle).view(np.uint64)
                here = {int(n) * 8 for n in np.nonzero(words == address)[0]}
                found = here if found is None else found & here
            self.state_address = find_cpu_state(self)  #: of the CPU state, which begins with the registers
            self.last_exception = LastException(self, self.state_address, _PROVOKING)
        after = structure_of(self.handle)
        # Both flags that a write of RIP raises are lowered by a run; the later one in the structure is the
        # program-counter flag, the earlier ends the translation loop.
        flags = sorted(n for n in changed[0] & changed[1] if after[n] == 0)
        self._unmap_scratch()
        fault_offset = found.pop() if found and len(found) == 1 else 0
        return fault_offset, (flags[-1] if len(flags) == 2 else 0)

    @staticmethod
    def _probe_fill(_handle: int, gva: int, kind: int, entry: int, _user: int) -> bool:
        if kind != uc.UC_MEM_FETCH:
            return False
        words = (ctypes.c_uint64 * 2).from_address(entry)
        words[0] = gva
        ctypes.c_uint32.from_address(entry + 8).value = uc.UC_PROT_READ | uc.UC_PROT_EXEC
        return True

    def _map_scratch(self, scratch: bytes) -> None:
        error = uclib.uc_mem_map(self.handle, _u64(0), ctypes.c_size_t(len(scratch)), uc.UC_PROT_ALL)
        self.check(error, "map scratch memory")
        self.check(
            uclib.uc_mem_write(self.handle, _u64(0), scratch, ctypes.c_size_t(len(scratch))),
            "write scratch memory",
        )

    def _unmap_scratch(self) -> None:
        self.check(uclib.uc_mem_unmap(self.handle, _u64(0), ctypes.c_size_t(0x2000)), "unmap scratch memory")
        self.drop_code()
        self.flush_tlb()


class _Table(ctypes.Structure):
    _fields_ = (
        ("selector", ctypes.c_uint16),
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


class _Msr(ctypes.Structure):
    _fields_ = (("number", ctypes.c_uint32), ("value", ctypes.c_uint64))


def _u64(value: int) -> ctypes.c_uint64:
    return ctypes.c_uint64(value)
