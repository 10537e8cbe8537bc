"""How long a call runs: the budgets of the suites, for whatever images a network takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rgal import benchmarks
from rgal.core.errors import UserError, nearest
from rgal.suite.plan.settings import Schedule, Suite, load_suite

DEFAULT = "small"
NUMBERS = tuple(name for name in Schedule.model_fields if name != "parameters")
GivenBudget = str | Mapping[str, Any]


def suite_of(task: str, given: GivenBudget, options: Mapping[str, Any]) -> Suite:
    """Read a budget as a user gives it: the suite of the task under it, whose `chosen_budget` and `fixed` it sets.

    Args:
        task: "kd", "dfq" or "necil".
        given: the name of a budget; or numbers that take the place of those of the budget `small`, or of the one that
            the entry "budget" names, for every method, as `--set` does on the command line: {"rounds": 3}.
        options: settings of the task.

    Raises:
        UserError: there is no such budget or number, or a number is out of range.
    """
    if not isinstance(given, str | Mapping):
        raise UserError(
            f"budget {given!r}: expected a name, such as '{DEFAULT}', or numbers: {{'rounds': 3}}"
        )
    numbers = {} if isinstance(given, str) else dict(given)
    name = given if isinstance(given, str) else numbers.pop("budget", DEFAULT)
    for key in numbers:
        if key not in NUMBERS:
            raise UserError(f"budget: unknown number {key!r}; {nearest(str(key), NUMBERS)}")
    path = _file(task)
    try:
        assignments = tuple(f"{key}={json.dumps(value)}" for key, value in numbers.items())
        suite = load_suite(path, {"budget": name, "teacher": "given"}, assignments, options)
        if name not in suite.budgets:
            raise UserError(f"budget {name!r}: {nearest(str(name), suite.budgets)}")
        return suite
    except TypeError as error:
        raise UserError(f"budget: {error}; expected numbers") from error
    except UserError as error:
        raise UserError(str(error).removeprefix(f"{path}: ")) from error


def _file(task: str) -> Path:
    """Return the suite that is for no data set in particular, or else that of the task."""
    folder = Path(benchmarks.__file__).parent
    own = folder / f"{task}_none.yaml"
    return own if own.is_file() else folder / f"{task}.yaml"
