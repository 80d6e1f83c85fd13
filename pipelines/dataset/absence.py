"""The ledger of absence: for every output column how many values are missing, why, and examples."""

from collections.abc import Iterable, Mapping

EXAMPLES = 10


def ledger(rows: int, columns: Iterable[str], reports: Iterable[Mapping]) -> dict[str, dict]:
    """For each output column its rows, its nulls and the keys of some of them, added up over the shards' reports."""
    found: dict[str, dict] = {name: {"rows": rows, "nulls": 0, "examples": []} for name in columns}
    for report in reports:
        for name, nulls in report.get("nulls", {}).items():
            entry = found[name]
            entry["nulls"] += nulls["count"]
            entry["examples"] = [*entry["examples"], *nulls["keys"]][:EXAMPLES]
    return found
