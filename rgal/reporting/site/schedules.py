"""What a method runs in every budget of every suite of its tasks, and where the numbers were read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rgal import benchmarks
from rgal.core.errors import UserError
from rgal.methods.names import MethodName
from rgal.methods.parameters import text_of
from rgal.methods.registry import Method
from rgal.reporting.site.markdown import row, table
from rgal.reporting.site.sources import source_of
from rgal.suite.plan.budget import Taken, own_schedule, schedule_for
from rgal.suite.plan.settings import Pair, Suite, load_suite
from rgal.suite.plan.steps import Epochs
from rgal.suite.task import Task, tasks

HEADINGS = (
    "suites", "rounds", "warm-up", "synthesis steps", "student steps", "images", "batch", "step sizes", "from",
)  # fmt: skip
OF_ITS_FILE = "the method's file"


@cache
def suites() -> dict[Path, Suite]:
    """Read the suites that come with rgal, by file."""
    folder = Path(benchmarks.__file__).parent
    return {path: load_suite(path, {}) for path in sorted(folder.glob("*.yaml"))}


@dataclass(frozen=True)
class Line:
    """One schedule: what a row of the table says, and of which suite."""

    budget: str
    suite: str
    cells: tuple[str, ...]


def schedules_tables(method: Method) -> dict[str, str]:
    """Write the schedules of a method by budget, the longest first: a row for all suites that have the same numbers."""
    merged: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for line in _lines(method):
        merged.setdefault(line.budget, {}).setdefault(line.cells, []).append(line.suite)
    order = [name for name in ("paper", "gpu", "small", "smoke") if name in merged]
    names = [*order, *(name for name in merged if name not in order)]
    return {budget: _table(merged[budget]) for budget in names}


def _table(lines: Mapping[tuple[str, ...], Sequence[str]]) -> str:
    """Write the lines of a budget, and below them in a list where their numbers are from."""
    sources: dict[str, int] = {}
    rows = []
    for (*cells, source), names in lines.items():
        note = f"[{sources.setdefault(source, len(sources) + 1)}]" if source else ""
        rows.append(row(", ".join(dict.fromkeys(names)), *cells, note))
    listed = "\n".join(f"{number}. {source}" for source, number in sources.items())
    return "\n\n".join(filter(None, [table(HEADINGS, rows), listed]))


def _lines(method: Method) -> Iterator[Line]:
    for path, suite in suites().items():
        task = tasks().get(suite.task)
        if task is None or not task.runs(method):
            continue
        for budget in suite.budgets:
            for pair in (suite.networks[0], *(pair for pair in suite.networks[1:] if pair.methods)):
                line = _line(method, task, path, suite.model_copy(update={"budget": budget}), pair)
                if line is not None:
                    yield line


def _line(method: Method, task: Task, path: Path, suite: Suite, pair: Pair) -> Line | None:
    """Return a schedule; None for one that makes no sense for the method, which the suite refuses."""
    own = own_schedule(method, suite.budget)
    taken = schedule_for(suite.chosen_budget(), pair, {}, MethodName(method.name), task.defaults, own)
    steps = taken.schedule.student_steps
    numbers = (
        taken.schedule.model_copy(update={"student_steps": None})
        if isinstance(steps, Epochs)
        else taken.schedule
    )
    try:
        recipe = task.recipe(method.name, numbers).recipe
    except UserError:
        return None
    rounds = recipe.rounds
    made = recipe.images is not None
    student = (
        f"{steps.epochs} epochs"
        if isinstance(steps, Epochs) and rounds.student_steps
        else f"{rounds.student_steps:,}"
    )
    cells = (
        f"{rounds.count:,}",
        str(rounds.warmup),
        f"{rounds.synthesis_steps:,}" if made else "",
        student,
        f"{rounds.synthesis_batch:,}" if made else "",
        f"{rounds.batch * (2 if recipe.pairs else 1):,}",
        ", ".join([*([text_of(recipe.optimiser.lr)] if made else []), text_of(recipe.student.lr)]),
        _source(path, suite, taken),
    )
    name = f"`{path.stem}`" + (f" ({pair.teacher} → {pair.student})" if taken.of_pair else "")
    return Line(suite.budget, name, cells)


def _source(path: Path, suite: Suite, taken: Taken) -> str:
    """Say where the numbers are from, and which parameters of the method go with them."""
    with_them = ", ".join(
        f"`{key}={text_of(value)}`" for key, value in (taken.schedule.parameters or {}).items()
    )
    return "; with ".join(filter(None, [_said(path, suite, taken).rstrip("."), with_them]))


def _said(path: Path, suite: Suite, taken: Taken) -> str:
    if taken.of_method:
        return OF_ITS_FILE
    entry = str(taken.of_budget) if taken.of_budget else ""
    said = source_of(path, suite.budget, entry) if entry else ""
    return said or (source_of(path, suite.budget) if suite.budget == "paper" else "")
