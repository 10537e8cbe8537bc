"""Who renders: of several runners that end together, one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rgal.core.errors import UserError
from rgal.suite.store.claims import LOOK_SECONDS, Claim, ClaimLost, Claims, Seen, lapse_seconds

NAME = "report"


@contextmanager
def rendering(root: Path, title: str) -> Iterator[bool]:
    """Hold the right to write tables, figures and the page of a results directory during the block.

    Yields:
        Whether they are to be written. False: another process has written the same, and began when all results that
        this one knows of were there.

    Args:
        root: the results directory.
        title: what is rendered; who renders under the same title writes the same.

    Raises:
        UserError: the directory cannot be written, or the right was lost because this process had been frozen.
    """
    if not (root / "trials").is_dir():  # whoever renders will say so
        yield True
        return
    try:
        claim = _wait(Claims(root), title)
    except OSError as error:
        raise UserError(
            f"results directory {root}: cannot write tables and plots ({error.strerror or error})"
        ) from error
    if claim is None:
        yield False
        return
    try:
        with claim.kept():
            yield True
    except ClaimLost as lost:
        raise UserError(
            f"results directory {root}: tables and plots are written by another process, because this one gave no "
            f"sign of life for {lapse_seconds():g} s"
        ) from lost


def _wait(claims: Claims, title: str) -> Claim | None:
    """Claim the right to render, or wait until another process has rendered the same since this was called."""
    first = claims.look().get(NAME, Seen()).owner
    same_began = False
    while True:
        seen = claims.look().get(NAME, Seen())
        if seen.number == 0 and same_began:
            return None
        if claims.is_free(NAME, seen) and (claim := claims.acquire(NAME, seen, title)):
            return claim
        owner = seen.owner
        if owner and owner.title == title and (first is None or owner.token != first.token):
            same_began = True
        elif seen.number:
            same_began = False
        time.sleep(LOOK_SECONDS)
