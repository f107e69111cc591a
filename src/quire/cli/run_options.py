"""Options of the verbs that run a program as a guest, and what is made of them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from quire.arch import PAGES, WORD, Replacement
from quire.cli.entry import NO_ARGV
from quire.cli.sizes import SizeType
from quire.machine import MMUS, MOST_VCPUS

if TYPE_CHECKING:
    from quire.guest.run_spec import RunSpec
    from quire.machine import GuestConfig
    from quire.mmu import NumaConfig
    from quire.tlb import TlbOptions

__all__ = [
    "check_host_page",
    "check_sandbox",
    "guest_config",
    "guest_options",
    "guest_parameters",
    "hardware_options",
    "no_argv_option",
    "run_spec",
    "sandbox_options",
]

_SMALLEST = next(iter(PAGES))

no_argv_option = click.option(
    NO_ARGV, is_flag=True, help="Keep the program's arguments out of every report and record."
)
_SANDBOX = (
    click.option("--sandbox", is_flag=True,
                 help="Let the guest change nothing but its stdout and stderr, and reach nobody."),
    click.option("--allow-read", multiple=True, metavar="PATH", type=click.Path(exists=True),
                 help="With --sandbox: let it read nothing but what lies at PATH, its program and libraries; "
                 "may be given several times."),
)  # fmt: skip


def _variables(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return `values`. Raises click.BadParameter for one without a name or a value."""
    for value in values:
        if value.find("=") < 1:
            raise click.BadParameter(f"{value!r} sets no variable: give NAME=VALUE, for instance LANG=C")
    return values


_MMU = click.option("--mmu", type=click.Choice(MMUS), default="ept", show_default=True,
                 help="One dimension of tables, two, or a shadow that joins them.")  # fmt: skip
#: What hardware a guest gets, whoever its kernel is.
_HARDWARE = (
    click.option("--host-page", type=click.Choice(list(PAGES)), default="4K", show_default=True,
                 help="Size of the pages that back guest memory: of EPT, of shadow's memory map."),
    click.option("--profile", default="skylake-x", show_default=True, metavar="NAME|FILE",
                 help="The processor: one that quire profiles lists, or a TOML file."),
    click.option("--tlb-replacement", type=click.Choice([str(one) for one in Replacement]), metavar="POLICY",
                 help="Which entry of a full set goes, in every TLB and walk cache: "
                 f"{', '.join(f'{one} ({one.words})' for one in Replacement)}; by default as the profile says."),
    click.option("--tlb-largest-page", type=click.Choice(list(PAGES)), default="1G", show_default=True,
                 help="Larger pages are held in TLBs in pieces of this size."),
    click.option("--walk-caches/--no-walk-caches", default=True, show_default=True,
                 help="Paging-structure caches and nested TLB; without, each walk makes all its references."),
    click.option("--memory", type=SizeType(), default="2G", show_default=True, metavar="SIZE",
                 help="Guest memory; costs only what is touched."),
    click.option("--vcpus", type=click.IntRange(1, MOST_VCPUS), default=1, show_default=True, metavar="N",
                 help="Virtual CPUs, each with TLBs of its own; threads and processes run side by side on them."),
    click.option("--shadow-pages", type=click.IntRange(64), metavar="N",
                 help="Bound on each vCPU's shadow pages under shadow; by default 2 % of guest memory."),
    click.option("--shadow-prefetch", type=click.Choice(["1", "2", "4", "8", "16", "32", "64"]), default="1",
                 show_default=True, help="Neighbouring shadow entries that one fault fills."),
    click.option("--audit-shadow", is_flag=True, help="Prove every shadow entry after every exit; slow."),
    click.option("--caching", type=click.Choice(["modelled", "retain", "evict"]), default="modelled",
                 show_default=True,
                 help="retain: a stale translation is used until a flush; evict: any may go at any time."),
    click.option("--seed", type=click.IntRange(0, WORD), default=0, show_default=True,
                 help="Seed of the guest's randomness, address layout and process numbers, and of --caching evict."),
)  # fmt: skip
_OPTIONS = (
    _MMU,
    click.option("--guest-page", type=click.Choice(list(PAGES)[:2]), default="4K", show_default=True,
                 help="Largest page of the guest's own tables."),
    click.option("--thp", type=click.Choice(["always", "madvise", "never"]),
                 help="Where the guest's kernel maps pages of 2M: wherever they fit, where the program asks for them, "
                 "nowhere; by default always with --guest-page 2M, else madvise."),
    *_HARDWARE,
    click.option("--root", metavar="DIR", type=click.Path(exists=True, file_okay=False, resolve_path=True),
                 help="Look absolute names up under DIR first: another system's programs and libraries."),
    click.option("-E", "environment", multiple=True, metavar="NAME=VALUE", callback=_variables,
                 help="Set a variable of the guest's environment; may be given several times."),
    *_SANDBOX,
    no_argv_option,
    click.argument("program"),
    click.argument("arguments", nargs=-1, metavar="[ARGS]...", type=click.UNPROCESSED),
)  # fmt: skip


