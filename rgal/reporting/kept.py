"""What was rendered of each group, kept so that it is made again only when what it was made of has changed.

`.rendered/` in the results directory has a file for each group. A group is made again unless the hash of its trials'
files, of the code and of the libraries is the same, and every file that was written for it is as it was left. Without
the folder, or where anything in it is odd, everything is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

import rgal
from rgal import benchmarks
from rgal.core.files import write_atomically
from rgal.reporting.page.model import Section
from rgal.reporting.tables.brief import Brief
from rgal.suite.store.index import Entry
from rgal.suite.task import measures_of, tasks

FOLDER = ".rendered"
LIBRARIES = ("numpy", "pandas", "matplotlib", "pillow", "scipy", "tabulate", "jinja2")
SOURCES = ("reporting", "suite", "analysis", "methods")  # rooms whose code may change what is rendered
SUFFIXES = (".py", ".j2", ".css", ".js")
# File's name -> hash of its content.
Files = dict[Annotated[str, Field(pattern=r"^[^/\\]+$")], str]


@dataclass(frozen=True)
class Kept:
    """What was rendered of a group, and the hash of what it was made of.

    Attributes:
        inputs: that hash.
        task: of its trials.
        tables, plots, samples: its files in tables/ and plots/, in their order.
        section: its part of the page.
        briefs: what a terminal shows of its tables.
        charts: what the page draws, as `rgal.reporting.page.charts` makes them.
        trials: what the page says of each trial, as `rgal.reporting.page.trials` describes them; {} of an overview.
    """

    inputs: str
    task: str
    tables: Files
    plots: Files
    samples: Files
    section: Section
    briefs: list[Brief]
    charts: list[dict[str, Any]]
    trials: dict[str, Any]

    def untouched(self, root: Path) -> bool:
        """Tell whether all files are as they were written."""
        places = (("tables", self.tables), ("plots", self.plots), ("plots", self.samples))
        return all(
            file_hash(root / folder / name) == digest
            for folder, files in places
            for name, digest in files.items()
        )


KEPT = TypeAdapter(Kept)


class Shelf:
    """What a results directory has kept."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / FOLDER

    def take(self, stem: str, inputs: str) -> Kept | None:
        """Return what is kept of a group, if that is what it would be made to be again."""
        with suppress(OSError, ValueError, RecursionError):
            kept = KEPT.validate_json(self._file(stem).read_bytes())
            if kept.inputs == inputs and kept.untouched(self.root):
                return kept
        return None

    def put(self, stem: str, kept: Kept) -> None:
        """Keep what was made of a group."""
        self.folder.mkdir(exist_ok=True)
        write_atomically(self._file(stem), KEPT.dump_json(kept))

    def keep_only(self, stems: Iterable[str]) -> None:
        """Forget the groups that are no more."""
        names = {self._file(stem).name for stem in stems}
        for path in self.folder.glob("*.json"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _file(self, stem: str) -> Path:
        return self.folder / f"{hashlib.sha256(stem.encode()).hexdigest()[:20]}.json"


def inputs_of(stem: str, entries: Sequence[Entry]) -> str:
    """Hash all that a group is made of: its trials' files, the code, the libraries, and what the tasks declare."""
    declared = {
        name: (task.summary, task.real_data, measures_of(name)) for name, task in sorted(tasks().items())
    }
    digest = hashlib.sha256(_code() + repr((stem, declared)).encode())
    for entry in entries:
        digest.update(f"{entry.record.folder.name} {entry.digest}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return a hash of a file's content; "" if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def hashed(paths: Iterable[Path]) -> Files:
    """Return the names of files, with hashes of their contents."""
    return {path.name: file_hash(path) for path in paths}


@cache
def _code() -> bytes:
    digest = hashlib.sha256(repr([(name, version(name)) for name in LIBRARIES]).encode())
    home, published = Path(rgal.__file__).parent, Path(benchmarks.__file__).parent / "reference"
    paths = [path for room in SOURCES for path in (home / room).rglob("*") if path.suffix in SUFFIXES]
    for path in (*sorted(paths), *sorted(published.glob("*.yaml"))):
        digest.update(path.read_bytes())
    return digest.digest()
