"""The site's settings and pages, without mkdocs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from rgal import cli
from rgal.reporting.site.links import DOCS, files_outside, for_the_site, place_of
from rgal.reporting.site.pages import made_pages, text_of_file
from tests.helpers.documents import ROOT


def settings() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def pages_in(nav: Any) -> Iterator[str]:
    """The pages that a navigation names."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages_in(part)


@cache
def pages() -> dict[str, str]:
    """All pages of the site by their place. Every method, suite and kept record goes into them: seconds."""
    of_files = [path for path in files_outside() if path.suffix in (".md", ".ipynb")]
    own = {place_of(path): for_the_site(path.read_text("utf-8"), path) for path in DOCS.rglob("*.md")}
    return (
        own
        | {place_of(path): text_of_file(path) for path in of_files}
        | made_pages(cli.parser().format_help())
    )
