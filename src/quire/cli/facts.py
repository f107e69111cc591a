"""What a machine has that Quire needs or uses, each fact with what to do where it is missing. Nothing is changed."""

import ctypes
import errno
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import quire
from quire.guest.own_process import ADDRESS_SPACE
from quire.own_descriptors import LEAST_OPEN_FILES

__all__ = ["Fact", "engine_version", "machine_facts"]

_LANDLOCK_CREATE_RULESET, _RULESET_VERSION = 444, 1
_SECCOMP, _GET_ACTION_AVAIL, _KILL_PROCESS = 317, 2, 0x8000_0000


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: `missing` is whether Quire cannot run guests for it, `advice` what to do, empty for nothing."""

    name: str
    value: str
    advice: str = ""
    missing: bool = False


def engine_version() -> str:
    """Return the engine's name and version."""
    return f"unicorn {_version('unicorn')}"


def machine_facts() -> list[Fact]:
    """Return every fact, in the order in which they are shown."""
    return [*_versions(), _counts(), _machine(), *_kernel_code(), *_host(), *_limits(), *_walls()]


def _versions() -> Iterator[Fact]:
    yield Fact("Quire", f"{quire.__version__} in {os.path.dirname(quire.__file__)}")
    yield Fact("Python", f"{platform.python_version()}, {sys.executable}")
    for name, packages in (("engine", ("unicorn",)), ("compiler", ("numba", "llvmlite"))):
        missing = any(_version(one) == _ABSENT for one in packages)
        advice = f"install it: pip install {' '.join(packages)}" if missing else ""
        yield Fact(name, ", ".join(f"{one} {_version(one)}" for one in packages), advice, missing)


_ABSENT = "is not installed"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _ABSENT


def _counts() -> Fact:
    try:
        from quire.cpu.soft.tcg.offsets import knows_library
    except ImportError:
        return Fact("full detail", "cannot be told without the engine")
    if knows_library():
        return Fact("full detail", "counts in the engine's own code")
    return Fact("full detail", "counts by hooks, five times as slow", "install PyPI's wheel of unicorn 2.1.4")


def _machine() -> Fact:
    system, machine = platform.system(), platform.machine()
    wrong = (system, machine) != ("Linux", "x86_64")
    advice = "run it on x86-64 Linux: guests' system calls are the host's own" if wrong else ""
    return Fact("machine", f"{system} {platform.release()} on {machine}", advice, wrong)


def _kernel_code() -> Iterator[Fact]:
    from quire.kernels.store import cache_folder, find, modules_with_code, unfit

    folder = cache_folder()
    above = next(one for one in (folder, *folder.parents) if one.exists())
    closed = not os.access(above, os.W_OK)
    advice = "make it writable, or name another in QUIRE_CACHE_DIR" if closed else ""
    yield Fact("kernel cache", str(folder), advice)
    doubt = unfit()
    if doubt is not None:
        yield Fact("kernels", f"compiled by Numba in each process: {doubt}")
        return
    modules = [find(one) for one in modules_with_code()]
    places = sorted({os.path.dirname(one.path) for one in modules if one.image is not None})
    stored = sum(one.image is not None for one in modules)
    doubts = [doubt for one in modules for doubt in one.doubts]
    value = f"{stored} of {len(modules)} modules are compiled{', in ' if places else ''}{', '.join(places)}"
    advice = "quire warm compiles the others" if stored < len(modules) else ""
    yield Fact("kernels", value + (f"; not used: {doubts[0]}" if doubts else ""), advice)


def _host() -> Iterator[Fact]:
    from quire.errors import BackendError
    from quire.memory.numa import Topology

    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    state = (
        "usable"
        if usable
        else "is there, without permission"
        if os.path.exists("/dev/kvm")
        else "is not there"
    )
    yield Fact("/dev/kvm", state, "" if usable else "needed by some suites of quire check alone")
    try:
        nodes = Topology.of_host().count
        yield Fact("NUMA nodes", str(nodes), "" if nodes > 1 else "--numa declares nodes of the model")
    except BackendError:
        yield Fact("NUMA nodes", "not shown by the kernel", "--numa declares nodes of the model")
    yield _memfd()
    here = os.path.isdir("/proc/self/fd")
    yield Fact("/proc", "mounted" if here else "not mounted", "" if here else "mount proc on /proc", not here)
    folder = tempfile.gettempdir()
    open_ = os.access(folder, os.W_OK)
    yield Fact(
        "temporary folder", folder, "" if open_ else "make it writable, or name another in TMPDIR", not open_
    )


def _memfd() -> Fact:
    try:
        os.close(os.memfd_create("quire-doctor", os.MFD_CLOEXEC))
    except OSError as error:
        return Fact(
            "memfd", error.strerror or str(error), "allow memfd_create: it is guest memory", missing=True
        )
    return Fact("memfd", "usable")


def _limits() -> Iterator[Fact]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    few = files != resource.RLIM_INFINITY and files < LEAST_OPEN_FILES
    yield Fact(
        "open files", _count(files), f"raise ulimit -n to {LEAST_OPEN_FILES} or more" if few else "", few
    )
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    narrow = space != resource.RLIM_INFINITY and space < ADDRESS_SPACE
    advice = f"raise ulimit -v to {ADDRESS_SPACE >> 10} or more" if narrow else ""
    yield Fact("address space", _size(space), advice, narrow)
    yield Fact("locked memory", _size(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]))


def _count(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def _size(limit: int) -> str:
    from quire.report import format_size

    return "unlimited" if limit == resource.RLIM_INFINITY else format_size(limit)


def _walls() -> Iterator[Fact]:
    """Ask the kernel what it can keep a process from, without asking it to."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    abi = call(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _RULESET_VERSION)
    why = errno.errorcode.get(ctypes.get_errno(), "")
    advice = "a kernel of 5.13 or newer has it, where the boot option lsm= names it"
    yield Fact("Landlock", f"ABI {abi}" if abi > 0 else f"not there ({why})", "" if abi > 0 else advice)
    action = ctypes.c_uint32(_KILL_PROCESS)
    there = call(_SECCOMP, _GET_ACTION_AVAIL, 0, ctypes.byref(action)) == 0
    why = errno.errorcode.get(ctypes.get_errno(), "")
    yield Fact(
        "seccomp", "filters" if there else f"not there ({why})", "" if there else "a kernel of 4.14 has it"
    )
