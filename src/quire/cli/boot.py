"""``quire boot``: an operating system as a guest, with its console, then its report."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quire.cli.guest_files import open_report, write_file
from quire.cli.monitor import Monitor
from quire.cli.notices import say, say_if_compiling
from quire.cli.numa_options import numa_config, numa_options
from quire.cli.run_options import guest_config, hardware_options
from quire.cli.sizes import SizeType

if TYPE_CHECKING:
    from quire.guest.boot.boot_session import BootSession
    from quire.guest.boot.boot_spec import BootSpec, DiskFile

__all__ = ["command"]

_KERNELS = "vmlinuz*"
#: That Linux takes from a PC's clock.
_YEARS = range(1970, 3000)
_DEFAULT_MEMORY = 512 << 20


def _date(context: click.Context, option: click.Parameter, value: str) -> datetime:
    """Return the date that `value` says. Raises click.BadParameter."""
    if value == "now":
        return datetime.now(UTC)
    try:
        date = datetime.fromisoformat(value)
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        if date.year not in _YEARS:
            raise click.BadParameter(
                f"{value!r} is not in the years {_YEARS.start} to {_YEARS.stop - 1}: give another"
            )
        return date
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is no date: give 2025-01-01, 2025-01-01T12:30:00 or now"
        ) from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
              help="The kernel: a bzImage, such as /boot/vmlinuz-VERSION, a vmlinux, a multiboot kernel.")  # fmt: skip
@click.option("--initrd", "initrds", multiple=True, metavar="FILE", type=click.Path(exists=True, dir_okay=False),
              help="Its initial RAM disk; several are joined for Linux, modules of a multiboot kernel.")  # fmt: skip
@click.option("--append", metavar="STRING",
              help="The kernel's command line, by default console=ttyS0 for Linux.")  # fmt: skip
@click.option("--flat", type=SizeType(), metavar="GPA",
              help="The kernel is a flat binary: load it at this address, enter it there in 64-bit mode.")  # fmt: skip
@click.option("--date", default="2025-01-01", show_default=True, metavar="DATE", callback=_date,
              help="What the guest's clock shows at first, in UTC: 2025-01-01, 2025-01-01T12:30:00, now.")  # fmt: skip
@click.option("--gdb", "port", type=click.IntRange(0, 65535), metavar="PORT",
              help="Wait for gdb at this port of localhost before the guest begins; 0 takes any.")  # fmt: skip
@click.option("--disk", "disks", multiple=True, metavar="FILE[,ro|,rw]",
              help="A virtio disk of the guest, whose changes are dropped at the end; ro: read-only, "
                   "rw: they go to FILE. The first is /dev/vda.")  # fmt: skip
@click.option("--balloon", type=SizeType(), default="0", metavar="SIZE",
              help="Memory that the guest is asked to give back, once it has a driver for the balloon.")  # fmt: skip
@hardware_options
@numa_options
@click.option("--vpid/--no-vpid", default=True, show_default=True,
              help="Without, every VM entry and exit flushes the guest's translations.")  # fmt: skip
@click.option("--detail", type=click.Choice(["exits", "full"]), default="exits", show_default=True,
              help="full: every access goes through the modelled TLB.")  # fmt: skip
@click.option("--check-flushes", is_flag=True,
              help="Report stale translations, flushes that are missing, flushes not needed.")  # fmt: skip
@click.option("--report", "kind", type=click.Choice(["table", "json", "none"]), default="table",
              show_default=True, help="What to write when the guest has ended.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --report json.")
@click.option("-o", "--output", metavar="FILE", help="Write the report there, not to stderr; - is stdout.")
def command(**options: Any) -> int:
    """Boot an operating system as a guest: Linux, as Debian ships it. Its serial console is the terminal.

    On a terminal Ctrl-A X ends the guest, Ctrl-A C opens a line for commands: help lists them. From a pipe or a
    file, input comes when the guest reads it, and its end is Ctrl-D. The status is 0 after the guest's own shutdown,
    1 if its kernel panics or cannot go on. Without --kernel it says where kernels are, and how to make an initial
    RAM disk.

    \b
    Examples:
      quire boot --kernel /boot/vmlinuz-6.1.0-50-cloud-amd64 --initrd initrd.cpio
      quire boot --kernel vmlinuz --initrd initrd.cpio --mmu native --memory 256M
      quire boot --kernel vmlinuz --initrd initrd.cpio --disk root.img,rw
      echo poweroff | quire boot --kernel vmlinuz --initrd initrd.cpio --report none
    """
    if options["kernel"] is None:
        click.echo(_advice())
        return 0
    hardware = options | {"guest_page": "4K", "thp": None}
    context = click.get_current_context()
    if context.get_parameter_source("memory") is click.core.ParameterSource.DEFAULT:
        hardware["memory"] = _DEFAULT_MEMORY
    config = guest_config(
        hardware,
        options["vpid"],
        check_flushes=options["check_flushes"],
        numa=numa_config(options),
        kind="machine",
    )
    from quire.cpu import Detail
    from quire.guest.boot.boot_spec import BootSpec

    spec = BootSpec(
        options["kernel"],
        options["initrds"],
        options["append"],
        config,
        Detail[options["detail"].upper()],
        date=options["date"],
        balloon=options["balloon"],
        disks=tuple(_disk(one) for one in options["disks"]),
        flat=options["flat"],
    )
    kind = "json" if options["as_json"] else options["kind"]
    return _boot(spec, kind, options["output"], options["port"])


def _disk(text: str) -> "DiskFile":
    """Return the disk that `--disk` describes; a name may have commas of its own."""
    from quire.devices.virtio import DiskMode
    from quire.guest.boot.boot_spec import DiskFile

    name, comma, word = text.rpartition(",")
    mode = {"ro": DiskMode.READ_ONLY, "rw": DiskMode.WRITABLE}.get(word)
    return DiskFile(text) if mode is None or not comma else DiskFile(name, mode)


def _boot(spec: "BootSpec", kind: str, output: str | None, port: int | None) -> int:
    from quire.guest.boot.boot_session import BootSession
    from quire.guest.boot.input import Command, HostInput
    from quire.guest.load.launch import LaunchError

    sink = None if kind == "none" else open_report(output)
    say_if_compiling()
    asked: list[Command] = []

    def ask(command: Command) -> None:
        asked.append(command)
        session.end()

    typed = HostInput(ask)
    try:
        session = BootSession(spec, _write, typed)
    except LaunchError as error:
        say(f"quire boot: {error}")
        return error.status
    try:
        with typed:
            if port is None or _debugged(session, port):
                session.run()
            while asked and asked.pop() is Command.MONITOR:
                typed.restore()
                if Monitor(session).talk():
                    typed.begin()
                    session.run()
            status = session.status
    finally:
        session.close()
    if session.reason is not None:
        say(f"quire boot: the guest ended: {session.reason}")
    if sink is not None:
        from quire.report import render_boot, render_json

        record = session.make_record()
        write_file(
            sink,
            "report",
            lambda file: file.write(render_json(record)) if kind == "json" else render_boot(record, file),
        )
    return status


def _debugged(session: "BootSession", port: int) -> bool:
    """Serve a debugger; return whether the guest is to run on without it. Raises click.ClickException."""
    from quire.guest.boot.gdb_target import BootTarget
    from quire.guest.gdb.server import GdbServer

    try:
        server = GdbServer(BootTarget(session), port)
    except OSError as error:
        raise click.ClickException(
            f"boot: port {port} cannot be had: {error.strerror}; give another --gdb"
        ) from None
    say(f"quire boot: waiting for gdb: target remote localhost:{server.port}")
    return server.serve()


def _write(data: bytes) -> None:
    """Pass on what the guest sends. A reader that has left is no reason to stop the guest."""
    try:
        os.write(1, data)
    except OSError:
        pass


def _advice() -> str:
    """Return where kernels are on this machine, and how to come by one, and by an initial RAM disk."""
    found = sorted(str(path) for path in Path("/boot").glob(_KERNELS) if path.is_file())
    lines = ["Give --kernel FILE, a Linux kernel."]
    if found:
        lines += ["On this machine:", *(f"  {path}" for path in found)]
    else:
        lines += ["There is none in /boot. Debian's, downloaded and not installed:"]
    lines += [
        "  apt-get download $(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: //p')",
        "  dpkg-deb -x linux-image-*.deb . && ls boot",
        "An initial RAM disk of busybox:",
        "  mkdir -p root/bin root/dev root/proc && cp /bin/busybox root/bin",
        "  printf '#!/bin/busybox sh\\n/bin/busybox --install /bin; mount -t proc proc /proc; exec sh\\n' > root/init",
        "  chmod +x root/init && (cd root && find . | cpio -o -H newc) > initrd.cpio",
    ]
    return "\n".join(lines)
