"""What methods got here, by the records that are kept in the repository."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rgal.methods.names import MethodName
from rgal.reporting.results import ResultGroup, case_label, groups
from rgal.reporting.site.links import DOCS, ROOT, place_of
from rgal.reporting.site.markdown import row, table
from rgal.reporting.verdict import primary, verdict_lines
from rgal.suite.store.folders import Store
from rgal.suite.store.frames import load_records, newest_results

RECORDS = ROOT / "results" / "reference"
NOT_YET = "Not measured yet: no record of it is kept in the repository."


@dataclass(frozen=True)
class Measured:
    """The kept records of one setting, and the page that tells of them."""

    page: Path
    group: ResultGroup


@cache
def measured() -> tuple[Measured, ...]:
    """Read all records that are kept, each setting and budget of a run apart."""
    found = []
    for folder in sorted(path for path in RECORDS.iterdir() if (path / "trials").is_dir()):
        page = DOCS / "results" / f"{folder.name}.md"
        results = newest_results(load_records(Store(folder)))
        parts = [ResultGroup(part) for part in groups(results).values()]
        found += [Measured(page if page.is_file() else RECORDS / "README.md", part) for part in parts]
    return tuple(found)


def measured_text(method: str, above: str) -> str:
    """Say what a method got, with and without RGAL and with any parameters: n, mean ± deviation, verdict.

    Args:
        method: its name without parameters.
        above: the way from the page to the top of the site, such as "../".
    """
    parts = list(_of_settings(method, above))
    return "\n\n".join(parts) if parts else NOT_YET


def _of_settings(method: str, above: str) -> Iterator[str]:
    for one in measured():
        group, measure = one.group, primary(one.group)
        rows = []
        for (case, name), trials in group.rows.items():
            values = trials.measured(measure).dropna()
            if MethodName.parse(name).host == method and len(values):
                spread = f" ± {values.std():.2f}" if len(values) > 1 else ""
                rows.append(
                    row(f"`{name}`", case_label(case), f"{values.mean():.2f}{spread}", str(len(values)))
                )
        if rows:
            yield f"**[{group.heading}]({above}{place_of(one.page)})**"
            yield table(("method", "case", measure.title, "n"), rows)
            yield " ".join(verdict_lines(group))
