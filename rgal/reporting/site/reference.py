"""The reference: what Python code may use, and what registries, suites and tables hold."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import rgal
from rgal import data, nets
from rgal.methods.registry import methods
from rgal.reporting.site.markdown import ROOMS, row, sentence, table
from rgal.reporting.site.schedules import suites
from rgal.suite.measures import Measure
from rgal.suite.plan.settings import Suite
from rgal.suite.task import measures_of, tasks

FOLDER = "reference"
# Of the suite: what a plug-in that brings a task needs.
OF_THE_SUITE = ("rgal.suite.task", "rgal.suite.measures", "rgal.suite.plan.settings", "rgal.suite.plan.steps")
PLACES = {"front": "in front", "back": "at the back", "csv": "CSV only", "": "none of its own"}


def reference_pages(options: str) -> dict[str, str]:
    """Make the pages of the reference by their place in the site. `options`: the help of the command line."""
    pages = {
        "python": python_page(),
        "suites": suites_page(),
        "columns": columns_page(),
        "names": names_page(options),
        **{f"parts/{room}": part_page(title, modules_of(room)) for room, title in ROOMS.items()},
        "parts/suite": part_page("Tasks, measures, settings", OF_THE_SUITE),
    }
    return {f"{FOLDER}/{name}.md": text for name, text in pages.items()}


def public_names() -> list[str]:
    """List what `import rgal` shows, such as `rgal.distill`."""
    return [f"rgal.{name}" for name in rgal._WHERE]


def modules_of(room: str) -> list[str]:
    """List the modules of a room, those of its folders included."""
    package = importlib.import_module(f"rgal.{room}")
    found = (info.name for info in pkgutil.walk_packages(package.__path__, f"rgal.{room}."))
    return sorted(name for name in found if not name.rpartition(".")[2].startswith("_"))


def python_page() -> str:
    """Show every public name with its docstring."""
    head = "# From Python\n\nWhat `import rgal` shows. The guide is [From Python](../python.md)."
    return "\n\n".join([head, *(f"::: {name}" for name in public_names())]) + "\n"


def part_page(title: str, modules: list[str] | tuple[str, ...]) -> str:
    """Show what is in some modules, each with the first sentence of its docstring in a list above."""
    listed = [row(f"[`{name}`][{name}]", _about(name)) for name in modules]
    shown = [f"::: {name}" for name in modules]
    return "\n\n".join([f"# {title}", table(("module", "what is in it"), listed), *shown]) + "\n"


def _about(module: str) -> str:
    return sentence(inspect.getdoc(importlib.import_module(module)) or "")


def suites_page() -> str:
    """List the suites, their budgets and what the numbers of a budget mean."""
    rows = [
        row(
            f"[`{path.stem}`](#{path.stem})", suite.title, suite.task, suite.dataset, _networks(suite),
        )
        for path, suite in suites().items()
    ]  # fmt: skip
    head = [
        "# Suites and budgets",
        "A suite is a file in `benchmarks/`: methods, data, networks, seeds and budgets. `--suite NAME` runs it. What "
        "its keys mean: [settings](parts/suite.md). What a budget is for one method, and where its numbers were read: "
        "the [page of the method](../methods/index.md).",
        table(("suite", "title", "task", "data", "teacher → student"), rows),
    ]
    return "\n\n".join([*head, *(_of_suite(path.stem, suite) for path, suite in suites().items())]) + "\n"


def _networks(suite: Suite) -> str:
    return "; ".join(f"{pair.teacher} → {pair.student or 'its own'}" for pair in suite.networks)


def _of_suite(name: str, suite: Suite) -> str:
    facts = [
        f"Methods: {', '.join(f'`{method}`' for method in suite.methods)}.",
        f"Seeds: {', '.join(map(str, suite.seeds))}. Budget unless told: {suite.budget}.",
    ]
    if suite.options:
        facts.append(f"Options: {', '.join(f'`{key}={value}`' for key, value in suite.options.items())}.")
    if suite.sweep:
        facts.append(f"Swept: {', '.join(f'`{key}` over {value}' for key, value in suite.sweep.items())}.")
    rows = [
        row(
            budget,
            *("" if (value := getattr(numbers, field)) is None else str(value) for field in _SHOWN),
            numbers.precision,
            f"{numbers.teacher_training.steps} of {numbers.teacher_training.batch}",
            ", ".join(f"`{method}`" for method in numbers.methods),
        )
        for budget, numbers in suite.budgets.items()
    ]
    headings = (
        "budget",
        *(field.replace("_", " ") for field in _SHOWN),
        "precision",
        "teacher's steps",
        "exceptions",
    )
    return f"## {name}\n\n{suite.title}. {' '.join(facts)}\n\n{table(headings, rows)}"


_SHOWN = (
    "rounds",
    "warmup",
    "synthesis_steps",
    "student_steps",
    "synthesis_batch",
    "batch",
    "student_lr",
    "synthesis_lr",
)


def columns_page() -> str:
    """List the numbers that trials record, and the columns of tables that show them."""
    head = [
        "# Columns",
        "What a trial records in `result.json` (or, of an exported model, in `export.json`), and the column that "
        "shows it. A column in front has mean ± sample standard deviation over seeds, one at the back the mean; the "
        "CSV has both and n. How to read them: [What the numbers mean](../numbers.md).",
    ]
    parts = []
    for task in tasks():
        rows = [_measure(measure) for measure in measures_of(task) if measure.heading]
        parts += [
            f"## {task}",
            tasks()[task].summary,
            table(("column", "record", "better", "place", "meaning"), rows),
        ]
    return "\n\n".join([*head, *parts]) + "\n"


def _measure(measure: Measure) -> str:
    made = [f"`{measure.key}`"]
    made += [f"{word} `{key}`" for word, key in (("over", measure.over), ("less", measure.less)) if key]
    note = measure.note if "{}" not in measure.note else ""
    return row(measure.title, " ".join(made), measure.better, PLACES[measure.place], note)


def names_page(options: str) -> str:
    """List the options of the command line, and the names of tasks, data sets, networks and methods."""
    parts = (
        "# Names and options",
        "## The command line",
        f"```text\n{options}```",
        "## Tasks",
        table(("task", "what it is"), [row(f"`{name}`", task.summary) for name, task in tasks().items()]),
        "## Data sets",
        "Any folder goes under any name with `--data-root`: [Your own data](../data.md).",
        ", ".join(f"`{name}`" for name in data.names()),
        "## Networks",
        "Networks from elsewhere: [teachers](../teachers.md).",
        "\n".join(f"- `{name}`" for name in (*nets.names(), *nets.forms())),
        "## Methods",
        ", ".join(f"[`{name}`](../methods/{name}.md)" for name in methods()),
    )
    return "\n\n".join(parts) + "\n"
