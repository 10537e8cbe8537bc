"""All pages of the site that are no file of docs/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rgal.reporting.site.links import for_the_site
from rgal.reporting.site.methods import FOLDER, by_task, method_pages
from rgal.reporting.site.notebook import page_of_notebook
from rgal.reporting.site.reference import reference_pages

METHODS = "Methods"


def text_of_file(path: Path) -> str:
    """Return a page or a notebook of the repository as a page of the site."""
    text = page_of_notebook(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    return for_the_site(text, path)


def made_pages(options: str) -> dict[str, str]:
    """Make the pages, by their place in the site. `options`: the help of the command line."""
    return method_pages() | reference_pages(options)


def with_methods(navigation: Sequence[Any]) -> list[Any]:
    """Add the page of each method to the part of a navigation that is called Methods."""
    pages = [{task: [f"{FOLDER}/{name}.md" for name in names]} for task, names in by_task().items()]
    return [
        {METHODS: [*part[METHODS], *pages]} if isinstance(part, dict) and METHODS in part else part
        for part in navigation
    ]
