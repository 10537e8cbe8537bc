"""The benchmark's rows as the table of docs/scaling.md.

`python -m rgal.benchmarks.store.table docs/store.json docs/scaling.md` writes the table between its two marks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rgal.benchmarks.speed.table import BEGIN, END

HEAD = ("Trials", "Settings", "Command", "CPU (s)", "Clock (s)", "Memory (MB)")


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the rows of the benchmark's JSON as a table."""
    cells = [
        (
            *(f"{row[name]:,}" for name in ("trials", "settings")),
            row["command"],
            *(f"{row[name]:.1f}" for name in ("cpu_seconds", "wall_seconds")),
            f"{row['peak_mb']:,}",
        )
        for row in rows
    ]
    rules = ("--:", "--:", "---", "--:", "--:", "--:")
    return "\n".join("| " + " | ".join(row) + " |" for row in (HEAD, rules, *cells))


def with_table(document: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Put the table into a document, in place of what is between its marks."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{markdown(rows)}\n\n{END}{after}"


if __name__ == "__main__":
    source, target = sys.argv[1:]
    path = Path(target)
    path.write_text(with_table(path.read_text(encoding="utf-8"), json.loads(Path(source).read_text())))
