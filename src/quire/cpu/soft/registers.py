"""The soft Cpu's registers, by the manual's names, through the library's C calls."""

import ctypes
import struct
import weakref

from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from quire.arch import GENERAL
from quire.cpu.soft.engine import Engine
from quire.errors import MisuseError, did_you_mean

__all__ = ["Batch", "SavedRegisters", "SoftRegisters"]

_IDS: dict[str, int] = {
    name: getattr(x86, f"UC_X86_REG_{name.upper()}")
    for name in (*GENERAL, "rip", "rflags", "fs_base", "gs_base", "mxcsr")
}
_XMM = tuple(getattr(x86, f"UC_X86_REG_XMM{n}") for n in range(16))
_ST = tuple(getattr(x86, f"UC_X86_REG_FP{n}") for n in range(8))
_MXCSR_MASK = 0xFFFF
_POINTERS = ("rip", "rsp", "rflags")
_KEPT = {name: n for n, name in enumerate(_POINTERS)}
_reg_read, _reg_write = uclib.uc_reg_read, uclib.uc_reg_write
_read_batch, _write_batch = uclib.uc_reg_read_batch, uclib.uc_reg_write_batch


class SoftRegisters:
    """Registers of `engine`. Raises MisuseError for a name that is not a register.

    RIP, RSP and RFLAGS, which every exit saves, are kept from the end of a run while they are as they were then:
    the Cpu says with :attr:`fresh` when its run has read them, and when the engine goes on.
    """

    def __init__(self, engine: Engine) -> None:
        self._handle = engine.handle
        self._cell = ctypes.c_uint64()
        self._reference = ctypes.byref(self._cell)
        self.pointers = Batch(_POINTERS)
        self._kept = self.pointers.values
        self.fresh = False  #: whether the values of :attr:`pointers` are those of the engine
        self._batches: dict[tuple[str, ...], Batch] = {}
        self._wide = ctypes.create_string_buffer(16)

    def read(self, name: str) -> int:
        """Return one register, unsigned."""
        if self.fresh and name in _KEPT:
            return self._kept[_KEPT[name]]
        self._cell.value = 0
        _reg_read(self._handle, _number(name), self._reference)
        return self._cell.value

    def write(self, name: str, value: int) -> None:
        """Set one register, modulo 2**64."""
        if name == "rip":
            self._kept[0] = value  # which the engine takes as it is
        elif name in _KEPT:
            self.fresh = False
        self._cell.value = value
        _reg_write(self._handle, _number(name), self._reference)

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        """Return several registers."""
        if names == _POINTERS:
            if not self.fresh:
                self.refresh()
            return self._kept[:]
        batch = self._batches.get(names)
        if batch is None:
            batch = self._batches[names] = Batch(names)
        _read_batch(self._handle, batch.numbers, batch.pointers, batch.count)
        return batch.values[:]

    def save(self, into: "SavedRegisters | None" = None) -> "SavedRegisters":
        """Return all that a program has in registers, for :meth:`load`: in what was returned before, if it is given."""
        saved = SavedRegisters(self._handle) if into is None else into
        saved.save(self._handle)
        return saved

    def load(self, saved: "SavedRegisters") -> None:
        """Set all registers to what they were."""
        saved.load(self._handle)
        self.fresh = False

    def refresh(self) -> None:
        """Read RIP, RSP and RFLAGS into the values of :attr:`pointers`."""
        batch = self.pointers
        _read_batch(self._handle, batch.numbers, batch.pointers, batch.count)
        self.fresh = True

    def write_many(self, values: dict[str, int]) -> None:
        """Set several registers."""
        names = tuple(values)
        batch = self._batches.get(names)
        if batch is None:
            if not _IDS.keys() >= values.keys():
                for name, value in values.items():  # one that only a subclass knows, or nobody
                    self.write(name, value)
                return
            batch = self._batches[names] = Batch(names)
        batch.values[:] = list(values.values())
        if batch.has_kept:
            self.fresh = False
        _write_batch(self._handle, batch.numbers, batch.pointers, batch.count)

    def save_fpu(self) -> bytes:
        """Return x87 and SSE state as FXSAVE64 would store it (SDM 1 §10.5.1)."""
        control, status, tags = (
            self._raw(number, 2)
            for number in (x86.UC_X86_REG_FPCW, x86.UC_X86_REG_FPSW, x86.UC_X86_REG_FPTAG)
        )
        full = int.from_bytes(tags, "little")
        abridged = sum(1 << n for n in range(8) if full >> 2 * n & 3 != 3)
        image = bytearray(512)
        struct.pack_into("<2s2sBx", image, 0, control, status, abridged)
        struct.pack_into("<II", image, 24, self.read("mxcsr"), _MXCSR_MASK)
        for n, number in enumerate(_ST):
            image[32 + 16 * n : 42 + 16 * n] = self._raw(number, 10)
        for n, number in enumerate(_XMM):
            image[160 + 16 * n : 176 + 16 * n] = self._raw(number, 16)
        return bytes(image)

    def load_fpu(self, image: bytes) -> None:
        """Set x87 and SSE state from an FXSAVE64 image; reserved MXCSR bits are dropped."""
        if len(image) != 512:
            raise MisuseError(f"An FXSAVE image has 0x200 bytes, not {len(image):#x}")
        control, status, abridged = struct.unpack_from("<2s2sB", image)
        full = sum(3 << 2 * n for n in range(8) if not abridged >> n & 1)
        self._set_raw(x86.UC_X86_REG_FPCW, control)
        self._set_raw(x86.UC_X86_REG_FPSW, status)
        self._set_raw(x86.UC_X86_REG_FPTAG, full.to_bytes(2, "little"))
        self.write("mxcsr", struct.unpack_from("<I", image, 24)[0] & _MXCSR_MASK)
        for n, number in enumerate(_ST):
            self._set_raw(number, image[32 + 16 * n : 42 + 16 * n])
        for n, number in enumerate(_XMM):
            self._set_raw(number, image[160 + 16 * n : 176 + 16 * n])

    def _raw(self, number: int, length: int) -> bytes:
        _reg_read(self._handle, number, self._wide)
        return self._wide.raw[:length]

    def _set_raw(self, number: int, value: bytes) -> None:
        ctypes.memmove(self._wide, value, len(value))
        _reg_write(self._handle, number, self._wide)


class SavedRegisters:
    """Room for the registers of engines like the one of `handle`."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._context = ctypes.c_void_p()
        uclib.uc_context_alloc(handle, ctypes.byref(self._context))
        weakref.finalize(self, uclib.uc_context_free, self._context)

    def save(self, handle: ctypes.c_void_p) -> None:
        """Keep the registers of the engine `handle` as they are now."""
        uclib.uc_context_save(handle, self._context)

    def load(self, handle: ctypes.c_void_p) -> None:
        """Set the registers of the engine `handle` to these: of the same, or of another vCPU."""
        uclib.uc_context_restore(handle, self._context)


class Batch:
    """The arrays of one batched read: the engine's numbers of the registers, the address of each value, the values."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.count = len(names)
        self.has_kept = not _KEPT.keys().isdisjoint(names)
        self.numbers = (ctypes.c_int * self.count)(*map(_number, names))
        self.values = (ctypes.c_uint64 * self.count)()
        start = ctypes.addressof(self.values)
        self.pointers = (ctypes.c_void_p * self.count)(*(start + 8 * n for n in range(self.count)))


def _number(name: str) -> int:
    found = _IDS.get(name)
    if found is None:
        raise MisuseError(f"No register is called {name!r}{did_you_mean(name, list(_IDS))}")
    return found
