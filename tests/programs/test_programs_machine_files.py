"""What a guest reads of its machine: memory, time, load, processors are its own and not the host's."""

import pytest
from native import quire

from quire.arch import SKYLAKE_X

pytestmark = pytest.mark.programs


def read(*names: str, options: tuple[str, ...] = ()) -> str:
    outcome = quire(["cat", *names], *options, "--report", "none")
    assert (outcome.status, outcome.stderr) == (0, b"")
    return outcome.stdout.decode()


def test_memory_is_the_guests() -> None:
    lines = read("/proc/meminfo", options=("--memory", "96M")).splitlines()
    sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    assert sizes["MemTotal"] == 96 << 10
    assert 0 < sizes["Cached"] < sizes["MemTotal"] - sizes["MemFree"] < 4 << 10
    assert sizes["MemAvailable"] == sizes["MemFree"] + sizes["Cached"]
    assert sizes["SwapTotal"] == 0 and sizes["Hugepagesize"] == 2048


def test_time_and_load_are_the_guests() -> None:
    up, idle = (float(word) for word in read("/proc/uptime", options=("--vcpus", "2")).split())
    assert 3600 <= up < 3601 and 2 * up - 1 < idle <= 2 * up
    load = read("/proc/loadavg").split()
    assert load[3:] == ["1/1", "100"] and load[0] == load[1] == load[2] and 0 < float(load[0]) <= 1


def test_vcpus_are_the_processors() -> None:
    stat = read("/proc/stat", options=("--vcpus", "3")).splitlines()
    assert [line.split()[0] for line in stat[:4]] == ["cpu", "cpu0", "cpu1", "cpu2"]
    infos = read("/proc/cpuinfo", options=("--vcpus", "3")).split("\n\n")[:-1]
    assert [info.splitlines()[0] for info in infos] == [f"processor\t: {number}" for number in range(3)]
    rows = dict(line.split("\t", 1) for line in infos[2].splitlines())
    assert rows["model name"] == f": {SKYLAKE_X.title}" and rows["siblings"] == ": 3"
    flags = rows["flags"].split()
    assert {"sse4_2", "abm", "adx", "fsgsbase", "lm"} <= set(flags)
    assert not {"avx", "bmi1", "bmi2", "rdrand", "xsave"} & set(flags)
    for name in ("online", "possible", "present"):
        path = f"/sys/devices/system/cpu/{name}"
        assert read(path) == "0\n" and read(path, options=("--vcpus", "4")) == "0-3\n"
    program = "import os; print(os.cpu_count(), len(os.sched_getaffinity(0)), os.sysconf('SC_PHYS_PAGES'))"
    outcome = quire(["python3", "-S", "-c", program], "--vcpus", "3", "--memory", "1G", "--report", "none")
    assert outcome.stdout == b"3 3 262144\n"


def test_the_mode_of_large_pages_is_told() -> None:
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    assert read(path) == "always [madvise] never\n"
    assert read(path, options=("--thp", "always")) == "[always] madvise never\n"
