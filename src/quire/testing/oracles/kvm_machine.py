"""One KVM virtual machine with one vCPU, through the three calls of /dev/kvm: open, ioctl, mmap. No package is needed.

Numbers and structures are those of Linux's ``include/uapi/linux/kvm.h`` for x86-64. Fails with BackendError, which
names the call and the reason, where the device is absent or refuses.
"""

import ctypes
import fcntl
import mmap
import os
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

import numpy as np
import numpy.typing as npt

from quire.arch import GENERAL, LOW32
from quire.errors import BackendError

__all__ = ["ExitKind", "KvmMachine", "Segment", "SystemRegisters", "supported_cpuid"]

_DEVICE = "/dev/kvm"
_API_VERSION = 12
_GET_API_VERSION, _CREATE_VM, _GET_VCPU_MMAP_SIZE, _CREATE_VCPU, _RUN = 0xAE00, 0xAE01, 0xAE04, 0xAE41, 0xAE80
_SET_USER_MEMORY_REGION, _SET_TSS_ADDRESS = 0x4020_AE46, 0xAE47
_SET_REGS, _GET_SREGS, _SET_SREGS = 0x4090_AE82, 0x8138_AE83, 0x4138_AE84
_GET_SUPPORTED_CPUID, _SET_CPUID2 = 0xC008_AE05, 0x4008_AE90
_TSS_ADDRESS = 0xFFFB_D000  # three pages that Intel hosts need below 4 GiB, outside of the guest's memory
_CPUID_ENTRIES, _CPUID_BYTES = 128, 40
_EXIT_REASON_AT = 8  # in struct kvm_run
_VENDOR = (0x756E_6547, 0x6C65_746E, 0x4965_6E69)  # GenuineIntel, in EBX, ECX, EDX of leaf 0

Words = npt.NDArray[np.uint64]
CpuidLeaf = tuple[int, int]


