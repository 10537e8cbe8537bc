"""Errors a person can cause, and how they are phrased."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave is wrong. One line: what, where, what is valid. Exit code 2."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """`did you mean 'x'? valid: a, b, c`: the part of a message that helps with a wrong name."""
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}valid: {', '.join(options)}"
