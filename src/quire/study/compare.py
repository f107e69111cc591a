"""One program under several configurations: the plain record that reports of a comparison show.

Rows are in the order of the configurations. Only what is counted and predicted is in the record, nothing of the clock,
so the same program, input, options and seed give the same bytes. Its fields are in docs/reference/compare.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from quire.arch import PAGES, CpuProfile
from quire.cpu import Detail
from quire.errors import MisuseError
from quire.guest.run_spec import RunSpec
from quire.machine import MMUS, GuestConfig
from quire.mmu import NumaConfig
from quire.study.configuration import (
    Configuration,
    configurations,
    parse_mmus,
    parse_pages,
    parse_profiles,
)
from quire.study.costs import Costs, costs_for
from quire.study.counts import Counts
from quire.study.predict import NOT_MODELLED, predict_counts
from quire.study.runner import Running, check_settings, run_all
from quire.study.verdict import verdict
from quire.tlb import TlbOptions
from quire.version import __version__

__all__ = ["SCHEMA", "compare", "compare_costs", "compare_record", "compare_row", "compare_spec"]

#: Version of the record's shape; grows when a field changes its meaning or goes.
SCHEMA = 2
_TABLE_BYTES = 4 << 10
_TABLES = ("guest", "shadow", "host")


def compare(
    command: Sequence[str],
    *,
    pages: str = "4K/4K",
    mmus: str = ",".join(MMUS),
    profile: str = "skylake-x",
    costs: str | None = None,
    memory: int = 2 << 30,
    seed: int = 0,
    sandbox: bool = False,
    remote_share: float = 0.0,
    jobs: int = 1,
    start: str | None = None,
    end: str | None = None,
) -> dict[str, Any]:
    """Run `command` under every one of `mmus` with every one of `pages`, and return the record of the comparison.

    `profile` may list several processors; `costs` is what costs_for takes. Only what happens between the points `start`
    and `end` counts, as :mod:`quire.guest.point` reads them. Its standard input is empty and its output is not shown.
    Raises MisuseError for what cannot be asked, RunFailed for a run that could not be made.
    """
    profiles = parse_profiles(profile)
    figures = compare_costs(profiles, costs, remote_share)
    asked = configurations(parse_mmus(mmus), parse_pages(pages), profiles)
    spec = compare_spec(command, memory, seed, sandbox, profiles[0], region=(start, end))
    check_settings(spec, asked)
    return compare_record(spec, run_all(spec, asked, jobs=jobs), figures, remote_share=remote_share)


def compare_costs(profiles: Sequence[CpuProfile], asked: str | None, remote_share: float) -> dict[str, Costs]:
    """Return the costs of each processor by its name. Raises what costs_for does, MisuseError for what is no share."""
    found = {profile.name: costs_for(profile, asked) for profile in profiles}
    for costs in found.values():
        costs.memory_latency(remote_share)  # before anything runs
    return found


def compare_spec(
    command: Sequence[str],
    memory: int,
    seed: int,
    sandbox: bool,
    profile: CpuProfile,
    numa: NumaConfig | None = None,
    *,
    record_arguments: bool = True,
    region: tuple[str | None, str | None] = (None, None),
) -> RunSpec:
    """Return what all runs of a comparison share; only the part of each between the points of `region` counts.

    Raises MisuseError for hardware that cannot be.
    """
    config = GuestConfig(memory=memory, profile=profile, seed=seed, tlb=TlbOptions(seed=seed), numa=numa)
    start, end = region
    return RunSpec(
        tuple(command),
        config,
        Detail.FULL,
        seed=seed,
        sandbox=sandbox,
        record_arguments=record_arguments,
        start=start,
        end=end,
    )


def compare_record(
    spec: RunSpec,
    runs: Sequence[Running[Configuration]],
    costs: Mapping[str, Costs],
    *,
    remote_share: float = 0.0,
    partial: bool = False,
) -> dict[str, Any]:
    """Return the record of a comparison: a row a run, what differed, which configuration won and why.

    `costs` are those of each processor by its name. `partial` says that it was interrupted, and configurations are
    missing.
    """
    for run in runs:
        _check_started(run)
    rows = [compare_row(run, costs[run.record["config"]["profile"]], remote_share) for run in runs]
    profiles = list(dict.fromkeys(row["profile"] for row in rows))
    verdicts = []
    for profile in profiles:
        same = [row for row in rows if row["profile"] == profile]
        _add_overheads(same)
        verdicts.append({"profile": profile, **verdict(same)})
    return {
        "schema": SCHEMA,
        "quire": __version__,
        "program": {"argv": spec.recorded_command},
        "config": {
            "memory": spec.config.memory,
            "seed": spec.seed,
            "sandbox": spec.sandbox,
            "profiles": profiles,
            "remote_share": remote_share,
            "from": spec.start,
            "to": spec.end,
        },
        "partial": partial,
        "rows": rows,
        "differences": _differences(rows),
        "early": [
            f"{run.configuration.name}: {early}" for run in runs if (early := _early(run.record["region"]))
        ],
        "verdicts": verdicts,
        "costs": {one.name: _figures(one) for one in (costs[profile] for profile in profiles)},
        "not_modelled": list(NOT_MODELLED),
    }


def _check_started(run: Running[Configuration]) -> None:
    """Raise MisuseError for a run of which nothing counts, because it never came to the start of its region."""
    region = run.record["region"]
    if region is not None and not region["started"]:
        raise MisuseError(
            f"{run.configuration.name} ended with status {run.record['outcome']['status']} and was never "
            f"{region['from']}: give an earlier point to begin at"
        )


def _early(region: Mapping[str, Any] | None) -> str:
    """Say that a run ended before its region did, if it did."""
    if region is None or region["to"] is None or region["ended"]:
        return ""
    return f"the program ended and was never {region['to']}, so everything up to its end counts"


def _figures(costs: Costs) -> dict[str, Any]:
    return {
        name: {"value": figure.value, "assumption": figure.is_assumption, "source": figure.source}
        for name, figure in costs.figures.items()
    }


def compare_row(run: Running[Configuration], costs: Costs, remote_share: float = 0.0) -> dict[str, Any]:
    """Return the row of one run; its overheads are for the whole record to fill in."""
    record, configuration = run.record, run.configuration
    exits, walks, tlb = record["exits"], record["walks"], record["tlb"]
    tables = {
        part: (record["memory"].get(part) or {"table_pages": 0})["table_pages"] * _TABLE_BYTES
        for part in _TABLES
    }
    counts, share = Counts.of(record), _share(record, remote_share)
    return {
        "name": configuration.short_name,
        "profile": record["config"]["profile"],
        "costs": costs.name,
        "mmu": configuration.mmu,
        "guest_page": PAGES[configuration.guest_page],
        "host_page": None if configuration.host_page is None else PAGES[configuration.host_page],
        "outcome": {
            **record["outcome"],
            "stdout_bytes": run.stdout_bytes,
            "stdout_sha256": run.stdout_sha256,
        },
        "region": record["region"],
        "instructions": record["instructions"],
        "exits": {"total": sum(exits.values()), "by_reason": exits},
        "page_faults": record["page_faults"],
        "tlb": {"l2_hits": tlb["l2"]["hits"], "misses": tlb["l2"]["misses"]},
        "walks": {"count": walks["count"], **_references(counts)},
        "table_bytes": {**tables, "total": sum(tables.values())},
        "remote": _remote(record),
        "cycles": predict_counts(counts, costs, remote_share=share).as_record(),
        "overhead": {"over_native": None, "over_native_4k": None},
        "bound": _bound(counts.whole(), costs, share),
    }


def _references(counts: Counts) -> dict[str, Any]:
    guest, host = counts.guest_references, counts.host_references
    return {
        "references": {"guest": guest, "host": host},
        "references_per_walk": round((guest + host) / max(1, counts.walks), 4),
    }


def _bound(whole: Counts, costs: Costs, share: float) -> dict[str, Any]:
    """Return what the row would be if each walk made all its references."""
    cycles = predict_counts(whole, costs, remote_share=share).as_record()
    return {**_references(whole), "cycles": cycles["total"], "over_native": None}


def _remote(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return local and remote references of a run, to tables together and of data; None without nodes."""
    if record["numa"] is None:
        return None
    found = record["numa"]["references"]
    tables = [found[kind] for kind in ("guest_table", "host_table")]
    return {
        "tables": {where: sum(one[where] for one in tables) for where in ("local", "remote")},
        "data": {where: found["data"][where] for where in ("local", "remote")},
    }


