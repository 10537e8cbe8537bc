"""The terms of a recipe as a table: weight, when it counts, and what its code says that it is."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Sequence
from typing import Any

from rgal.methods.parameters import text_of
from rgal.reporting.site.markdown import linked_to_code, row, sentence, table
from rgal.terms.objective import LossTerm, stateless


def terms_table(terms: Sequence[LossTerm]) -> str:
    """Write a table of terms; those of weight 0, which are never built, as off."""
    rows = [row(f"`{term.name}`", _weight(term), _meaning(term.build), _source(term.build)) for term in terms]
    return table(("term", "weight", "what it is", "where"), rows)


def _weight(term: LossTerm) -> str:
    if term.weight == 0:
        return "0: off"
    when = [
        "after warm-up" if term.after_warmup else "",
        f"from {term.since:.0%} of the steps on" if term.since > 0 else "",
        f"in the first {term.until:.0%} of the steps" if term.until < 1 else "",
    ]
    return ", ".join([text_of(float(term.weight)), *filter(None, when)])


def _meaning(build: Any) -> str:
    """Return the first sentence on a term; where it only names the loss that it makes, the sentence on that one."""
    origin = origin_of(build)
    said = sentence(inspect.getdoc(origin) or "") if origin is not None else ""
    named = re.fullmatch(r"(?:Make|Compute) `(\w+)`.*", said)
    loss = getattr(sys.modules[origin.__module__], named[1], None) if named else None
    return sentence(inspect.getdoc(loss) or said) if loss is not None else said


def _source(build: Any) -> str:
    origin = origin_of(build)
    return linked_to_code(origin.__module__, origin.__qualname__) if origin is not None else ""


def origin_of(build: Any) -> Any:
    """Return the function or class that a term's builder, often a closure, was written in."""
    if isinstance(build, functools.partial):
        return origin_of(build.func)
    if inspect.isfunction(build) and build.__qualname__.startswith(f"{stateless.__name__}."):
        return origin_of(inspect.getclosurevars(build).nonlocals["function"])
    name = build.__qualname__.partition(".")[0]
    return getattr(sys.modules[build.__module__], name, None)
