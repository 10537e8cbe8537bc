"""Finds methods and turns what a user writes into a Recipe.

A method is a file in `baselines/`, or a plug-in (`rgal.methods.plugins`), with a decorated function that returns a
Recipe. On the command line it is `name`, `name[param=value,...]`, and either of them
`+rgal` or `+rgal[param=value,...]`.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from rgal.core.errors import UserError, nearest
from rgal.core.files import code_hash
from rgal.methods.recipe import INCREMENTAL, Recipe, plus_rgal, replaying

_METHODS: dict[str, Method] = {}
_POSITIVE = ("lr", "temperature")  # what parameters with such names, or such ends of their names, must be
_PART = re.compile(r"^([a-z][a-z0-9_]*)(?:\[(.*)\])?$")


@dataclass(frozen=True)
class Method:
    """A registered method: its recipe function, where it was published, the tasks and the module it is for and in."""

    name: str
    recipe: Callable[..., Recipe]
    reference: str
    tasks: tuple[str, ...]
    module: str

    @property
    def code(self) -> str:
        """A hash of the code it was written in: results of a method are not those of an edited one."""
        return code_hash(self.module, self.recipe.__module__)


@dataclass(frozen=True)
class Resolved:
    """A method as a user named it. `name` is canonical: parameters in declaration order, defaults left out."""

    name: str
    recipe: Recipe
    method: Method


def method(
    name: str, reference: str, tasks: tuple[str, ...] = ("kd",)
) -> Callable[[Callable[..., Recipe]], Callable[..., Recipe]]:
    """Register the decorated function, whose keyword arguments with defaults are the method's parameters."""
    module = sys._getframe(1).f_globals[
        "__name__"
    ]  # the file that says so; a composed function is from another

    def register(function: Callable[..., Recipe]) -> Callable[..., Recipe]:
        if name in _METHODS and _METHODS[name].module != module:
            raise ValueError(f"a method '{name}' exists already, in {_METHODS[name].module}")
        _METHODS[name] = Method(name, function, reference, tasks, module)
        return function

    return register


def compose(host: Callable[..., Recipe], plugin: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """The recipe function plugin(host()), with the parameters of both."""
    own = parameters(host)

    def composed(**values: Any) -> Recipe:
        recipe = host(**{key: value for key, value in values.items() if key in own})
        return plugin(recipe, **{key: value for key, value in values.items() if key not in own})

    both = {**own, **parameters(plugin)}
    composed.__module__ = host.__module__  # the file whose numbers these are
    composed.__annotations__ = {key: hint for key, (hint, _) in both.items()}
    composed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=d) for k, (_, d) in both.items()]
    )
    return composed


def methods() -> Mapping[str, Method]:
    """All methods, by name. Every module in the package `baselines` is imported; its presence is its registration.
    Plug-ins are there once they are loaded."""
    package = importlib.import_module("rgal.baselines")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"rgal.baselines.{module.name}")
    return dict(sorted(_METHODS.items()))


