"""The one grammar of methods' names: `NAME[param=value,...]+rgal[param=value,...]`, read and written here only.

    name    = host ["[" parameters "]"] ["+rgal" ["[" parameters "]"]]
    host    = a lower-case letter, then lower-case letters, digits and "_"
    parameters = key "=" value, separated by ","; no key twice

A value is any text whose brackets are balanced; inside them "," and "+" are part of it, so that a value may be a name
itself: `abd[source=cmi[bn=2,adv=1]+rgal]`.

Names are text: nothing here looks up a method, so that a store is reported without the methods it was made with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from rgal.core.errors import UserError

RGAL = "rgal"
PLAIN = "plain"  # `rgal` is plain+rgal

Parameters = tuple[tuple[str, str], ...]  # (key, value) as they are written, in their order

_PART = re.compile(r"([a-z][a-z0-9_]*)(?:\[(.*)\])?", flags=re.DOTALL)
_KEY = re.compile(r"[A-Za-z_]\w*")
# What tables add to a method's name.
_POOL = re.compile(r"(.*?)((?: \((?:pool|cal) [0-9a-f]+\))*)", flags=re.DOTALL)


@dataclass(frozen=True)
class MethodName:
    """A method's name, taken apart. `str` puts it together again, and `parse` reads what `str` writes.

    host: the registered method. parameters: those in its brackets.
    plugin: parameters in the brackets of `+rgal`; None: without the plug-in.

    >>> name = MethodName.parse("fast[k=10]+rgal[spread=0.2]")
    >>> name.host, name.parameters, name.plugin
    ('fast', (('k', '10'),), (('spread', '0.2'),))
    >>> str(name)
    'fast[k=10]+rgal[spread=0.2]'
    """

    host: str
    parameters: Parameters = ()
    plugin: Parameters | None = None

    @classmethod
    def parse(cls, text: str) -> MethodName:
        """Read a name.

        Raises:
            UserError: it is none, gives a parameter twice, or has another plug-in than one `+rgal`.
        """
        host, *plugins = _split_outside_brackets(text, "+", text)
        name = cls(*_parse_part(host, text))
        if not plugins:
            return name
        plugin, parameters = _parse_part(plugins[0], text)
        if plugin != RGAL:
            raise UserError(f"unknown plug-in '+{plugin}' in '{text}'; valid: +rgal")
        if len(plugins) > 1:
            raise UserError(f"'{text}' would add RGAL to a method that already has it; write it once")
        return replace(name, plugin=parameters)

    def __str__(self) -> str:
        plugin = "" if self.plugin is None else f"+{RGAL}{_in_brackets(self.plugin)}"
        return f"{self.host}{_in_brackets(self.parameters)}{plugin}"

    @property
    def without_plugin(self) -> MethodName:
        return replace(self, plugin=None)

    @property
    def uses_rgal(self) -> bool:
        """Whether RGAL is anywhere in the method: itself, as the plug-in, or in a value, such as `source=rgal`."""
        values = [value for _, value in (*self.parameters, *(self.plugin or ()))]
        return self.host == RGAL or self.plugin is not None or any(map(uses_rgal, values))

    def covers(self, other: MethodName) -> bool:
        """Whether `other` is this method or a special case of it.

        That is so if both have one host, and all parameters of this name are among those of the other, with equal
        values. If this name has the plug-in, the other must have it too, with this one's parameters among its own.

        >>> fast = MethodName.parse("fast[k=10]")
        >>> fast.covers(MethodName.parse("fast[bn=5,k=10.0]+rgal")), fast.covers(MethodName.parse("fast[bn=5]"))
        (True, False)
        """
        return (
            self.host == other.host
            and _meanings(self.parameters) <= _meanings(other.parameters)
            and (
                self.plugin is None
                or (other.plugin is not None and _meanings(self.plugin) <= _meanings(other.plugin))
            )
        )


def uses_rgal(text: str) -> bool:
    """Whether RGAL is anywhere in the method called `text`; not so if that is no method's name."""
    name, _ = _read(text)
    return name is not None and name.uses_rgal


