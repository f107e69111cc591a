"""A probe of a system call, and the C program that a list of them becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["BAD_POINTERS", "DESCRIPTORS", "Probe", "crossed", "source", "tables"]

_PRELUDE = Path(__file__).parent / "prelude.c"

#: Pointers that no call may follow, by name: as C expressions over the fixtures of prelude.c.
BAD_POINTERS = {
    "null": "NULL",
    "hole": "HOLE",
    "kernel": "KERNEL",
    "noncanonical": "NONCANONICAL",
    "minus": "MINUS",
    "none": "NONE",
    "straddling": "RWEND - 2",
    "last": "LAST",
}
#: Descriptors of every kind, and numbers that are none.
DESCRIPTORS = {
    "file": "FILE_",
    "rdonly": "RDONLY",
    "wronly": "WRONLY",
    "dir": "DIR_",
    "pipe-r": "PIPE_R",
    "pipe-w": "PIPE_W",
    "socket": "SOCK_A",
    "event": "EVENT",
    "epoll": "EPOLL",
    "path": "PATH_",
    "null": "NULL_",
    "closed": "CLOSED",
    "negative": "-1",
    "huge": "INT_MAX",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """What one line of output is about: `before` prepares, `call` is tried, `values` are shown after it.

    All are C; `before` is statements, the others expressions. A probe that is `alone` has a process of its own, since
    it changes what no fixture puts back.
    """

    name: str
    call: str
    values: tuple[str, ...] = ()
    before: str = ""
    alone: bool = False


def tables() -> list[Probe]:
    """Return the probes of the files ``*.probes`` beside this one.

    ``[prefix]`` begins a table, ``[prefix] alone`` one whose probes have a process each. In a table stands
    ``name: call``, and below it ``=> value`` for each value to show; what is indented further goes on.
    """
    found: list[Probe] = []
    for path in sorted(Path(__file__).parent.glob("*.probes")):
        prefix, alone = "", False
        for line in path.read_text().splitlines():
            if line.startswith("["):
                prefix, _, rest = line[1:].partition("]")
                alone = rest.strip() == "alone"
            elif line.startswith("    => "):
                found[-1] = replace(found[-1], values=(*found[-1].values, line[7:]))
            elif line.startswith("    "):
                found[-1] = _continued(found[-1], line.strip())
            elif line and not line.startswith("#"):
                name, call = line.split(": ", 1)
                found.append(Probe(f"{prefix}.{name}", call, alone=alone))
    return found


def _continued(probe: Probe, words: str) -> Probe:
    if not probe.values:
        return replace(probe, call=f"{probe.call} {words}")
    return replace(probe, values=(*probe.values[:-1], f"{probe.values[-1]} {words}"))


def crossed(
    prefix: str, call: str, *axes: Mapping[str, str], values: Sequence[str] = (), before: str = ""
) -> list[Probe]:
    """Return a probe for each choice of one entry per axis; ``{0}``, ``{1}`` in `call` and `values` are the choices."""
    choices: list[tuple[tuple[str, ...], tuple[str, ...]]] = [((), ())]
    for axis in axes:
        choices = [
            ((*names, name), (*words, word)) for names, words in choices for name, word in axis.items()
        ]
    return [
        Probe(
            ".".join((prefix, *names)),
            call.format(*words),
            tuple(value.format(*words) for value in values),
            before,
        )
        for names, words in choices
    ]


def source(probes: Sequence[Probe]) -> str:
    """Return the text of a program that tries `probes`.

    Its first argument chooses those whose names begin so, which alone gets at a probe that is alone. The second, N,
    takes every third from number N on, "-" all; a third one has the program become user 65534 first.
    """
    functions, lines = [], []
    for number, probe in enumerate(probes):
        values = ", ".join(f"(long)({value})" for value in probe.values) or "0"
        functions.append(
            f"static void probe{number}(void) {{ fresh(); {probe.before}; errno = 0; long r = (long)({probe.call});"
            f" int e = errno; long v[] = {{{values}}};"
            f' report("{probe.name}", r, e, {len(probe.values)}, v); }}\n'
        )
        guard = f'wants("{probe.name}", {number}, {int(probe.alone)})'
        lines.append(f"    if ({guard}) probe{number}();\n")
    start = (
        "int main(int argc, char **argv)\n{\n    only = argc > 1 && *argv[1] ? argv[1] : NULL;\n"
        "    part = argc > 2 && *argv[2] != '-' ? atoi(argv[2]) : -1;\n"
        "    setvbuf(stdout, NULL, _IOFBF, 1 << 16);\n"
        "    for (int n = 0; n < sizeof pattern; n++) pattern[n] = 'a' + n % 26;\n"
        '    umask(0), mkdir("dir", 0777), close(open("dir/inner", O_CREAT | O_WRONLY, 0666));\n'
        "    if (argc > 3) setgroups(0, NULL), setresgid(65534, 65534, 65534), setresuid(65534, 65534, 65534);\n"
    )
    return _PRELUDE.read_text() + "".join(functions) + start + "".join(lines) + "    return 0;\n}\n"
