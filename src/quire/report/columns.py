"""A comparison as Parquet: one row a configuration, one column a number, for data frames.

Columns have fixed types whatever the values are, so that files of several comparisons can be read as one.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

from quire.errors import MissingPackageError
from quire.report.compare import COMPONENT_TITLES, component_cycles

__all__ = ["compare_parquet"]


def compare_parquet(record: Mapping[str, Any]) -> bytes:
    """Return the rows of a comparison as a Parquet file; the record without its rows is in the file's metadata."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackageError("Parquet", "pyarrow") from error

    rows = [_flat(record, row) for row in record["rows"]]
    rest = {name: value for name, value in record.items() if name != "rows"}
    schema = pyarrow.schema(
        [pyarrow.field(name, _type(name)) for name in rows[0]], metadata={"quire": json.dumps(rest)}
    )
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), file)
    return file.getvalue()


def _flat(record: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    walks, outcome, tables = row["walks"], row["outcome"], row["table_bytes"]
    return {
        "program": record["program"]["argv"][0],
        "profile": row["profile"],
        "costs": row["costs"],
        "configuration": row["name"],
        "mmu": row["mmu"],
        "guest_page": row["guest_page"],
        "host_page": row["host_page"],
        "status": outcome["status"],
        "stdout_sha256": outcome["stdout_sha256"],
        "instructions": row["instructions"],
        "page_faults": row["page_faults"],
        "tlb_l2_hits": row["tlb"]["l2_hits"],
        "tlb_misses": row["tlb"]["misses"],
        "walks": walks["count"],
        "references_guest": walks["references"]["guest"],
        "references_host": walks["references"]["host"],
        **{
            f"{kind}_{where}": None if row["remote"] is None else row["remote"][kind][where]
            for kind in ("tables", "data")
            for where in ("local", "remote")
        },
        "exits": row["exits"]["total"],
        "exits_by_reason": list(row["exits"]["by_reason"].items()),
        **{f"table_bytes_{name}": count for name, count in tables.items()},
        **{f"cycles_{name}": component_cycles(row, name) for name in COMPONENT_TITLES},
        "cycles_total": row["cycles"]["total"],
        **row["overhead"],
        "bound_references_guest": row["bound"]["references"]["guest"],
        "bound_references_host": row["bound"]["references"]["host"],
        "bound_cycles": row["bound"]["cycles"],
        "bound_over_native": row["bound"]["over_native"],
    }


def _type(column: str) -> Any:
    import pyarrow

    texts = ("program", "profile", "costs", "configuration", "mmu", "stdout_sha256")
    if column in texts:
        return pyarrow.string()
    if column == "exits_by_reason":
        return pyarrow.map_(pyarrow.string(), pyarrow.int64())
    return pyarrow.float64() if "over_native" in column else pyarrow.int64()
