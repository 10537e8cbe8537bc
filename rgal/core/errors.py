"""Errors that a user can cause, and the words in which they are told."""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

LONGEST = 290  # characters of a message: with what is printed before it, a line has at most 300


class UserError(Exception):
    """Report something wrong with what the user gave, in one line: what, where, and what is valid. Exit code 2.

    Whatever a message quotes, it is one printable line: see `brief`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(brief(message))


def brief(text: str, longest: int = LONGEST) -> str:
    """Return a text as one printable line; of a longer one the middle is left out.

    >>> brief("seeds: found [1,\\n2]"), brief("seeds: expected a whole number, found " + "9" * 50, 42)
    ('seeds: found [1, 2]', 'seeds: expected a whole n … 99999999999999')
    """
    line = printable(text)
    if len(line) <= longest:
        return line
    last = longest // 3
    return f"{line[: longest - last - 3]} … {line[-last:]}"


def printable(text: str) -> str:
    """Return the text on one line: other white space becomes a space; control characters and halves of surrogate
    pairs, which no file can hold, become U+FFFD.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Suggest the closest valid name and list them all, for a message about a name that is not valid.

    >>> nearest("cmj", ["fast", "cmi", "dafl"])
    "did you mean 'cmi'? valid: cmi, dafl, fast"
    >>> nearest("zzz", ["fast", "cmi"])
    'valid: cmi, fast'
    """
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}valid: {', '.join(options)}"


def in_short(error: BaseException) -> str:
    """Return an error's type and the first line of its message.

    >>> in_short(KeyError("width"))
    "KeyError: 'width'"
    """
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or "no message".

    >>> first_line(ValueError("too wide\\nby 3 pixels"))
    'too wide'
    """
    return str(error).splitlines()[0] if str(error) else "no message"


def in_one_line(error: BaseException) -> str:
    """Describe an error that code from outside raised, with the place in that code if there is one.

    For example `KeyError: 'width' (my_nets.py, line 7)`. Lines of rgal, of installed packages and of Python itself are
    not shown: the user cannot mend them.
    """
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        text, frames = error.msg, [(error.filename or "", error.lineno)]
    theirs = [(file, line) for file, line in frames if not file.startswith("<") and _is_users(file)]
    where = f" ({Path(theirs[-1][0]).name}, line {theirs[-1][1]})" if theirs else ""
    return f"{type(error).__name__}: {text}{where}"


def _is_users(file: str) -> bool:
    """Whether a user may have written the file: anything but Python, installed packages and rgal's own rooms."""
    home, path = Path(__file__).parents[1], Path(file)
    if path.is_relative_to(home) and not path.is_relative_to(home / "baselines"):  # where users put methods
        return False
    return not file.startswith(sysconfig.get_path("stdlib")) and "site-packages" not in path.parts
