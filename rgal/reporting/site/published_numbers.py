"""What others published of a method, by the files of benchmarks/reference."""

from __future__ import annotations

from functools import cache

from rgal.methods.names import MethodName
from rgal.reporting.published import REFERENCE, Entry, Published, Reference, load_reference
from rgal.reporting.site.markdown import row, table

NONE = "None known: `benchmarks/reference` has no number of it."
HEADINGS = ("data set", "networks or protocol", "bits", "as", "published (%)", "its teacher (%)", "source")


@cache
def _reference() -> Reference:
    return load_reference(REFERENCE)


def published_text(method: str) -> str:
    """Write the published numbers of a method as a table, with a list of their sources below it."""
    reference, sources, rows = _reference(), dict[str, int](), []
    for (task, name), lines in reference.rows.items():
        if MethodName.parse(name).host != method:
            continue
        own = [
            (key, value, "")
            for key, value in reference.values.items()
            if key.task == task and key.method in lines
        ]
        again = [
            (key, value, ", reproduced")
            for key, values in reference.reproduced.items()
            for value in values
            if key.task == task and key.method in lines
        ]
        rows += [_row(name + more, key, value, reference, sources) for key, value, more in own + again]
    if not rows:
        return NONE
    about = [
        reference.about[task]
        for task in dict.fromkeys(task for task, _ in reference.rows)
        if reference.about[task]
    ]
    tasks = {task for task, name in reference.rows if MethodName.parse(name).host == method}
    notes = [reference.about[task] for task in sorted(tasks) if reference.about[task]] if about else []
    listed = [f"{number}. {source}" for source, number in sources.items()]
    return "\n\n".join([*notes, table(HEADINGS, rows), "\n".join(listed)])


def _row(name: str, key: Entry, value: Published, reference: Reference, sources: dict[str, int]) -> str:
    number, source = value
    teacher = reference.teachers.get(key)
    measure = key.teacher if key.network else ""
    networks = f"{key.network}, {measure} {key.student}" if key.network else f"{key.teacher} → {key.student}"
    return row(
        key.dataset, networks, key.case.upper(), f"`{name}`".replace(", reproduced`", "`, reproduced"), f"{number:.2f}",
        "" if teacher is None else f"{teacher:.2f}", f"[{sources.setdefault(source, len(sources) + 1)}]",
    )  # fmt: skip
