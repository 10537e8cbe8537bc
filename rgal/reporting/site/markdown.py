"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

# The rooms whose modules the reference shows, and what each of its pages is called.
ROOMS = {
    "terms": "Loss terms",
    "synthesis": "Synthesis",
    "methods": "Recipes and methods",
    "engine": "Engine",
    "nets": "Networks",
    "data": "Data",
    "core": "Ground floor",
    "tasks": "Tasks",
}


def row(*cells: str) -> str:
    """Write the row of a table; a bar in a cell is no border."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def table(headings: Sequence[str], rows: Iterable[str]) -> str:
    """Put headings above rows."""
    return "\n".join([row(*headings), "|" + "---|" * len(headings), *rows])


def sentence(docstring: str) -> str:
    """Return the first sentence of a docstring on one line, without its full stop."""
    first = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<!\bal)(?<=[\w)\]'\"`])\.(?:\s|$)", first)[0].rstrip(".")


def linked_to_code(module: str, name: str) -> str:
    """Name a function or a class and lead to it in the reference; of a method's own file, name the file.

    >>> linked_to_code("rgal.terms.inversion", "kl_div")
    '[`kl_div`][rgal.terms.inversion.kl_div]'
    >>> linked_to_code("rgal.baselines.cmi", "cmi")
    '`cmi` in `baselines/cmi.py`'
    """
    if module.split(".")[1] in ROOMS:
        return f"[`{name}`][{module}.{name}]"
    return f"`{name}` in `{file_of(module)}`"


def file_of(module: str) -> str:
    """Return the file of a module from the top of the repository.

    >>> file_of("rgal.baselines.cmi"), file_of("rgal.core")
    ('baselines/cmi.py', 'rgal/core/__init__.py')
    """
    path = module.replace(".", "/")
    for linked in ("tasks", "baselines", "benchmarks"):
        path = re.sub(rf"^rgal/{linked}\b", linked, path)
    spec = find_spec(module)
    package = spec is not None and spec.submodule_search_locations is not None
    return f"{path}/__init__.py" if package else f"{path}.py"
