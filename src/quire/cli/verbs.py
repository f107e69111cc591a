"""``quire``: the group of verbs, loaded by name."""

import importlib
from collections.abc import Sequence

import click

from quire.errors import did_you_mean
from quire.guest.own_process import few_threads
from quire.version import __version__

__all__ = ["group", "invoke", "named_verb"]

#: Verb: what it is for, as the overview shows it. The module of the same name holds the command.
_VERBS = {
    "run": "Run a program under Quire's page tables and EPT, and report what its memory cost.",
    "boot": "Boot an operating system as a guest, and report what its memory cost.",
    "compare": "Run a program under each Mmu and page size, and say what each would cost and why.",
    "tlb": "Run a program and show what its TLBs and walk caches hold, at its end or at a breakpoint.",
    "explain": "Say what a pasted log or dump shows: the rule that was broken, the bits, the fix.",
    "walk": "Explain one access: every entry that its page walk reads, and the rule that decides.",
    "decode": "Put an entry, a register, a VMCS field, an error code or an exit into words.",
    "fields": "List the fields of the VMCS and the VMCB, or write a VMCS to be filled in.",
    "lint": "Check a hierarchy of tables or a VMCS for what is wrong, risky or wasteful.",
    "check": "Compare Quire with engines that nobody here wrote, suite by suite.",
    "numa": "Show NUMA nodes, and where a program's pages, tables and references go on them.",
    "audit": "Run a program, and prove who owns each frame of its host.",
    "profiles": "Show the modelled processors: TLBs, walk caches, and where each number comes from.",
    "doctor": "Show what Quire finds on this machine: versions, limits, kernel cache, KVM, walls.",
    "warm": "Compile kernels now, which the first command would otherwise wait for.",
    "validate": "Show published results beside what Quire measures: walk references, shadow against nested.",
}


class _Verbs(click.Group):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        few_threads()
        command: click.Command = importlib.import_module(f"quire.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            ctx.fail(f"There is no verb {args[0]!r}{did_you_mean(args[0], _VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from quire.cli.facts import engine_version

        click.echo(f"quire {__version__}, {engine_version()}")
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-V", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
              help="Show the versions of Quire and of its engine, and exit.")  # fmt: skip
def group() -> None:
    """A virtual-memory hypervisor in Python.

    Runs unmodified x86-64 Linux programs while its own guest page tables, EPT and TLBs translate every access.

    \b
    Examples:
      quire run -- ls -l /
      quire run --detail full --report json -o report.json -- sort /etc/passwd
      quire compare --pages 4K/4K,4K/2M -- sort /etc/passwd
    """


def named_verb(ctx: click.Context | None) -> str:
    """Return the command that a usage error is of, subcommands and all."""
    words = ""
    while ctx is not None and ctx.parent is not None:
        words, ctx = f" {ctx.info_name}{words}", ctx.parent
    return f"quire{words}"


def invoke(words: Sequence[str]) -> int:
    """Do what `words` ask for; return the exit status. Raises click's exceptions, and those of the verb."""
    status = group.main(list(words), prog_name="quire", standalone_mode=False)
    return status if isinstance(status, int) else 0
