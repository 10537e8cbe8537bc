"""Names that are safe as file names, and files that are whole or absent."""

from __future__ import annotations

import os
import re
from pathlib import Path


def slug(text: str) -> str:
    """Lower case, and every run of other characters than letters, digits, `_` and `.` becomes one `-`.

    Never starts with a dot or holds a separator: a setting is a user's text, and it becomes a file name.
    """
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-.") or "unnamed"


def write_atomically(path: Path, content: bytes) -> Path:
    """Write beside `path`, flush, rename: a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