def host_of(text: str, present: Iterable[str]) -> str:
    """Find the method, among those `present`, to which RGAL was added to give the method `text`.

    The host of `NAME+rgal[...]` is NAME, with equal parameters. The host of `rgal[...]`, whose brackets hold the
    parameters of both parts, is the `plain[...]` that shares most of them and has none of its own. Rows that are given
    images, "NAME (pool 3b8b72)" or "NAME (cal 3b8b72)", have hosts that are given the same ones.

    Returns:
        The host as it is written in `present`, or "" if there is none.
    """
    name, pool = _read(text)
    if name is None:
        return ""
    others = {other: _read(other) for other in present}
    hosts = {other: host for other, (host, own) in others.items() if host is not None and own == pool}
    if name.plugin is not None:
        wanted = name.without_plugin
        return next(
            (other for other, host in hosts.items() if wanted.covers(host) and host.covers(wanted)), ""
        )
    if name.host != RGAL:
        return ""
    as_plain = replace(name, host=PLAIN)
    fitting = {other: host for other, host in hosts.items() if host.plugin is None and host.covers(as_plain)}
    return max(fitting, key=lambda other: len(fitting[other].parameters), default="")


def variants(names: Iterable[str]) -> dict[str, dict[str, dict[float, str]]]:
    """Sort methods by the numbers in their brackets: parameter -> name without it -> value -> name.

    Of two names that say the same, the first counts. Names that cannot be read have no variants.

    >>> variants(["fast[k=1]", "fast[bn=5,k=10]", "fast[k=5]"])["k"]
    {'fast': {1.0: 'fast[k=1]', 5.0: 'fast[k=5]'}, 'fast[bn=5]': {10.0: 'fast[bn=5,k=10]'}}
    """
    found: dict[str, dict[str, dict[float, str]]] = {}
    for text in names:
        name, pool = _read(text)
        for key, value, rest in () if name is None else _without_each(name):
            number = meaning(value)
            if isinstance(number, float):
                found.setdefault(key, {}).setdefault(f"{rest}{pool}", {}).setdefault(number, text)
    return found


def _without_each(name: MethodName) -> Iterator[tuple[str, str, MethodName]]:
    """Yield each parameter of a name with its value and the name without it."""
    for key, value in name.parameters:
        yield key, value, replace(name, parameters=tuple(p for p in name.parameters if p[0] != key))
    for key, value in name.plugin or ():
        yield key, value, replace(name, plugin=tuple(p for p in name.plugin or () if p[0] != key))


def _read(text: str) -> tuple[MethodName | None, str]:
    """A row's method, None if it has no readable name, and what tables add to the name."""
    match = _POOL.fullmatch(text)
    name, pool = match.groups(default="") if match else (text, "")
    try:
        return MethodName.parse(name), pool
    except UserError:
        return None, pool


def _meanings(parameters: Parameters) -> frozenset[tuple[str, object]]:
    return frozenset((key, meaning(value)) for key, value in parameters)


def meaning(value: str) -> object:
    """What a value says, however it is written: `0.20` is 0.2, `FALSE` is `false`, and in names that are values, too.

    >>> meaning("10") == meaning("1e1"), meaning("cmi[bn=2.0]") == meaning("cmi[bn=2]")
    (True, True)
    """
    try:
        number = float(value)
    except ValueError:
        pass
    else:
        return number if math.isfinite(number) else value.lower()
    if value.lower() in ("true", "false", "none"):
        return value.lower()
    name, _ = _read(value)
    if name is None or (not name.parameters and name.plugin is None):
        return value
    return name.host, _meanings(name.parameters), None if name.plugin is None else _meanings(name.plugin)


def _parse_part(part: str, text: str) -> tuple[str, Parameters]:
    """`cmi[adv=1.0]`, a part of the whole `text`, as its name and its parameters."""
    match = _PART.fullmatch(part.strip())
    if match is None:
        raise _unreadable(text)
    given: dict[str, str] = {}
    for item in _split_outside_brackets(match[2] or "", ",", text):
        if not item.strip():
            continue
        key, _, value = (side.strip() for side in item.partition("="))
        if not _KEY.fullmatch(key) or not value:
            raise UserError(f"cannot read '{item.strip()}' in method '{text}'; expected param=value")
        if key in given:
            raise UserError(f"parameter '{key}' is given twice in '{text}'")
        given[key] = value
    return match[1], tuple(given.items())


def _split_outside_brackets(part: str, separator: str, text: str) -> Iterator[str]:
    """Split `part` of the name `text` at the separators that are in no brackets."""
    depth, start = 0, 0
    for position, letter in enumerate(part):
        depth += (letter == "[") - (letter == "]")
        if depth < 0:
            raise _unreadable(text)
        if letter == separator and not depth:
            yield part[start:position]
            start = position + 1
    if depth:
        raise _unreadable(text)
    yield part[start:]


def _unreadable(text: str) -> UserError:
    return UserError(f"cannot read method '{text}'; expected name, name[param=value,...] or name+rgal")


def _in_brackets(parameters: Parameters) -> str:
    return f"[{','.join(f'{key}={value}' for key, value in parameters)}]" if parameters else ""
