"""``quire run``: one program as a guest, then its report."""

import gc
import io
import os
import resource
import sys
from typing import IO, TYPE_CHECKING, Any

import click

from quire.cli.compile_notice import RUNNING, say_if_compiling
from quire.cli.sizes import SizeType
from quire.hypervisor import MMUS

if TYPE_CHECKING:
    from quire.hypervisor import GuestConfig
    from quire.tlb import TlbOptions

__all__ = ["checked_status", "command"]

_PAGES = {"4K": 4 << 10, "2M": 2 << 20, "1G": 1 << 30}
#: Descriptors that Quire opens for itself are moved here, so that a guest's are numbered as in a native run.
_OWN_DESCRIPTORS = 900


@click.command(
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS] [--]",
)
@click.option("--mmu", type=click.Choice(MMUS), default="ept", show_default=True,
              help="One dimension of tables, two, or a shadow that joins them.")  # fmt: skip
@click.option("--guest-page", type=click.Choice(["4K", "2M"]), default="4K", show_default=True,
              help="Largest page of the guest's own tables.")  # fmt: skip
@click.option("--host-page", type=click.Choice(["4K", "2M", "1G"]), default="4K", show_default=True,
              help="Size of the pages that back guest memory: of EPT, of shadow's memory map.")  # fmt: skip
@click.option("--profile", default="skylake-x", show_default=True, metavar="NAME|FILE",
              help="The processor: one that quire profiles lists, or a TOML file.")  # fmt: skip
@click.option("--tlb-replacement", type=click.Choice(["lru", "plru", "random"]), metavar="POLICY",
              help="Of every TLB and walk cache: lru, plru, random; by default the profile's.")  # fmt: skip
@click.option("--tlb-largest-page", type=click.Choice(list(_PAGES)), default="1G", show_default=True,
              help="Larger pages are held in TLBs in pieces of this size.")  # fmt: skip
@click.option("--walk-caches/--no-walk-caches", default=True, show_default=True,
              help="Paging-structure caches and nested TLB; without, each walk makes all its references.")  # fmt: skip
@click.option("--vpid/--no-vpid", default=True, show_default=True,
              help="Without, every VM entry and exit flushes the guest's translations.")  # fmt: skip
@click.option("--memory", type=SizeType(), default="2G", show_default=True, metavar="SIZE",
              help="Guest memory; costs only what is touched.")  # fmt: skip
@click.option("--detail", type=click.Choice(["exits", "full"]), default="exits", show_default=True,
              help="full: every access goes through the modelled TLB.")  # fmt: skip
@click.option("--report", "kind", type=click.Choice(["table", "json", "none"]), default="table",
              show_default=True, help="What to write when the guest has ended.")  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write the report there, not to stderr; - is stdout.")
@click.option("--save-image", metavar="FILE",
              help="Save the guest's memory there when it ends, as an ELF core: see quire walk.")  # fmt: skip
@click.option("--shadow-pages", type=click.IntRange(64), metavar="N",
              help="Bound on shadow pages under shadow; by default 2 % of guest memory.")  # fmt: skip
@click.option("--shadow-prefetch", type=click.Choice(["1", "2", "4", "8", "16", "32", "64"]), default="1",
              show_default=True, help="Neighbouring shadow entries that one fault fills.")  # fmt: skip
@click.option("--audit-shadow", is_flag=True,
              help="Prove every shadow entry after every exit; slow.")  # fmt: skip
@click.option("--caching", type=click.Choice(["modelled", "retain", "evict"]), default="modelled",
              show_default=True,
              help="retain: a stale translation is used until a flush; evict: any may go at any time.")  # fmt: skip
@click.option("--check-flushes", is_flag=True,
              help="Report stale translations, flushes that are missing, flushes not needed.")  # fmt: skip
@click.option("--error-exitcode", type=click.IntRange(1, 255), is_flag=False, flag_value=1, metavar="[N]",
              help="Exit with N (1 if left out) if --check-flushes finds a stale translation.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, (1 << 64) - 1), default=0, show_default=True,
              help="Seed of the guest's randomness and address layout, and of --caching evict.")  # fmt: skip
