"""Names that are safe as file names, a hash of code, and files that are either complete or absent."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_CHECK: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)


def slug(text: str) -> str:
    """Turn any text into a safe file name: lower case, other characters than letters, digits, `_` and `.` become `-`.

    The result never starts with a dot and holds no path separator, because the text may be a user's.

    >>> slug("fast[k=10] + RGAL")
    'fast-k-10-rgal'
    >>> slug("../../etc")
    'etc'
    """
    return re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-.") or "unnamed"


@contextmanager
def writing_only_if(check: Callable[[], None]) -> Iterator[None]:
    """Let this thread write files inside the block only if `check`, which is called before each, raises nothing."""
    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


def check_may_write() -> None:
    """Raise what the `check` of the block raises that this is called in: nothing where there is none."""
    check = _CHECK.get()
    if check is not None:
        check()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a temporary file to write to, which takes the place of `path` at the end of the block.

    The content is flushed to disk first, so that a reader sees the old file or the complete new one. After an
    exception in the block the old file is still there. Both before anything is written and before the old file goes it
    is checked that this process may still write; see `writing_only_if`.

    Raises:
        OSError: the folder does not exist; it is not created, because its name may be mistyped.
    """
    check_may_write()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp made it 0600
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        check_may_write()
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file so that readers see the old content or all of the new one; see `replacing`. Returns `path`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path