def resolve(
    text: str, tuned: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> Resolved:
    """`cmi[adv=1.0]+rgal[follows=code]` -> Resolved. UserError: unknown name or parameter, bad value.

    tuned: parameters of the host that a suite sets for its data set; what the text gives goes before them. defaults:
    what parameters of host and plug-in are on a task, where that differs from their functions' defaults. Both are
    settings of the suite, not part of the name.
    """
    host, *plugins = text.strip().split("+")
    known = methods()
    name, given = _split(host, text)
    if name not in known:
        raise UserError(f"unknown method '{name}'; {nearest(name, known)}")
    chosen = known[name]
    values = _values(chosen.recipe, name, given)
    suite = _values(chosen.recipe, name, {key: _text(value) for key, value in (tuned or {}).items()})
    suite = _known(chosen.recipe, defaults) | suite
    recipe = _call(chosen.recipe, name, {**suite, **values})
    canonical = _canonical(name, chosen.recipe, values, suite)
    for position, plugin in enumerate(plugins):
        plugin_name, plugin_given = _split(plugin, text)
        if plugin_name != "rgal":
            raise UserError(f"unknown plug-in '+{plugin_name}' in '{text}'; valid: +rgal")
        if position or any(w.name in ("spread", "gather") for w in (*recipe.synthesis, *recipe.transfer)):
            raise UserError(f"'{text}' would add RGAL to a method that already has it; write '{name}'")
        values = _values(plus_rgal, "+rgal", plugin_given)
        task = _known(plus_rgal, defaults)
        recipe = _call(plus_rgal, "+rgal", {**task, **values}, recipe)
        canonical += "+" + _canonical("rgal", plus_rgal, values, task)
    return Resolved(canonical, recipe, chosen)


def from_source(source: str, host: Recipe) -> Recipe:
    """A learner on the images of the method called `source`, "" for its own. ValueError if that one makes none."""
    if not source:
        return host
    try:
        return replaying(host, resolve(source, None, INCREMENTAL).recipe)
    except ValueError as error:
        raise ValueError(f"source={source}: {error}") from error


def _known(function: Callable[..., Recipe], defaults: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (defaults or {}).items() if key in parameters(function)}


def parameters(function: Callable[..., Recipe]) -> dict[str, tuple[type | Any, Any]]:
    """Name -> (annotated type, default) of a recipe function's parameters."""
    hints = get_type_hints(function)
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            found[name] = (hints[name], parameter.default)
    return found


def _split(part: str, text: str) -> tuple[str, dict[str, str]]:
    match = _PART.match(part.strip())
    if not match:
        raise UserError(f"cannot read method '{text}'; expected name, name[param=value,...] or name+rgal")
    given: dict[str, str] = {}
    for item in filter(None, (match[2] or "").split(",")):
        key, equals, value = item.partition("=")
        if not equals or not value.strip():
            raise UserError(f"cannot read '{item.strip()}' in method '{text}'; expected param=value")
        if key.strip() in given:
            raise UserError(f"parameter '{key.strip()}' is given twice in '{text}'")
        given[key.strip()] = value.strip()
    return match[1], given


def _values(function: Callable[..., Recipe], name: str, given: Mapping[str, str]) -> dict[str, Any]:
    known = parameters(function)
    for key in given:
        if key not in known:
            raise UserError(f"method '{name}' has no parameter '{key}'; {nearest(key, known)}")
    values = {key: _convert(text, known[key][0], f"{name}[{key}={text}]") for key, text in given.items()}
    for key, value in values.items():
        if key.endswith(_POSITIVE) and isinstance(value, (int, float)) and value <= 0:
            raise UserError(f"{name}[{key}={given[key]}]: expected a number above 0")
    return values


def _convert(text: str, hint: Any, where: str) -> Any:
    """Text to the annotated type: bool, int, float, str, a Literal, or one of them | None."""
    choices = get_args(hint)
    if get_origin(hint) is not None and all(isinstance(choice, str) for choice in choices):
        if text not in choices:
            raise UserError(f"{where}: {nearest(text, choices)}")
        return text
    kinds = [kind for kind in (choices or (hint,)) if kind is not type(None)]
    if len(kinds) < len(choices) and text == "none":
        return None
    kind = kinds[0]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        value = kind(text)
    except (ValueError, KeyError) as error:
        expected = "true or false" if kind is bool else kind.__name__
        raise UserError(f"{where}: expected {expected}, found '{text}'") from error
    if kind is float and not math.isfinite(value):
        raise UserError(f"{where}: expected a finite number, found '{text}'")
    return value


def _call(function: Callable[..., Recipe], name: str, values: dict[str, Any], *args: Recipe) -> Recipe:
    try:
        return function(*args, **values)
    except (ValueError, KeyError) as error:
        raise UserError(f"method '{name}': {error}") from error


def _canonical(
    name: str, function: Callable[..., Recipe], values: Mapping[str, Any], suite: Mapping[str, Any]
) -> str:
    """The name with what differs from what a bare name would mean in this suite."""
    changed = {
        key: values[key]
        for key, (_, default) in parameters(function).items()
        if key in values and values[key] != suite.get(key, default)
    }
    if not changed:
        return name
    return f"{name}[{','.join(f'{key}={_text(value)}' for key, value in changed.items())}]"


def _text(value: Any) -> str:
    if isinstance(value, float) and value == float(f"{value:g}"):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
