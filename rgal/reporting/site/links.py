"""Where the repository's files are in the site, and links between them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
HOME = "README.md"
NOTEBOOKS = "tutorials"
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def place_of(path: Path) -> str:
    """Return where a file of the repository is in the site: docs/ is its top, the README its home page.

    >>> place_of(DOCS / "python.md"), place_of(ROOT / "README.md"), place_of(ROOT / "CHANGELOG.md")
    ('python.md', 'index.md', 'repository/CHANGELOG.md')
    """
    inside = path.relative_to(ROOT)
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    if inside.as_posix() == HOME:
        return "index.md"
    if path.suffix == ".ipynb":
        return f"{NOTEBOOKS}/{path.stem}.md"
    return f"repository/{inside.as_posix()}"


def linked_files(path: Path) -> list[Path]:
    """List the files of the repository that a page links to."""
    found: list[Path] = []

    def note(target: Path) -> str:
        found.append(target)
        return ""

    _each_link(path.read_text(encoding="utf-8"), path, note)
    return [page for target in found if (page := _file(target)).is_file()]


def for_the_site(text: str, path: Path) -> str:
    """Rewrite the links of a page of the repository to where the files are in the site.

    A link to a folder leads to its README; one without, which the site has no page of, becomes its text alone.

    Args:
        text: Markdown.
        path: the file of the repository that it is the text of.
    """
    here = PurePosixPath(place_of(path)).parent

    def place(target: Path) -> str:
        page = _file(target)
        return os.path.relpath(place_of(page), here) if page.is_file() else ""

    return _each_link(text, path, place)


def _file(target: Path) -> Path:
    """Return the README of a folder, and any other target as it is."""
    return target / HOME if target.is_dir() else target


def _each_link(text: str, path: Path, place: Callable[[Path], str]) -> str:
    """Put what `place` makes of every relative link to something that exists in its place; code stays as it is."""

    def replaced(match: re.Match[str]) -> str:
        picture, label, to, anchor = match.groups()
        if not to or re.match(r"\w+:", to) or not (target := (path.parent / to).resolve()).exists():
            return match.group()
        new = place(target)
        return f"{picture}[{label}]({new}{anchor or ''})" if new else str(label)

    lines, fenced = [], False
    for line in text.split("\n"):
        fenced ^= line.lstrip().startswith("```")
        code = fenced or line.startswith("    ")
        lines.append(line if code else _LINK.sub(replaced, line))
    return "\n".join(lines)


def files_outside() -> list[Path]:
    """List the files outside docs/ that the site needs: the README, and what pages link to, directly or not."""
    waiting = [ROOT / HOME, *sorted(DOCS.rglob("*.md"))]
    seen = dict.fromkeys(waiting)
    while waiting:
        page = waiting.pop()
        for target in linked_files(page) if page.suffix == ".md" else ():
            if target not in seen:
                seen[target] = None
                waiting.append(target)
    return [path for path in seen if not path.is_relative_to(DOCS)]
