"""Names that are safe as file names, and files that are whole or absent."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def slug(text: str) -> str:
    """Lower case, and every run of other characters than letters, digits, `_` and `.` becomes one `-`.

    Never starts with a dot or holds a separator: a setting is a user's text, and it becomes a file name.
    """
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-.") or "unnamed"


def code_hash(*modules: str) -> str:
    """12 hex digits over the code of imported modules, in which comments and layout do not count. "" without source."""
    sources = []
    for name in dict.fromkeys(modules):
        try:
            sources.append(ast.unparse(ast.parse(inspect.getsource(sys.modules[name]))))
        except (KeyError, OSError, TypeError, SyntaxError):
            continue
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()[:12] if sources else ""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path` to write to, which becomes `path` at the end of the block, flushed to the disk: a reader
    sees the old file or the new one, never half of it. An exception in the block leaves the old one.

    The folder must exist: a mistyped one is an OSError, not a new folder.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp made it 0600
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file as a whole; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path
