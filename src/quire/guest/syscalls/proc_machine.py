"""What /proc says of the guest's machine, and /sys of its processors: memory, time, load, vCPUs by the profile."""

import os
from collections.abc import Callable

from quire.arch import CPUID_1_ECX, CPUID_1_EDX, CPUID_7_EBX
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import PAGE_4K

__all__ = ["OF_MACHINE", "OF_SYSFS", "busy_share"]

_KIB = 1024
_SECOND = 1_000_000_000
_TICK = _SECOND // os.sysconf("SC_CLK_TCK")
#: Names of features as Linux spells them, where they are not the manual's in small letters.
_SPELT = {
    "CLFSH": "clflush",
    "SSE3": "pni",
    "CMPXCHG16B": "cx16",
    "EIST": "est",
    "PBE": "pbe",
    "HTT": "ht",
}
#: Those of CPUID.80000001H: EDX, then ECX.
_EXTENDED = ({11: "syscall", 20: "nx", 26: "pdpe1gb", 27: "rdtscp", 29: "lm"}, {0: "lahf_lm", 5: "abm"})
_MHZ = 1000.0  # an instruction takes 1 ns


def _meminfo(task: Task) -> bytes:
    total, free = task.machine.memory_sizes()
    cached = task.space.pages.shared.bytes
    used = max(total - free - cached, 0)
    sizes = {
        "MemTotal": total,
        "MemFree": free,
        "MemAvailable": free + cached,
        "Buffers": 0,
        "Cached": cached,
        "SwapCached": 0,
        "Active": used,
        "Inactive": cached,
        "Unevictable": 0,
        "Mlocked": 0,
        "SwapTotal": 0,
        "SwapFree": 0,
        "Dirty": 0,
        "Writeback": 0,
        "AnonPages": used,
        "Mapped": cached,
        "Shmem": 0,
        "CommitLimit": total,
        "Committed_AS": sum(one.image.space.mapped_bytes for one in task.kernel.live()),
        "VmallocTotal": 1 << 45,
        "VmallocUsed": 0,
        "HugePages_Total": None,
        "HugePages_Free": None,
        "Hugepagesize": 2 << 20,
    }
    lines = (
        f"{name + ':':<16}{0:8}\n" if size is None else f"{name + ':':<16}{size // _KIB:8} kB\n"
        for name, size in sizes.items()
    )
    return "".join(lines).encode()


def _uptime(task: Task) -> bytes:
    clock = task.kernel.clock
    up, busy = clock.now(), clock.busy()
    idle = max(up * task.machine.vcpu_count - busy, 0)
    return f"{up / _SECOND:.2f} {idle / _SECOND:.2f}\n".encode()


def busy_share(task: Task) -> float:
    """Return how many vCPUs tasks kept busy, on average since the guest began."""
    clock = task.kernel.clock
    return clock.busy() / max(clock.now() - clock.begun, 1)


def _runnable(task: Task) -> tuple[int, int]:
    """Return how many tasks can run, and how many there are."""
    tasks = [one for process in task.kernel.live() for one in process.live()]
    return sum(1 for one in tasks if not one.blocked and not one.process.stopped), len(tasks)


def _loadavg(task: Task) -> bytes:
    load, (running, every) = busy_share(task), _runnable(task)
    averages = " ".join(3 * [f"{load:.2f}"])
    return f"{averages} {running}/{every} {task.kernel.last_number}\n".encode()


def _stat(task: Task) -> bytes:
    kernel, count = task.kernel, task.machine.vcpu_count
    up, busy = kernel.clock.now(), kernel.clock.busy()
    idle = max(up * count - busy, 0)
    each = f"{busy // count // _TICK} 0 0 {idle // count // _TICK} 0 0 0 0 0 0\n"
    lines = [f"cpu  {busy // _TICK} 0 0 {idle // _TICK} 0 0 0 0 0 0\n"]
    lines += [f"cpu{number} {each}" for number in range(count)]
    running, every = _runnable(task)
    lines += [
        "intr 0\n",
        f"ctxt {kernel.scheduler.switches}\n",
        f"btime {kernel.clock.now(0) // _SECOND - up // _SECOND}\n",
        f"processes {kernel.last_number - kernel.first.pid + 1}\n",
        f"procs_running {running}\n",
        f"procs_blocked {every - running}\n",
    ]
    return "".join(lines).encode()


