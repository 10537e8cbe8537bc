"""All pages of the site that are no file of docs/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rgal.reporting.site.links import DOCS, HOME, for_the_site, place_of
from rgal.reporting.site.methods import FOLDER, by_task, method_pages
from rgal.reporting.site.notebook import page_of_notebook
from rgal.reporting.site.reference import reference_pages

METHODS, RESULTS = "Methods", "Results"


def text_of_file(path: Path) -> str:
    """Return a page or a notebook of the repository as a page of the site."""
    text = page_of_notebook(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    return for_the_site(text, path)


def made_pages(options: str) -> dict[str, str]:
    """Make the pages, by their place in the site. `options`: the help of the command line."""
    return method_pages() | reference_pages(options)


def completed(navigation: Sequence[Any]) -> list[Any]:
    """Add what need not be listed by hand: the page of each method, and the pages of results."""
    of_methods = [{task: [f"{FOLDER}/{name}.md" for name in names]} for task, names in by_task().items()]
    of_results = [place_of(path) for path in sorted((DOCS / "results").glob("*.md")) if path.name != HOME]
    more: dict[str, Sequence[Any]] = {METHODS: of_methods, RESULTS: of_results}
    return [
        {title: [*pages, *more[title]] if title in more else pages for title, pages in part.items()}
        for part in navigation
    ]
