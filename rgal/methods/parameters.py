"""Declared parameters: types, defaults, meanings and limits, read from the signature or the fields they are written in.

A recipe function's keyword arguments and an option object's fields are the parameters that a user may set. What an
annotation cannot say by its type alone is added with `Annotated`, once, and feeds `--list methods`, the documentation
and the errors:

    lr: Annotated[float, Positive, Meaning("learning rate of the generator")] = 1e-3
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from rgal.core.errors import UserError, nearest


class Positive:
    """Mark a number that must be above 0."""


@dataclass(frozen=True)
class Meaning:
    """Say what a parameter does, and where its default is published if that is not where its method is."""

    text: str
    source: str = ""


# Parameters that have one meaning in many methods, in the words of `--list methods NAME`.
PositiveNumber = Annotated[float, Positive]
LearningRate = Annotated[float, Positive, Meaning("learning rate of synthesis")]
StudentLearningRate = Annotated[float, Positive, Meaning("learning rate of the student")]
Temperature = Annotated[float, Positive, Meaning("temperature of the distillation")]

BatchNormWeight = Annotated[float, Meaning("weight of the distance from the teacher's batch norm statistics")]
ClassWeight = Annotated[float, Meaning("weight of what makes the teacher sure of an image's class")]
AdversarialWeight = Annotated[
    float, Meaning("weight of the disagreement of student and teacher, which images are to raise")
]
DistillationWeight = Annotated[float, Meaning("weight of keeping to the teacher, or to the old model")]
CrossEntropyWeight = Annotated[float, Meaning("weight of the student's cross-entropy with the labels")]
DiversityWeight = Annotated[
    float, Meaning("weight of the classes' entropy over a batch, which images are to raise")
]
TotalVariationWeight = Annotated[float, Meaning("weight of the images' total variation")]


@dataclass(frozen=True)
class Parameter:
    """One parameter that a user may set.

    kind: the type that its text is read as. choices: the words it may be, if it is a word out of a few. optional: it
    may be `none`. meaning, source: see `Meaning`.
    """

    name: str
    kind: type
    default: Any
    choices: tuple[str, ...] = ()
    optional: bool = False
    positive: bool = False
    meaning: str = ""
    source: str = ""

    @property
    def type_text(self) -> str:
        """The type in words: `number above 0`, `distance, focal or uniform`, `true or false`, ..."""
        words = {bool: "true or false", int: "whole number", float: "number", str: "text"}
        *others, last = self.choices or (words[self.kind],)
        text = f"{', '.join(others)} or {last}" if others else last
        return text + " above 0" * self.positive + " or none" * self.optional

    def read(self, text: str, where: str) -> Any:
        """The value that a user's text means. UserError, headed by `where`, if it means none."""
        if self.optional and text == "none":
            return None
        if self.choices:
            if text not in self.choices:
                raise UserError(f"{where}: {nearest(text, self.choices)}")
            return text
        try:
            value = _BOOLEANS[text.lower()] if self.kind is bool else self.kind(text)
        except (ValueError, KeyError) as error:
            expected = "true or false" if self.kind is bool else self.kind.__name__
            raise UserError(f"{where}: expected {expected}, found '{text}'") from error
        if self.kind is float and not math.isfinite(value):
            raise UserError(f"{where}: expected a finite number, found '{text}'")
        if self.positive and value <= 0:
            raise UserError(f"{where}: expected a number above 0")
        return value


_BOOLEANS = {"true": True, "false": False}


@functools.cache
def parameters(declared: Callable[..., Any]) -> MappingProxyType[str, Parameter]:
    """The parameters of a recipe function or of an option class, by name, in the order they are declared in.

    Arguments without a default, such as the recipe that a plug-in transforms, are no parameters.
    """
    hints = get_type_hints(declared, include_extras=True)
    return MappingProxyType(
        {
            name: _parameter(name, hints[name], argument.default)
            for name, argument in inspect.signature(declared).parameters.items()
            if argument.default is not inspect.Parameter.empty
        }
    )


def values_from(declared: Mapping[str, Parameter], where: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Read the texts that a user gave for parameters of the method `where`. UserError for an unknown name or value."""
    for key in given:
        if key not in declared:
            raise UserError(f"method '{where}' has no parameter '{key}'; {nearest(key, declared)}")
    return {key: declared[key].read(text, f"{where}[{key}={text}]") for key, text in given.items()}


def text_of(value: Any) -> str:
    """The text that `Parameter.read` reads as `value`: `0.1`, `true`, `none`."""
    if isinstance(value, float) and value == float(f"{value:g}"):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    """Take a type hint apart: `Annotated[T, ...]`, `T | None`, a Literal of words, or a plain type."""
    remarks: list[Any] = []
    optional = False
    while (origin := get_origin(hint)) in (Annotated, Union, UnionType):
        inner, *rest = get_args(hint)
        if origin is Annotated:
            remarks += rest
        else:
            inner = next(kind for kind in (inner, *rest) if kind is not type(None))
            optional = True
        hint = inner
    meaning = next((remark for remark in remarks if isinstance(remark, Meaning)), Meaning(""))
    words = get_args(hint) if origin is Literal else ()
    kind = str if words else hint
    positive = Positive in remarks
    return Parameter(name, kind, default, words, optional, positive, meaning.text, meaning.source)
