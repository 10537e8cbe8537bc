"""Which plots need not be drawn again: those whose numbers, code and files are what they were.

`.drawn.json` beside the plots holds, for each group, a hash of all that its figures are made of and one of each file.
Without it, or where anything in it is odd, everything is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, TypeAdapter

from rgal import reporting
from rgal.analysis import drawing
from rgal.core.files import write_atomically

NAME = ".drawn.json"


class Drawn(BaseModel):
    """The files of one group, by name, and the fingerprint of what they were drawn from."""

    inputs: str
    files: dict[Annotated[str, Field(pattern=r"^[^/\\]+$")], str]

    @classmethod
    def of(cls, inputs: str, paths: Iterable[Path]) -> Drawn:
        """Remember files that were just drawn."""
        return cls(inputs=inputs, files={path.name: _file_hash(path) for path in paths})

    def untouched(self, folder: Path, inputs: str) -> list[Path]:
        """Return the files in a folder if all of them are as they were drawn from the same inputs; else none."""
        whole = all(_file_hash(folder / name) == digest for name, digest in self.files.items())
        return [folder / name for name in self.files] if whole and self.inputs == inputs else []


GROUPS = TypeAdapter(dict[str, Drawn])  # by the stem of the group


def fingerprint(frames: Iterable[pd.DataFrame], styles: Mapping[str, object]) -> str:
    """Hash the frames that a group is drawn from, how its methods look, and the code that draws them."""
    digest = hashlib.sha256(_code().encode())
    for frame in frames:
        digest.update(frame.to_csv(index=False).encode("utf-8", "surrogatepass"))
    digest.update(repr(sorted(styles.items())).encode())
    return digest.hexdigest()


def read_drawn(folder: Path) -> dict[str, Drawn]:
    """Read what was drawn in a folder; empty where that is unknown."""
    try:
        return GROUPS.validate_json((folder / NAME).read_bytes())
    except (OSError, ValueError):
        return {}


def write_drawn(folder: Path, groups: dict[str, Drawn]) -> None:
    """Write what was drawn in a folder."""
    write_atomically(folder / NAME, GROUPS.dump_json(groups, indent=1) + b"\n")


def _file_hash(path: Path) -> str:
    """Return a hash of a file's content; "" if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def sources() -> list[Path]:
    """Return the files whose code decides what a figure looks like: any of reporting may, and the settings."""
    return [Path(drawing.__file__), *sorted(Path(reporting.__path__[0]).rglob("*.py"))]


@cache
def _code() -> str:
    """Hash the code that draws, beside the versions of what it draws with."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.read_bytes())
    return f"{digest.hexdigest()} {matplotlib.__version__} {np.__version__} {pd.__version__}"
