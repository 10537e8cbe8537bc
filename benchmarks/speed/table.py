"""The benchmarks' rows as text, and as the tables of docs/speed.md.

`python -m rgal.benchmarks.speed.table docs/speed.json docs/speed.md` writes the table of steps beside their floor
between its two marks; docs/speed_before.json is that of steps beside another revision's, and has marks of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
BEFORE = "<!-- before: begin -->", "<!-- before: end -->"
HEAD_BEFORE = ("Case", "Step", "Before (ms)", "Now (ms)", "Times faster", "least to most", "Memory (MiB)")
HEAD = ("Case", "Step", "CPU (ms)", "Clock (ms)", "Page faults", "Floor (ms)", "Ratio", "least to most")


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Write a row's numbers in the order of `HEAD`, kernels of a GPU behind them."""
    ratio = row["ratio"]
    numbers = (
        *(f"{1000 * row[name]:,.1f}" for name in ("cpu_seconds", "wall_seconds")),
        f"{row['faults']:,.0f}",
        f"{1000 * row['floor_seconds']:,.1f}",
        f"{ratio['median']:.2f}",
        f"{ratio['least']:.2f} to {ratio['most']:.2f}",
    )
    return (row["case"], row["step"], *numbers)


def line(row: Mapping[str, Any]) -> str:
    """Write a row for the terminal."""
    case, step, cpu, clock, faults, floor, ratio, spread = cells(row)
    kernels = "" if row["kernels"] is None else f", {row['kernels']} kernels"
    return (
        f"{case:<42} {step:<9} {cpu:>9} ms CPU {clock:>9} ms clock {faults:>8} faults   floor {floor:>9} ms   "
        f"ratio {ratio} [{spread}]{kernels}"
    )


def cells_before(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Write a row's numbers in the order of `HEAD_BEFORE`."""
    ratio = row["ratio"]
    return (
        row["case"],
        row["step"],
        *(f"{1000 * row[name]:,.1f}" for name in ("before_seconds", "now_seconds")),
        f"{ratio['median']:.2f}",
        f"{ratio['least']:.2f} to {ratio['most']:.2f}",
        f"{row['before_mib']:,.0f} to {row['now_mib']:,.0f}",
    )


def compares(measured: Mapping[str, Any]) -> bool:
    """Whether these rows are beside those of another revision."""
    return "before" in measured["environment"]


def markdown(measured: Mapping[str, Any]) -> str:
    """Write what a benchmark's JSON holds as a table, below a line on how it was measured."""
    about = ", ".join(f"{name} {value}" for name, value in measured["environment"].items())
    head, write = (HEAD_BEFORE, cells_before) if compares(measured) else (HEAD, cells)
    rules = ("---", "---", *["--:"] * (len(head) - 2))
    rows = [head, rules, *(write(row) for row in measured["rows"])]
    return "\n".join([f"{about}.", "", *("| " + " | ".join(row) + " |" for row in rows)])


def with_table(document: str, measured: Mapping[str, Any]) -> str:
    """Put the table into a document, in place of what is between its marks."""
    begin, end = BEFORE if compares(measured) else (BEGIN, END)
    before, _, rest = document.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{markdown(measured)}\n\n{end}{after}"


def main(source: str, document: str) -> None:
    """Write the table of the JSON file `source` into the Markdown file `document`."""
    path = Path(document)
    path.write_text(with_table(path.read_text(encoding="utf-8"), json.loads(Path(source).read_text())))


if __name__ == "__main__":
    main(*sys.argv[1:3])