class ExitKind(IntEnum):
    """Exit reasons of KVM_RUN that mean something here."""

    HALTED = 5
    SHUTDOWN = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment register: `rights` as bits 15:0 of VMX access rights (type, S, DPL, P, AVL, L, D/B, G)."""

    selector: int
    rights: int
    base: int = 0
    limit: int = LOW32

    def pack(self) -> bytes:
        """Return struct kvm_segment."""
        bits = self.rights
        parts = (bits & 15, bits >> 7 & 1, bits >> 5 & 3, bits >> 14 & 1)
        more = (bits >> 4 & 1, bits >> 13 & 1, bits >> 15 & 1, bits >> 12 & 1, not self.rights)
        return struct.pack("<QIH9Bx", self.base, self.limit, self.selector, *parts, *more)


@dataclass(frozen=True, slots=True)
class SystemRegisters:
    """What KVM_SET_SREGS sets, by linear address and limit where it is a table."""

    cs: Segment
    data: Segment
    tr: Segment
    gdt: tuple[int, int]
    idt: tuple[int, int]
    cr0: int
    cr3: int
    cr4: int
    efer: int
    ldtr: Segment = field(default_factory=lambda: Segment(0, 0))

    def pack(self, apic_base: int) -> bytes:
        """Return struct kvm_sregs; the APIC base is kept as it is."""
        order = (self.cs, *[self.data] * 5, self.tr, self.ldtr)
        tables = b"".join(struct.pack("<QH6x", *table) for table in (self.gdt, self.idt))
        controls = struct.pack("<7Q", self.cr0, 0, self.cr3, self.cr4, 0, self.efer, apic_base)
        return b"".join(segment.pack() for segment in order) + tables + controls + bytes(32)


def _ioctl(file: int, what: str, request: int, argument: int | bytearray = 0) -> int:
    """Do one call, with a number or with a structure that the kernel reads and writes in place."""
    try:
        if isinstance(argument, int):
            return int(fcntl.ioctl(file, request, argument))
        return int(fcntl.ioctl(file, request, argument, True))
    except OSError as error:
        raise BackendError(
            f"{what} failed: {error.strerror}; this kernel's KVM cannot be the oracle"
        ) from None


def _open() -> int:
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise BackendError(f"{_DEVICE} cannot be opened: {error.strerror}") from None


def _cpuid(device: int) -> bytearray:
    """Return struct kvm_cpuid2 of all that this machine's KVM offers, under Intel's vendor name.

    With AMD's name KVM would hold entries to AMD's manual, in which bit 8 of a PML4E is reserved.
    """
    table = bytearray(8 + _CPUID_ENTRIES * _CPUID_BYTES)
    struct.pack_into("<I", table, 0, _CPUID_ENTRIES)
    _ioctl(device, "KVM_GET_SUPPORTED_CPUID", _GET_SUPPORTED_CPUID, table)
    for at in range(8, 8 + struct.unpack_from("<I", table)[0] * _CPUID_BYTES, _CPUID_BYTES):
        if struct.unpack_from("<I", table, at)[0] == 0:
            struct.pack_into("<3I", table, at + 16, *_VENDOR)
    return table


def supported_cpuid() -> dict[CpuidLeaf, tuple[int, int, int, int]]:
    """Return (leaf, subleaf) to (EAX, EBX, ECX, EDX) of a guest here. Raises BackendError."""
    device = _open()
    try:
        table = _cpuid(device)
    finally:
        os.close(device)
    count = struct.unpack_from("<I", table)[0]
    rows = [struct.unpack_from("<7I", table, 8 + n * _CPUID_BYTES) for n in range(count)]
    return {(row[0], row[1]): (row[3], row[4], row[5], row[6]) for row in rows}


class KvmMachine:
    """A virtual machine over `size` bytes of zeroed memory at guest-physical 0. Raises BackendError."""

    def __init__(self, size: int) -> None:
        self._files: list[int] = []
        self._pages = mmap.mmap(-1, size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        #: Guest-physical memory as 8-byte words.
        self.memory: Words = np.frombuffer(self._pages, np.uint64)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        try:
            self._create(size)
        except BackendError:
            self.close()
            raise

    def _create(self, size: int) -> None:
        device = self._keep(_open())
        version = _ioctl(device, "KVM_GET_API_VERSION", _GET_API_VERSION)
        if version != _API_VERSION:
            raise BackendError(f"KVM has API version {version}: version {_API_VERSION} is needed")
        self._vm = self._keep(_ioctl(device, "KVM_CREATE_VM", _CREATE_VM))
        self._set_tss_address()
        self._size = size
        self._region(size)
        self._cpu = self._keep(_ioctl(self._vm, "KVM_CREATE_VCPU", _CREATE_VCPU))
        _ioctl(self._cpu, "KVM_SET_CPUID2", _SET_CPUID2, _cpuid(device))
        length = _ioctl(device, "KVM_GET_VCPU_MMAP_SIZE", _GET_VCPU_MMAP_SIZE)
        self._run = mmap.mmap(self._cpu, length)
        sregs = bytearray(312)
        _ioctl(self._cpu, "KVM_GET_SREGS", _GET_SREGS, sregs)
        self._apic_base = struct.unpack_from("<Q", sregs, 272)[0]

    def _keep(self, file: int) -> int:
        self._files.append(file)
        return file

    def _set_tss_address(self) -> None:
        """KVM_SET_TSS_ADDR takes an address above 2 GiB as its argument, which fcntl.ioctl refuses."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong)
        if libc.ioctl(self._vm, _SET_TSS_ADDRESS, _TSS_ADDRESS) < 0:
            raise BackendError(f"KVM_SET_TSS_ADDR failed: {os.strerror(ctypes.get_errno())}")

    def forget_tables(self) -> None:
        """Make KVM drop what it derived from guest tables: what the host writes to them it does not see."""
        self._region(0)
        self._region(self._size)

    def _region(self, size: int) -> None:
        slot = struct.pack("<IIQQQ", 0, 0, 0, size, self._address)
        _ioctl(self._vm, "KVM_SET_USER_MEMORY_REGION", _SET_USER_MEMORY_REGION, bytearray(slot))

    def set_registers(self, system: SystemRegisters, *, rip: int, rflags: int, **named: int) -> None:
        """Set system registers, RIP, RFLAGS, and general registers by name; those not named are 0."""
        _ioctl(self._cpu, "KVM_SET_SREGS", _SET_SREGS, bytearray(system.pack(self._apic_base)))
        order = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *GENERAL[8:])
        values = [named.pop(name, 0) for name in order]
        assert not named, f"{named} are no registers"
        registers = bytearray(struct.pack("<18Q", *values, rip, rflags))
        _ioctl(self._cpu, "KVM_SET_REGS", _SET_REGS, registers)

    def run(self) -> int:
        """Run to the next exit, and return its reason."""
        _ioctl(self._cpu, "KVM_RUN", _RUN)
        return int(struct.unpack_from("<I", self._run, _EXIT_REASON_AT)[0])

    def close(self) -> None:
        """Close every file; the memory stays as long as someone looks at it."""
        for file in reversed(self._files):
            os.close(file)
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