@click.option("--sandbox", is_flag=True, help="Refuse writes but to stdout and stderr, and sockets.")
@click.argument("program")
@click.argument("arguments", nargs=-1, metavar="[ARGS]...", type=click.UNPROCESSED)
def command(**options: Any) -> int:
    """Run PROGRAM as a guest: any x86-64 Linux ELF, or a script, found on PATH as a shell would.

    The guest has your files, directory, environment and rights. Its exit status is quire's, 128 + N when signal N
    killed it; quire's own failures are 125 (cannot set up), 126 (not executable) and 127 (not found).

    \b
    Examples:
      quire run -- true
      quire run --mmu native -- ls -l /
      quire run --detail full --report json -o report.json -- sort /etc/passwd
      quire run --guest-page 2M --host-page 1G --report none -- gzip -c /etc/services
      quire run --save-image true.core -- true
      quire run --mmu shadow --shadow-prefetch 8 -- ls /
      quire run --caching retain -- ls /
      quire run --mmu shadow --check-flushes --error-exitcode 9 -- sort /etc/passwd
      quire run --profile zen4 --detail full -- ls /
      quire run --detail full --no-walk-caches --tlb-replacement plru -- ls /
    """
    config = _config(options)
    _raise_descriptor_limit()
    environ = dict(os.environb)
    # NumPy's pool of threads would only cost start-up time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    kind, saved = options["kind"], options["save_image"]
    sink = None if kind == "none" else _open_report(options["output"])
    image = None if saved is None else os.fdopen(_open_file(saved, "image", "--save-image"), "wb")
    say_if_compiling(RUNNING)
    from quire.cpu.soft import Detail
    from quire.guest.launch import LaunchError, prepare
    from quire.guest.session import Session, SessionOptions

    try:
        found = prepare([options["program"], *options["arguments"]], os.environ.get("PATH"), _directory())
        detail = Detail[options["detail"].upper()]
        wanted = SessionOptions(config, detail, options["seed"], options["sandbox"], image)
        gc.freeze()  # what is loaded by now stays: no collection need look at it
        session = Session(found, environ, wanted)
        status = session.run()
    except LaunchError as error:
        click.echo(f"quire run: {error}", err=True)
        return error.status
    if session.death_text is not None:
        click.echo(f"quire run: {session.death_text}", err=True)
    if session.image_error is not None:
        click.echo(f"quire run: the image could not be written: {session.image_error}", err=True)
    if sink is not None:
        _write_report(session.record, kind, sink)
    return checked_status(session.record, kind, options["error_exitcode"], status)


def _config(options: dict[str, Any]) -> "GuestConfig":
    """Return the guest's hardware. Raises click.UsageError for what cannot be."""
    from quire.arch import profile_by_name
    from quire.errors import FormatError, MisuseError
    from quire.hypervisor import CachingMode, GuestConfig, ShadowOptions

    shadow = ShadowOptions(options["shadow_pages"], int(options["shadow_prefetch"]), options["audit_shadow"])
    if options["mmu"] != "shadow" and shadow != ShadowOptions():
        raise click.UsageError(
            f"--shadow-pages, --shadow-prefetch and --audit-shadow say nothing under --mmu {options['mmu']}: "
            "give --mmu shadow, or leave them out"
        )
    if options["error_exitcode"] is not None and not options["check_flushes"]:
        raise click.UsageError("--error-exitcode says nothing without --check-flushes: give both, or neither")
    try:
        return GuestConfig(
            mmu=options["mmu"],
            profile=profile_by_name(options["profile"]),
            memory=options["memory"],
            guest_page=_PAGES[options["guest_page"]],
            host_page=_PAGES[options["host_page"]],
            shadow=shadow,
            caching=CachingMode(options["caching"]),
            seed=options["seed"],
            check_flushes=options["check_flushes"],
            tlb=_tlb_options(options),
            vpid=int(options["vpid"]),
        )
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None


def checked_status(record: dict[str, Any], kind: str, error_status: int | None, status: int) -> int:
    """Say what a check of flushes found, if no report does; return the exit status that it leaves."""
    flushes = record.get("flushes")
    if flushes is None or not flushes["findings"]:
        return status
    if kind == "none":
        from quire.report import render_findings

        click.echo(render_findings(flushes["findings"]), err=True, nl=False)
    return status if error_status is None else error_status


def _tlb_options(options: dict[str, Any]) -> "TlbOptions":
    from quire.arch import Replacement
    from quire.tlb import TlbOptions

    policy = options["tlb_replacement"]
    return TlbOptions(
        replacement=None if policy is None else Replacement(policy),
        largest_page=_PAGES[options["tlb_largest_page"]],
        walk_caches=options["walk_caches"],
        seed=options["seed"],
    )


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise click.ClickException(
            f"run: the working directory is gone: {error.strerror}; cd to another"
        ) from None


def _raise_descriptor_limit() -> None:
    """Make room for Quire's own descriptors above the guest's, where the hard limit allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OWN_DESCRIPTORS + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _open_report(output: str | None) -> IO[str]:
    """Open the report's file before the guest runs: a run must not end in "cannot write"."""
    if output is not None and output != "-":
        return _text(_open_file(output, "report", "-o"))
    try:
        return _text(_move(2 if output is None else 1))
    except OSError as error:
        if output is None:
            return io.StringIO()  # stderr is closed: nobody wants the report
        raise _cannot_write("report", output, error, "-o") from None


def _open_file(name: str, what: str, option: str) -> int:
    """Open `name` for writing, above the descriptors that a guest sees."""
    try:
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        moved = _move(opened)
        os.close(opened)
    except OSError as error:
        raise _cannot_write(what, name, error, option) from None
    return moved


def _cannot_write(what: str, name: str, error: OSError, option: str) -> click.ClickException:
    return click.ClickException(
        f"run: cannot write the {what} to {name!r}: {error.strerror}; choose another {option} FILE"
    )


def _move(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OWN_DESCRIPTORS)


def _text(fd: int) -> IO[str]:
    return os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace")


def _write_report(record: dict[str, object], kind: str, sink: IO[str]) -> None:
    from quire.report import render_json, render_table

    try:
        if kind == "json":
            sink.write(render_json(record))
        else:
            render_table(record, sink)
        sink.close()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    except OSError as error:
        click.echo(f"quire run: the report could not be written: {error.strerror}", err=True)
