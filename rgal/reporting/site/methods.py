"""A page for each method, made from its file, its recipe, the suites, the kept records and the published numbers."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from typing import Any

from rgal.methods.meanings import meaning_of
from rgal.methods.parameters import text_of
from rgal.methods.recipe import Recipe
from rgal.methods.registry import Method, methods
from rgal.reporting.site.markdown import file_of, linked_to_code, row, sentence, table
from rgal.reporting.site.measured import measured_text
from rgal.reporting.site.published_numbers import published_text
from rgal.reporting.site.schedules import schedules_tables
from rgal.reporting.site.terms import terms_table
from rgal.suite.task import tasks

FOLDER = "methods"
UP = "../"
DIFFERS = re.compile(r"\b(?:differ(?:s|ences?)?|departs?|no reproduction|not reproduced)\b", re.IGNORECASE)
ABOUT_SCHEDULES = (
    "Steps are those of a round; images are those that a round makes; the batch is what a student step sees; step "
    "sizes are those of the images, then of the student. The list below a table says where numbers were read."
)


def method_pages() -> dict[str, str]:
    """Make the page of each method, and the one that lists them, by their place in the site."""
    pages = {f"{FOLDER}/{name}.md": method_page(method) for name, method in methods().items()}
    return {f"{FOLDER}/index.md": index_page()} | pages


def by_task() -> dict[str, list[str]]:
    """List the names of methods by the task that they were written for."""
    listed: dict[str, list[str]] = {task: [] for task in tasks()}
    for name, method in methods().items():
        listed[method.tasks[0]].append(name)
    return listed


def index_page() -> str:
    """List all methods with what they are, by the task that they were written for."""
    parts = [
        "# Methods",
        "A page for each, made from its file, the suites, the kept records and the published numbers. "
        "`NAME+rgal` adds RGAL to any of them. How they compare with each other: "
        "[distillation](../methods.md), [quantization](../quantization.md#methods), "
        "[class-incremental learning](../incremental.md#methods).",
    ]
    for task, names in by_task().items():
        rows = [
            row(
                f"[`{name}`]({name}.md)",
                sentence(_prose(methods()[name])[0]),
                ", ".join(methods()[name].tasks),
            )
            for name in names
        ]
        parts += [f"## {task}", tasks()[task].summary, table(("method", "what it is", "runs on"), rows)]
    return "\n\n".join(parts) + "\n"


def method_page(method: Method) -> str:
    """Write what a method is, its parameters, terms, schedules and results, published numbers and deviations."""
    recipe, prose = method.recipe(), _prose(method)
    first, *rest = prose
    deviations = [paragraph for paragraph in rest if DIFFERS.search(paragraph)]
    about = [paragraph for paragraph in rest if paragraph not in deviations]
    data = "" if recipe.data_free else " It trains on real data: a reference, no data-free method."
    sections = {
        "What it optimises": [*about, _images(recipe)],
        "Parameters": [_parameters(method)],
        "Terms": _terms(recipe),
        "Schedules": [
            ABOUT_SCHEDULES,
            *(f"### {budget}\n\n{lines}" for budget, lines in schedules_tables(method).items()),
        ],
        "What it got here": [measured_text(method.name, UP), _told()],
        "Published numbers": [published_text(method.name)],
        "Deviations": [*(deviations or ["Its file names none."]), _more_on_deviations(method)],
    }
    head = [
        f"# {method.name}",
        f"{first}{data}",
        f"Source: {method.reference}. File: `{file_of(method.module)}`. Tasks: {', '.join(method.tasks)}.",
        f"    python run_suite.py --task {method.tasks[0]} --methods {method.name}",
    ]
    body = [f"## {title}\n\n" + "\n\n".join(filter(None, parts)) for title, parts in sections.items()]
    return "\n\n".join([*head, *body]) + "\n"


def _prose(method: Method) -> list[str]:
    """Return the paragraphs of the docstring of a method's file, each on one line."""
    text = inspect.getdoc(sys.modules[method.module]) or ""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _parameters(method: Method) -> str:
    if not method.parameters:
        return "None."
    rows = [
        row(
            f"`{one.name}={text_of(one.default)}`",
            one.type_text,
            meaning_of(method.name, one) + (f" (default from: {one.source})" if one.source else ""),
        )
        for one in method.parameters.values()
    ]
    return table(("parameter and default", "value", "meaning"), rows)


def _terms(recipe: Recipe) -> list[str]:
    parts = ["Weights are the defaults; a term of weight 0 is never computed."]
    for title, terms in (("Of synthesis", recipe.synthesis), ("Of the student", recipe.transfer)):
        parts += [f"### {title}", terms_table(terms) if terms else "None."]
    if recipe.extension is not None:
        parts += ["### Of a phase", _extension(recipe.extension)]
    return parts


def _extension(extension: Any) -> str:
    """Write what a recipe says to its task beside its terms, where it is not the default."""
    meanings = _arguments(inspect.getdoc(type(extension)) or "")
    rows = [
        row(f"`{field.name}`", f"`{_shown(value)}`", meanings.get(field.name, ""))
        for field in dataclasses.fields(extension)
        if (value := getattr(extension, field.name)) != field.default and not field.name.startswith("base")
    ]
    return (
        table(("setting", "value", "meaning"), rows)
        if rows
        else "As finetune: the network goes on, nothing is kept."
    )


def _shown(value: Any) -> str:
    return re.sub(
        r"<function (\w+) at \w+>", r"\1", ", ".join(value) if isinstance(value, tuple) else str(value)
    )


def _arguments(docstring: str) -> dict[str, str]:
    """Return what a docstring says of each argument."""
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {6,}.*)*)", docstring, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _images(recipe: Recipe) -> str:
    """Say in a line what is optimised, what is kept of it, and what the student sees."""
    if recipe.images is None:
        return "It synthesises no images."
    spec = type(recipe.images)
    kept = "those of the step with the least loss" if recipe.keep == "best" else "those of the last step"
    seen = {
        "pool": "batches of the pool",
        "generator": "fresh draws of the generator",
        "batch": "the batch that was made last",
        "given": "given images",
    }[recipe.source]
    kept = f" Of a round's images {kept} are kept." if recipe.source == "pool" else ""
    what = linked_to_code(spec.__module__, spec.__name__)
    return f"What is optimised: {what}.{kept} The student sees {seen}."


def _told() -> str:
    return (
        "Runs of one or two seeds of which no records are kept are told in [first runs](../results/first_runs.md) and "
        "[what methods do](../methods.md#what-they-got-on-the-digits)."
    )


def _more_on_deviations(method: Method) -> str:
    page = {"kd": "methods.md", "dfq": "quantization.md", "necil": "incremental.md"}[method.tasks[0]]
    return f"Beside other methods: [{page}]({UP}{page}). What holds for all: [fidelity.md]({UP}fidelity.md)."
