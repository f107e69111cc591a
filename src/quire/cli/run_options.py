"""Options of the verbs that run a program as a guest, and what is made of them."""

import gc
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from quire.arch import Replacement
from quire.cli.sizes import SizeType
from quire.machine import MMUS

if TYPE_CHECKING:
    from quire.guest.breakpoint import Breakpoint
    from quire.guest.load.launch import Program
    from quire.guest.session import Session, SessionOptions
    from quire.machine import GuestConfig
    from quire.mmu import NumaConfig
    from quire.tlb import TlbOptions

__all__ = ["OWN_DESCRIPTORS", "guest_config", "guest_environment", "guest_options", "make_session"]

#: Descriptors that Quire opens for itself are moved here, so that a guest's are numbered as in a native run.
OWN_DESCRIPTORS = 900
_PAGES = {"4K": 4 << 10, "2M": 2 << 20, "1G": 1 << 30}

_OPTIONS = (
    click.option("--mmu", type=click.Choice(MMUS), default="ept", show_default=True,
                 help="One dimension of tables, two, or a shadow that joins them."),
    click.option("--guest-page", type=click.Choice(["4K", "2M"]), default="4K", show_default=True,
                 help="Largest page of the guest's own tables."),
    click.option("--host-page", type=click.Choice(["4K", "2M", "1G"]), default="4K", show_default=True,
                 help="Size of the pages that back guest memory: of EPT, of shadow's memory map."),
    click.option("--profile", default="skylake-x", show_default=True, metavar="NAME|FILE",
                 help="The processor: one that quire profiles lists, or a TOML file."),
    click.option("--tlb-replacement", type=click.Choice([str(one) for one in Replacement]), metavar="POLICY",
                 help="Which entry of a full set goes, in every TLB and walk cache: "
                 f"{', '.join(f'{one} ({one.words})' for one in Replacement)}; by default as the profile says."),
    click.option("--tlb-largest-page", type=click.Choice(list(_PAGES)), default="1G", show_default=True,
                 help="Larger pages are held in TLBs in pieces of this size."),
    click.option("--walk-caches/--no-walk-caches", default=True, show_default=True,
                 help="Paging-structure caches and nested TLB; without, each walk makes all its references."),
    click.option("--memory", type=SizeType(), default="2G", show_default=True, metavar="SIZE",
                 help="Guest memory; costs only what is touched."),
    click.option("--shadow-pages", type=click.IntRange(64), metavar="N",
                 help="Bound on shadow pages under shadow; by default 2 % of guest memory."),
    click.option("--shadow-prefetch", type=click.Choice(["1", "2", "4", "8", "16", "32", "64"]), default="1",
                 show_default=True, help="Neighbouring shadow entries that one fault fills."),
    click.option("--audit-shadow", is_flag=True, help="Prove every shadow entry after every exit; slow."),
    click.option("--caching", type=click.Choice(["modelled", "retain", "evict"]), default="modelled",
                 show_default=True,
                 help="retain: a stale translation is used until a flush; evict: any may go at any time."),
    click.option("--seed", type=click.IntRange(0, (1 << 64) - 1), default=0, show_default=True,
                 help="Seed of the guest's randomness and address layout, and of --caching evict."),
    click.option("--sandbox", is_flag=True, help="Refuse writes but to stdout and stderr, and sockets."),
    click.argument("program"),
    click.argument("arguments", nargs=-1, metavar="[ARGS]...", type=click.UNPROCESSED),
)  # fmt: skip


def guest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options that say how a guest runs, and the program with its arguments."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def guest_config(
    options: dict[str, Any],
    vpids: bool,
    *,
    check_flushes: bool = False,
    numa: "NumaConfig | None" = None,
) -> "GuestConfig":
    """Return the guest's hardware. Raises click.UsageError for what cannot be."""
    from quire.arch import profile_by_name
    from quire.errors import FormatError, MisuseError
    from quire.machine import CachingMode, GuestConfig
    from quire.mmu import ShadowOptions

    shadow = ShadowOptions(options["shadow_pages"], int(options["shadow_prefetch"]), options["audit_shadow"])
    if options["mmu"] != "shadow" and shadow != ShadowOptions():
        raise click.UsageError(
            f"--shadow-pages, --shadow-prefetch and --audit-shadow say nothing under --mmu {options['mmu']}: "
            "give --mmu shadow, or leave them out"
        )
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
            check_flushes=check_flushes,
            numa=numa,
            tlb=_tlb_options(options),
            vpid=int(vpids),
        )
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None


def _tlb_options(options: dict[str, Any]) -> "TlbOptions":
    from quire.tlb import TlbOptions

    policy = options["tlb_replacement"]
    return TlbOptions(
        replacement=None if policy is None else Replacement(policy),
        largest_page=_PAGES[options["tlb_largest_page"]],
        walk_caches=options["walk_caches"],
        seed=options["seed"],
    )


def guest_environment() -> dict[bytes, bytes]:
    """Return the guest's environment, which is the user's, and make Quire's own fit for a run."""
    environ = dict(os.environb)
    _raise_descriptor_limit()
    # NumPy's pool of threads would only cost start-up time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return environ


def make_session(
    options: dict[str, Any],
    wanted: "SessionOptions",
    environ: dict[bytes, bytes],
    until: "Callable[[Program], Breakpoint | None]" = lambda program: None,
) -> "Session":
    """Return the run of the program that `options` name, which ends where `until` says. Raises LaunchError."""
    from quire.guest.load.launch import prepare
    from quire.guest.session import Session

    found = prepare([options["program"], *options["arguments"]], os.environ.get("PATH"), _directory())
    gc.freeze()  # what is loaded by now stays: no collection need look at it
    return Session(found, environ, replace(wanted, until=until(found)))


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        verb = click.get_current_context().info_name
        raise click.ClickException(
            f"{verb}: the working directory is gone: {error.strerror}; cd to another"
        ) from None


def _raise_descriptor_limit() -> None:
    """Make room for Quire's own descriptors above the guest's, where the hard limit allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OWN_DESCRIPTORS + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
