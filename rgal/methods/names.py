"""What a method's name says of RGAL: whether it is in it, and which method it was added to.

Names are read as text, so that a store is reported without the methods it was made with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

RGAL = re.compile(r"(?<![A-Za-z0-9_])rgal(?![A-Za-z0-9_])")
PLAIN = "plain"  # `rgal` is plain+rgal


def uses_rgal(name: str) -> bool:
    """Whether RGAL is anywhere in a method: itself, as a plug-in, or as the source of its images."""
    return bool(RGAL.search(name))


def host_of(name: str, present: Iterable[str]) -> str:
    """The one of the methods `present` to which RGAL was added to give `name`; "" where there is none.

    That is the text before the first "+rgal" outside brackets. The host of `rgal[...]`, whose brackets hold the
    parameters of both parts, is the `plain[...]` that shares most of them and has none of its own.
    """
    others = list(dict.fromkeys(present))
    host = _before_plugin(name)
    if host is not None:
        return host if host in others else ""
    kind, given = _parts(name)
    if kind != "rgal":
        return ""
    hosts = [other for other in others if _parts(other)[0] == PLAIN and _parts(other)[1] <= given]
    return max(hosts, key=lambda other: len(_parts(other)[1]), default="")


def _before_plugin(name: str) -> str | None:
    """The host's text in `host+rgal[...]`; None without a plug-in."""
    depth = 0
    for position, letter in enumerate(name):
        depth += (letter == "[") - (letter == "]")
        if depth == 0 and letter == "+" and RGAL.match(name, position + 1):
            return name[:position]
    return None


def _parts(name: str) -> tuple[str, frozenset[str]]:
    """("rgal", {"follows=code"}) of "rgal[follows=code]"; nothing of a name with a plug-in."""
    match = re.fullmatch(r"(\w+)(?:\[(.*)\])?", name)
    if match is None or _before_plugin(name) is not None:
        return "", frozenset()
    return match[1], frozenset(filter(None, (match[2] or "").split(",")))