def _share(record: Mapping[str, Any], otherwise: float) -> float:
    """Return the share of references to tables that were remote, on a host without nodes `otherwise`."""
    found = _remote(record)
    whole = 0 if found is None else sum(found["tables"].values())
    return found["tables"]["remote"] / whole if found is not None and whole else otherwise


def _add_overheads(rows: Sequence[dict[str, Any]]) -> None:
    """Fill in what each row costs over native: with the same guest page, and with pages of 4 KiB."""
    flat = [row for row in rows if row["mmu"] == "native"]
    native = {row["guest_page"]: row["cycles"]["total"] for row in flat}
    bound = {row["guest_page"]: row["bound"]["cycles"] for row in flat}
    for row in rows:
        total = row["cycles"]["total"]
        row["bound"]["over_native"] = _over(row["bound"]["cycles"], bound.get(row["guest_page"]))
        row["overhead"] = {
            "over_native": _over(total, native.get(row["guest_page"])),
            "over_native_4k": _over(total, native.get(PAGES["4K"])),
        }


def _over(total: int, base: int | None) -> float | None:
    return None if not base else round(total / base - 1, 6)


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each run whose exit status or output is not that of the first."""
    several = len({row["profile"] for row in rows}) > 1
    names = [f"{row['profile']} {row['name']}" if several else row["name"] for row in rows]
    first, found = rows[0]["outcome"], []
    for name, row in zip(names[1:], rows[1:], strict=True):
        mine = row["outcome"]
        if mine["status"] != first["status"]:
            found.append(f"{name} ended with status {mine['status']}, {names[0]} with {first['status']}")
        if mine["stdout_sha256"] != first["stdout_sha256"]:
            found.append(
                f"{name} wrote other bytes than {names[0]}: {mine['stdout_bytes']} and {first['stdout_bytes']} of them"
            )
    return found