def _flags(answers: Callable[[int, int], tuple[int, int, int, int]]) -> str:
    _, _, ecx, edx = answers(1, 0)
    found = [
        _SPELT.get(name, name.lower())
        for layout, value in ((CPUID_1_EDX, edx), (CPUID_1_ECX, ecx), (CPUID_7_EBX, answers(7, 0)[1]))
        for name, is_set in layout.decode(value).items()
        if is_set
    ]
    _, _, ecx, edx = answers(0x80000001, 0)
    for names, value in zip(_EXTENDED, (edx, ecx), strict=True):
        found += [name for bit, name in names.items() if value >> bit & 1]
    return " ".join(found)


def _cpuinfo(task: Task) -> bytes:
    profile, answers = task.machine.profile, task.machine.cpuid
    signature, count = answers(1, 0)[0], task.machine.vcpu_count
    vendor = b"".join(word.to_bytes(4, "little") for word in (answers(0, 0)[n] for n in (1, 3, 2))).decode()
    _, ways_line, sets, _ = answers(4, 3)
    cache = ((ways_line >> 22) + 1) * ((ways_line & 0xFFF) + 1) * (sets + 1)
    rows = {
        "vendor_id": vendor,
        "cpu family": signature >> 8 & 0xF,
        "model": signature >> 12 & 0xF0 | signature >> 4 & 0xF,
        "model name": profile.title,
        "stepping": signature & 0xF,
        "cpu MHz": f"{_MHZ:.3f}",
        "cache size": f"{cache // _KIB} KB",
        "physical id": 0,
        "siblings": count,
        "core id": None,
        "cpu cores": count,
        "apicid": None,
        "initial apicid": None,
        "fpu": "yes",
        "fpu_exception": "yes",
        "cpuid level": answers(0, 0)[0],
        "wp": "yes",
        "flags": _flags(answers),
        "bugs": "",
        "bogomips": f"{2 * _MHZ:.2f}",
        "clflush size": 64,
        "cache_alignment": 64,
        "address sizes": f"{profile.maxphyaddr} bits physical, {profile.linear_bits} bits virtual",
        "power management": "",
    }
    parts = []
    for number in range(count):
        lines = [
            ("processor", number),
            *((name, number if row is None else row) for name, row in rows.items()),
        ]
        parts.append("".join(_row(name, row) for name, row in lines) + "\n")
    return "".join(parts).encode()


def _row(name: str, value: object) -> str:
    """Return a line as the kernel aligns it: by tabulators, to column 16."""
    tabs = "\t" * (1 if len(name) >= 8 else 2)
    return f"{name}{tabs}: {value}\n"


def _vcpus(task: Task) -> bytes:
    count = task.machine.vcpu_count
    return b"0\n" if count == 1 else f"0-{count - 1}\n".encode()


def _large_pages(task: Task) -> bytes:
    mode = task.space.commons.large.value
    return (
        " ".join(f"[{one}]" if one == mode else one for one in ("always", "madvise", "never")).encode()
        + b"\n"
    )


#: Files below /proc that are of the whole machine.
OF_MACHINE: dict[str, Callable[[Task], bytes]] = {
    "cpuinfo": _cpuinfo,
    "loadavg": _loadavg,
    "meminfo": _meminfo,
    "stat": _stat,
    "uptime": _uptime,
}
#: Files of sysfs, by their paths.
OF_SYSFS: dict[str, Callable[[Task], bytes]] = {
    "/sys/devices/system/cpu/online": _vcpus,
    "/sys/devices/system/cpu/possible": _vcpus,
    "/sys/devices/system/cpu/present": _vcpus,
    "/sys/kernel/mm/transparent_hugepage/enabled": _large_pages,
    "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size": lambda task: f"{512 * PAGE_4K}\n".encode(),
}
