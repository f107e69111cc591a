"""A process that has all of Quire loaded and forks for each command, so that a test pays for a run, not for imports.

``fork_server.py serve SOCKET`` is the server: it ends with its standard input. ``fork_server.py run SOCKET WORD...``
takes the place of ``quire WORD...``: same streams, directory, environment and exit status. So does the program
``quire`` beside the socket; for commands that start others it is ``python -P -m quire.guest.worker`` too. Signals do
not reach the command, and what a new interpreter does (its start, its hash seed) is not tried: such tests start
``quire`` itself.
"""

import atexit
import gc
import json
import os
import select
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

_LENGTH = 8  # bytes of the number before a request
#: How an interpreter opens its streams in the C locale.
_STREAMS = (("r", "surrogateescape"), ("w", "surrogateescape"), ("w", "backslashreplace"))


#: Stands for ``quire`` and for ``python -P -m`` with a module of Quire's that is a command.
_PROGRAM = """#!/bin/sh
[ "$1" = -P ] && shift
exec {python} -IS {server} run {socket} "$@"
"""


def run(path: str, words: list[str]) -> None:
    """Have the server at `path` run `words`, and end as they end."""
    request = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [len(request).to_bytes(_LENGTH, "little")], list(range(len(_STREAMS))))
        server.sendall(request)
        status = int(server.recv(16) or b"-9")
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)


def serve(path: str) -> None:
    """Serve until standard input ends; return in a child, which is to be the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for a command are never waited for
    program = Path(path).parent / "quire"
    words = {"python": sys.executable, "server": os.path.abspath(__file__), "socket": path}
    program.write_text(_PROGRAM.format(**{name: shlex.quote(word) for name, word in words.items()}))
    program.chmod(0o755)
    sys.executable = str(program)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while sys.stdin.fileno() not in select.select([sys.stdin, listening], [], [])[0]:
            client, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listening.close()
                return _answer(client)
            client.close()
    os._exit(0)


def _answer(client: socket.socket) -> None:
    """Fork the command that `client` asks for, in which this returns, and tell the client how it ended."""
    length, streams, _, _ = socket.recv_fds(client, _LENGTH, len(_STREAMS))
    request = b""
    while len(request) < int.from_bytes(length, "little"):
        request += client.recv(1 << 16)
    words, folder, environment = json.loads(request)
    child = os.fork()
    if child == 0:
        client.close()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for number, (stream, (mode, errors)) in enumerate(zip(streams, _STREAMS, strict=True)):
            os.dup2(stream, number)
            os.close(stream)
            opened = open(number, mode, errors=errors)  # noqa: SIM115 - the command's own
            setattr(sys, ("stdin", "stdout", "stderr")[number], opened)
        sys.argv = ["quire", *words]
        return
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, client], [], [])[0]:
        os.kill(child, signal.SIGKILL)  # the client is gone: a test that took too long
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    client.sendall(str(status).encode())
    os._exit(0)


def _command(words: list[str]) -> Callable[[], int | None]:
    """Return what is to be called: the worker for ``-m quire.guest.worker``, else the command line."""
    from quire.guest.own_process import claim_process

    claim_process()  # the fork is for this command alone
    if words[:2] == ["-m", "quire.guest.worker"]:
        from quire.guest.worker import main as worker

        return lambda: worker(*words[2:])
    from quire.cli import command_line

    sys.argv = ["quire", *(words[2:] if words[:1] == ["-m"] else words)]
    return command_line


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[2], sys.argv[3:])
    sys.path.append(str(Path(__file__).parents[1]))
    from warm import load_all

    load_all()
    gc.freeze()
    serve(sys.argv[2])
    try:
        status = int(_command(sys.argv[1:])() or 0)
    except SystemExit as ended:
        status = int(ended.code or 0)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking down an interpreter with all of Quire in it takes longer than most runs
