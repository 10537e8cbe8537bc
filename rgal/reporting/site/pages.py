"""All pages of the site that are no file of docs/."""

from __future__ import annotations

from pathlib import Path

from rgal.reporting.site.links import for_the_site
from rgal.reporting.site.notebook import page_of_notebook


def text_of_file(path: Path) -> str:
    """Return a page or a notebook of the repository as a page of the site."""
    text = page_of_notebook(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    return for_the_site(text, path)


def made_pages() -> dict[str, str]:
    """Make the pages, by their place in the site."""
    return {}
