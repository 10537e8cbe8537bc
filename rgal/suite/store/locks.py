"""Locks on folders of the store: at most one process writes to each."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rgal.core.errors import UserError

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


class Busy(UserError):
    """Another process holds the lock."""


@contextmanager
def locked(folder: Path, what: str, busy: str, advice: str = "", wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder during a `with` block. The lock of a process that died is gone with it.

    Args:
        folder: an existing folder; `.lock` and `.lock-owner` in it are ours.
        what: what the folder is, for messages: "results directory".
        busy: what holds the lock if it is taken, for the message.
        advice: what the user can do then, for the message.
        wait_seconds: how long to wait for the lock.

    Raises:
        Busy: another process holds the lock; its number is named.
        UserError: the folder's file system has no locks, or the lock file cannot be opened.
    """
    owner = folder / ".lock-owner"  # a file of its own: whoever tries a lock may empty the lock's
    advice = f"; {advice}" if advice else ""
    # Not a lock that only looks for a file: it would outlive a killed process.
    lock = FileLock(folder / ".lock", timeout=wait_seconds, poll_interval=0.1, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(f"{what} {folder}: {busy} (process {_number_in(owner)}){advice}") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = (
            f"its file system has no locks ({reason}), and without them two runs could spoil each other's files"
            if error.errno in WITHOUT_LOCKS
            else f"its lock file .lock cannot be used ({reason})"
        )
        raise UserError(f"{what} {folder}: {problem}; choose another with --results") from error
    try:
        with suppress(OSError):  # it is only for the message of others
            owner.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            owner.unlink()
        lock.release()


def _number_in(owner: Path) -> str:
    try:
        return owner.read_text(encoding="utf-8").strip() or "unknown"
    except (OSError, UnicodeDecodeError):
        return "unknown"
