"""Errors a person can cause, and how they are phrased."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Something the user gave is wrong. One line: what, where, what is valid. Exit code 2."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """`did you mean 'x'? valid: a, b, c`: the part of a message that helps with a wrong name."""
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}valid: {', '.join(options)}"


def in_short(error: BaseException) -> str:
    """`KeyError: 'width'`: an error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else "no message"


def in_one_line(error: BaseException) -> str:
    """`KeyError: 'width' (my_nets.py, line 7)`: an error of somebody else's code, with the place in it that is in no
    installed package."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        text, frames = error.msg, [(error.filename or "", error.lineno)]
    home = str(Path(__file__).parent)
    theirs = [(file, line) for file, line in frames if not file.startswith((home, "<")) and _is_users(file)]
    where = f" ({Path(theirs[-1][0]).name}, line {theirs[-1][1]})" if theirs else ""
    return f"{type(error).__name__}: {text}{where}"


def _is_users(file: str) -> bool:
    return not file.startswith(sysconfig.get_path("stdlib")) and "site-packages" not in Path(file).parts