def guest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options that say how a guest runs, and the program with its arguments."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def hardware_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options that say what hardware a guest with a kernel of its own gets."""
    for option in reversed((_MMU, *_HARDWARE)):
        command = option(command)
    return command


def guest_parameters() -> list[click.Parameter]:
    """Return the same options as parameters, for a command that runs a guest among other things."""

    def bare() -> None: ...

    return list(reversed(guest_options(bare).__click_params__))  # type: ignore[attr-defined]


def sandbox_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options that say what a guest may do to its host."""
    for option in reversed(_SANDBOX):
        command = option(command)
    return command


def check_sandbox(sandbox: bool, allow_read: tuple[str, ...]) -> None:
    """Raise click.UsageError for paths to read that nothing keeps a guest from reading."""
    if allow_read and not sandbox:
        raise click.UsageError(
            f"--allow-read {allow_read[0]} says nothing without --sandbox: give both, or neither"
        )


def guest_config(
    options: dict[str, Any],
    vpids: bool,
    *,
    check_flushes: bool = False,
    numa: "NumaConfig | None" = None,
    kind: str = "process",
) -> "GuestConfig":
    """Return the hardware of a guest of this `kind`. Raises click.UsageError for what cannot be."""
    from quire.arch import profile_by_name
    from quire.errors import FormatError, MisuseError
    from quire.machine import CachingMode, GuestConfig, shape_of
    from quire.mmu import ShadowOptions

    check_host_page(options)
    if options["thp"] == "never" and options["guest_page"] != _SMALLEST:
        raise click.UsageError(
            f"--guest-page {options['guest_page']} maps large pages where they fit, --thp never nowhere: "
            "leave one of them out"
        )
    nodes = options.get("vcpu_node", ())
    shadow = ShadowOptions(options["shadow_pages"], int(options["shadow_prefetch"]), options["audit_shadow"])
    if not shape_of("process", options["mmu"]).shadows and shadow != ShadowOptions():
        raise click.UsageError(
            f"--shadow-pages, --shadow-prefetch and --audit-shadow say nothing under --mmu {options['mmu']}: "
            "give --mmu shadow, or leave them out"
        )
    try:
        return GuestConfig(
            kind=kind,
            bus=kind == "machine",
            mmu=options["mmu"],
            profile=profile_by_name(options["profile"]),
            memory=options["memory"],
            guest_page=PAGES["2M" if options["thp"] == "always" else options["guest_page"]],
            host_page=PAGES[options["host_page"]],
            shadow=shadow,
            caching=CachingMode(options["caching"]),
            seed=options["seed"],
            check_flushes=check_flushes,
            numa=numa,
            tlb=_tlb_options(options),
            vpid=int(vpids),
            vcpus=options["vcpus"],
            vcpu_nodes=nodes if len(nodes) > 1 else (),
        )
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None


def check_host_page(options: dict[str, Any]) -> None:
    """Raise click.UsageError if the pages are asked for of what backs a guest that nothing backs."""
    from quire.machine import shape_of

    if options["host_page"] != _SMALLEST and not shape_of("process", options["mmu"]).has_map:
        raise click.UsageError(
            f"--host-page {options['host_page']} says nothing under --mmu {options['mmu']}, which has one dimension "
            "of tables: give --guest-page, or another --mmu"
        )


def _tlb_options(options: dict[str, Any]) -> "TlbOptions":
    from quire.tlb import TlbOptions

    policy = options["tlb_replacement"]
    return TlbOptions(
        replacement=None if policy is None else Replacement(policy),
        largest_page=PAGES[options["tlb_largest_page"]],
        walk_caches=options["walk_caches"],
        seed=options["seed"],
    )


def run_spec(options: dict[str, Any], config: "GuestConfig", detail: str, **more: Any) -> "RunSpec":
    """Return the run that `options` describe, in `detail` exits or full, on the hardware `config`."""
    from quire.cpu import Detail
    from quire.guest.run_spec import RunSpec

    check_sandbox(options["sandbox"], options["allow_read"])
    return RunSpec(
        (options["program"], *options["arguments"]),
        config,
        Detail[detail.upper()],
        seed=options["seed"],
        sandbox=options["sandbox"],
        record_arguments=not options["no_argv"],
        allow_read=options["allow_read"],
        root=options["root"] or "",
        thp=options["thp"] or ("madvise" if options["guest_page"] == _SMALLEST else None),
        environment=options["environment"],
        **more,
    )
