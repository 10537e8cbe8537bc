"""Finds methods and turns what a user writes into a Recipe.

A method is a file in `baselines/`, or a plug-in (`rgal.methods.plugins`), with a decorated function that returns a
Recipe. What names it on the command line and in suites is told in `rgal.methods.names`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from rgal.core.code import code_hash
from rgal.core.errors import UserError, nearest
from rgal.core.modules import modules_in
from rgal.methods.names import RGAL, MethodName, Parameters
from rgal.methods.parameters import Parameter, parameters, text_of, values_from
from rgal.methods.plus_rgal import plus_rgal
from rgal.methods.recipe import Recipe
from rgal.methods.rgal_options import RgalOptions

Budgets = Mapping[str, Mapping[str, Any]]  # (name of a budget) -> the fields of a schedule

_METHODS: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: what users call it.
        function: its recipe function. The keyword arguments with defaults are parameters of the method.
        reference: where it was published.
        tasks: the tasks it is for. The first is the one it was written for.
        module: the module that registers it.
        with_rgal: whether RGAL is added to what the function returns. `RgalOptions` are then parameters too.
        budgets: its schedules by the name of a suite's budget, for suites that have no entry for it; see
            `rgal.suite.plan.settings.Schedule`.
    """

    name: str
    function: Callable[..., Recipe]
    reference: str
    tasks: tuple[str, ...]
    module: str
    with_rgal: bool = False
    budgets: Budgets = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters that a user may set in the brackets behind the name."""
        return {**parameters(self.function), **(parameters(RgalOptions) if self.with_rgal else {})}

    def recipe(self, **values: Any) -> Recipe:
        """Build the recipe; parameters that are not given have their defaults."""
        if not self.with_rgal:
            return self.function(**values)
        own = parameters(self.function)
        host = self.function(**{key: value for key, value in values.items() if key in own})
        return plus_rgal(host, RgalOptions(**{key: value for key, value in values.items() if key not in own}))

    @property
    def code(self) -> str:
        """A hash of the modules it is written in, so that a method and an edited one do not share results."""
        return code_hash(self.module, self.function.__module__)


@dataclass(frozen=True)
class Resolved:
    """A method as a user named it, with its recipe.

    `name` is canonical: parameters are in the order they are declared in, and defaults are left out.
    """

    name: str
    recipe: Recipe
    method: Method


def method(
    name: str,
    reference: str,
    tasks: tuple[str, ...] = ("kd",),
    budgets: Budgets = MappingProxyType({}),
) -> Callable[[Callable[..., Recipe]], Callable[..., Recipe]]:
    """Register the decorated recipe function as a method.

    Its keyword arguments are the method's parameters: each has a default and a type that `Parameter` knows.

    Args:
        name: what users call it, in lower case.
        reference: where it was published.
        tasks: the tasks it is for, first the one it is written for. On the others the task adapts its recipe.
        budgets: how long it runs in a suite's budget of this name, where the suite has no entry for it.
    """

    def decorate(function: Callable[..., Recipe]) -> Callable[..., Recipe]:
        register(Method(name, function, reference, tasks, function.__module__, budgets=budgets))
        return function

    return decorate


def register(method: Method) -> None:
    """Add a method to those that `methods` returns.

    Raises:
        ValueError: a method of that name exists in another module.
    """
    present = _METHODS.get(method.name)
    if present is not None and present.module != method.module:
        raise ValueError(f"a method '{method.name}' exists already, in {present.module}")
    _METHODS[method.name] = method


def methods() -> Mapping[str, Method]:
    """Return all registered methods by name, in alphabetical order.

    Every module in the package `baselines` is imported: that a file is there is its registration. Methods of plug-ins
    are among them once the plug-ins are loaded.
    """
    modules_in("rgal.baselines")
    return dict(sorted(_METHODS.items()))


def resolve(
    text: str, tuned: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> Resolved:
    """Turn what a user wrote, such as `cmi[adv=1.0]+rgal[follows=code]`, into a recipe and its canonical name.

    Args:
        text: a method's name; see `rgal.methods.names`.
        tuned: parameters of the host that a suite sets for its data set. What the text gives goes before them.
        defaults: what parameters of host and plug-in are on a task, where that differs from what they are declared
            as. What is tuned goes before them. Both are settings of the suite, not part of the name.

    Raises:
        UserError: there is no such method or parameter, or a value makes no sense.
    """
    name = MethodName.parse(text)
    method = _registered(name)
    declared = method.parameters
    values = values_from(declared, name.host, dict(name.parameters))
    suite = values_from(declared, name.host, {key: text_of(value) for key, value in (tuned or {}).items()})
    suite = _declared(declared, defaults) | suite
    recipe = _built(name.host, method.recipe, {**suite, **values})
    canonical = MethodName(name.host, _changed(declared, values, suite))
    if name.plugin is not None:
        if any(term.name in ("spread", "gather") for term in (*recipe.synthesis, *recipe.transfer)):
            raise _has_rgal(name)
        options = parameters(RgalOptions)
        values = values_from(options, f"+{RGAL}", dict(name.plugin))
        task = _declared(options, defaults)
        recipe = _built(f"+{RGAL}", partial(_with_rgal, recipe), {**task, **values})
        canonical = replace(canonical, plugin=_changed(options, values, task))
    return Resolved(str(canonical), recipe, method)


def canonical_name(text: str, defaults: Mapping[str, Any] | None = None) -> MethodName:
    """Check a name without building its recipe, and write it as `resolve` does.

    Parameters come in the order they are declared in, and those that have their default anyway are left out.

    Args:
        text, defaults: as for `resolve`.

    Raises:
        UserError: there is no such method or parameter, or a value cannot be read.
    """
    name = MethodName.parse(text)
    method = _registered(name)
    declared = method.parameters
    values = values_from(declared, name.host, dict(name.parameters))
    canonical = MethodName(name.host, _changed(declared, values, _declared(declared, defaults)))
    if name.plugin is None:
        return canonical
    if method.with_rgal:
        raise _has_rgal(name)
    options = parameters(RgalOptions)
    values = values_from(options, f"+{RGAL}", dict(name.plugin))
    return replace(canonical, plugin=_changed(options, values, _declared(options, defaults)))


def _registered(name: MethodName) -> Method:
    registered = _METHODS.get(name.host) or methods().get(name.host)
    if registered is None:
        raise UserError(f"unknown method '{name.host}'; {nearest(name.host, methods())}")
    return registered


def _has_rgal(name: MethodName) -> UserError:
    host = name.without_plugin
    return UserError(f"'{name}' would add RGAL to a method that already has it; write '{host}'")


def _with_rgal(recipe: Recipe, **values: Any) -> Recipe:
    return plus_rgal(recipe, RgalOptions(**values))


def _declared(declared: Mapping[str, Parameter], defaults: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of a task's defaults that are declared here."""
    return {key: value for key, value in (defaults or {}).items() if key in declared}


def _built(name: str, build: Callable[..., Recipe], values: Mapping[str, Any]) -> Recipe:
    try:
        return build(**values)
    except (ValueError, KeyError) as error:
        raise UserError(f"method '{name}': {error}") from error


def _changed(
    declared: Mapping[str, Parameter], values: Mapping[str, Any], suite: Mapping[str, Any]
) -> Parameters:
    """Write those values that differ from what a bare name would mean in this suite."""
    return tuple(
        (key, text_of(values[key]))
        for key, parameter in declared.items()
        if key in values and values[key] != suite.get(key, parameter.default)
    )
