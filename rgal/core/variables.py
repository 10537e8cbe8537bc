"""Settings of a process that are read from its environment."""

from __future__ import annotations

import os

from rgal.core.errors import UserError


def seconds_of(variable: str, default: float, least: float) -> float:
    """Return the seconds that a variable of the environment says, or the default where it is not set.

    Args:
        variable: its name.
        default: seconds.
        least: the fewest that are allowed.

    Raises:
        UserError: the variable holds something else than a number from `least` on.
    """
    text = os.environ.get(variable)
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not least <= seconds < float("inf"):
        raise UserError(f"{variable}={text[:40]!r}: expected seconds, {least:g} or more")
    return seconds
