"""The site: every page is in its navigation, links lead somewhere, nothing is loaded from a server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rgal.reporting.site.links import DOCS, files_outside, for_the_site, place_of
from rgal.reporting.site.loads import loads_from_elsewhere, loads_own
from rgal.reporting.site.pages import completed
from rgal.reporting.site.reference import public_names
from tests.helpers.documents import ROOT
from tests.helpers.site import pages, pages_in, settings


def test_the_navigation_names_every_page() -> None:
    assert sorted(pages_in(completed(settings()["nav"]))) == sorted(pages())


def test_links_of_the_site_lead_to_its_files() -> None:
    files = {place_of(path) for path in [*files_outside(), *DOCS.rglob("*")]} | set(pages())
    links = [(place, link) for place, text in pages().items() for link in re.findall(r"\]\(([^)\s#]+)", text)]
    inside = [(place, link) for place, link in links if not re.match(r"\w+:", link)]
    dead = [
        (place, link)
        for place, link in inside
        if (DOCS / place).parent.joinpath(link).resolve().relative_to(DOCS).as_posix() not in files
    ]
    assert len(inside) > 50 and not dead, dead


def test_a_link_out_of_docs_leads_to_the_copy_in_the_site() -> None:
    text = (
        "[a](../CHANGELOG.md#unreleased) ![b](../docs/images/idea.png) "
        "[c](../results/reference) [d](https://e.org) [e](../tests)"
    )
    assert for_the_site(text, DOCS / "python.md") == (
        "[a](repository/CHANGELOG.md#unreleased) ![b](images/idea.png) "
        "[c](repository/results/reference/README.md) [d](https://e.org) e"
    )
    code = "```python\nnets[0](images)\n```\n\n    nets[0](images)"
    assert for_the_site(code, DOCS / "python.md") == code


def test_what_a_page_loads_is_told_from_what_it_links_to() -> None:
    page = '<link href="https://a.org/a.css"><img srcset="b.png"><a href="https://c.org">c</a><iframe src="//d.org">'
    assert loads_from_elsewhere(page) == ["https://a.org/a.css", "//d.org"]
    shim = '<script src="https://unpkg.com/iframe-worker/shim"></script>'
    assert loads_own(shim, "a/b/index.html") == '<script src="../../assets/worker.js"></script>'


def test_styles_and_scripts_of_ours_load_nothing() -> None:
    own = "".join(path.read_text("utf-8") for path in (DOCS / "assets").iterdir())
    assert "http" not in own and settings()["theme"]["font"] is False and settings()["strict"]


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    """Strictly: a dead link, a lost anchor, a page that no navigation names or that loads from a server is an error."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = (tmp_path / "site" / "reference" / "python.html").read_text("utf-8")
    assert not [name for name in public_names() if f'id="{name}"' not in shown]
