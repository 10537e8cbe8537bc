"""Which plots need not be drawn again: those whose numbers, code and files are what they were.

`.drawn.json` beside the plots holds, for each group, a hash of all that its figures are made of and one of each file.
Without it, or where anything in it is odd, everything is drawn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from rgal.analysis import drawing
from rgal.core.files import write_atomically

NAME = ".drawn.json"


def fingerprint(frames: Iterable[pd.DataFrame], styles: Mapping[str, Any]) -> str:
    """A hash of the frames that a group is drawn from, of how its methods look, and of the code that draws them."""
    digest = hashlib.sha256(_code().encode())
    for frame in frames:
        digest.update(_bytes(frame))
    digest.update(repr(sorted(styles.items())).encode())
    return digest.hexdigest()


def read_drawn(folder: Path) -> dict[str, Any]:
    """What was drawn, by the stem of its group; empty where that is unknown."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def kept(folder: Path, entry: Any, inputs: str) -> list[Path]:
    """The plots of a group that was drawn from the same `inputs`, if all of them are untouched; else none."""
    files = entry.get("files") if isinstance(entry, dict) and entry.get("inputs") == inputs else None
    if not isinstance(files, dict) or any(Path(name).name != name for name in files):
        return []
    whole = all(known and _file_hash(folder / name) == known for name, known in files.items())
    return [folder / name for name in files] if whole else []


def entry_of(inputs: str, paths: Iterable[Path]) -> dict[str, Any]:
    """What is remembered of a group that was just drawn."""
    return {"inputs": inputs, "files": {path.name: _file_hash(path) for path in paths}}


def write_drawn(folder: Path, drawn: Mapping[str, Any]) -> None:
    write_atomically(folder / NAME, (json.dumps(drawn, indent=1) + "\n").encode())


def _bytes(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode("utf-8", "surrogatepass")


def _file_hash(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


@cache
def _code() -> str:
    """The modules that draw, and the versions of what they draw with."""
    digest = hashlib.sha256()
    for path in (Path(drawing.__file__), *sorted(Path(__file__).parent.glob("*.py"))):
        digest.update(path.read_bytes())
    return f"{digest.hexdigest()} {matplotlib.__version__} {np.__version__} {pd.__version__}"
