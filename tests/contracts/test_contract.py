"""What every registered method must do, with and without RGAL, on every task it is for.

With `pytest --plugin FILE.py tests/contracts/test_contract.py` these are the methods of that file. A failure says
in words what is wrong. Class-incremental learning has phases and more to say about them: see test_contract_necil.py.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import tokenize
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rgal.methods.plugins import from_files
from rgal.methods.registry import methods, resolve
from rgal.suite.store.checkpoint import Checkpoint
from rgal.suite.task import tasks
from tests.helpers import small
from tests.helpers.trials import DOMAIN, OPTIONS, SHORT, job, trained

WITH_RGAL = ("gdfq+rgal", "plain+rgal")  # a generator, and pixels


def is_quick(task: str, name: str, options: dict[str, Any]) -> bool:
    """Tell whether a case is run by default: the first options, the last too of hosts and of two with RGAL."""
    last = options == OPTIONS[task][-1] and ("+rgal" not in name or name in WITH_RGAL)
    return options == OPTIONS[task][0] or last


CHOSEN = from_files() or list(methods())
PLUGGED = [(name, plus) for name, plus in product(CHOSEN, ("", "+rgal")) if name + plus != "rgal+rgal"]
CASES = [
    pytest.param(
        task,
        name + plus,
        options,
        id="-".join([task, name + plus, *map(str, options.values())]),
        marks=() if is_quick(task, name + plus, options) else pytest.mark.slow,
    )
    for name, plus in PLUGGED
    for task in methods()[name].tasks
    if task in OPTIONS
    for options in OPTIONS[task]
]

NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
PROSE = (ast.Import, ast.ImportFrom, ast.Expr)  # with docstrings, which are expressions


def must(held: bool, sentence: str) -> None:
    """Fail with a sentence that its reader can act on."""
    if not held:
        pytest.fail(sentence, pytrace=False)


def started(task: str, name: str, options: dict[str, Any], seed: int = 0) -> Any:
    return tasks()[task].start(job(task, name, options, seed))


def calls_to_the_stop(going: Any) -> int:
    """Of the six of a round: amid its steps of the student, or of synthesis where there are none."""
    return 4 if going.transfer.recipe.rounds.student_steps else 2


def run_and_store(going: Any, checkpoint: Checkpoint) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Run to the end, and store the state at the stop; one that only calibrates reaches it at its end.

    Returns:
        The rows, and what the student was at the stop.
    """
    rows: list[dict[str, Any]] = []
    student, calls = {}, 0
    while not going.finished:
        rows += going.advance()
        calls += 1
        if calls == calls_to_the_stop(going) or (going.finished and not student):
            checkpoint.save(going.state_dict())
            student = small.snapshot(going.transfer.student)
    return rows, student


def taken_up(task: str, name: str, options: dict[str, Any], checkpoint: Checkpoint) -> Any:
    """What the run ends as when objects that know nothing but the stored state take it up, each killed soon after."""
    while True:
        going = started(task, name, options)
        state = checkpoint.load(small.DEVICE)
        assert state is not None
        going.load_state_dict(state)
        if going.finished:
            return going
        for _ in range(calls_to_the_stop(going)):
            going.finished or going.advance()
        if going.finished:
            return going
        checkpoint.save(going.state_dict())


@pytest.mark.parametrize(("task", "name", "options"), CASES)
def test_method(
    task: str, name: str, options: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Finite and seeded; budget kept; labels valid; the teacher is as it was; nothing is left on any network."""
    if options != OPTIONS[task][0] or "+rgal" in name:  # the pictures are those of its host
        request.getfixturevalue("no_pictures")
    going, checkpoint = started(task, name, options), Checkpoint(tmp_path / "checkpoint.pt")
    rows, student = run_and_store(going, checkpoint)
    check_nets(going)
    check_budget(going)
    kinds = {row["kind"] for row in rows}
    trains = going.transfer.recipe.rounds.student_steps > 0
    wanted = {"student", "evaluation"} if trains else {"evaluation"}
    must(kinds >= wanted, f"metric rows of the kinds {sorted(wanted - kinds)} are missing")
    going.save(tmp_path)
    going.illustrate(tmp_path)
    assert {"last", "best", "images", "synthesis_seconds"} <= set(going.result())
    if name.endswith("+rgal"):
        check_terms(going, rows)
    if options == OPTIONS[task][0]:
        if "+rgal" not in name or name in WITH_RGAL or from_files():
            check_resumed(going, taken_up(task, name, options, checkpoint))
        if going.transfer.recipe.data_free and "+rgal" not in name:  # which draws all that its host draws
            check_seeds(student, started(task, name, options, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name"),
    [
        (task, f"{name}+rgal")
        for name in ([] if from_files() else CHOSEN)
        for task in methods()[name].tasks
        if task in OPTIONS and name != "rgal" and f"{name}+rgal" not in WITH_RGAL
    ],
)
def test_a_stopped_run_with_rgal_ends_the_same(task: str, name: str, tmp_path: Path) -> None:
    """As test_method says of hosts, of two with RGAL and of plug-ins."""
    going, checkpoint = started(task, name, OPTIONS[task][0]), Checkpoint(tmp_path / "checkpoint.pt")
    run_and_store(going, checkpoint)
    check_resumed(going, taken_up(task, name, OPTIONS[task][0], checkpoint))


def check_nets(going: Any) -> None:
    transfer, teacher = going.transfer, going.job.problem.teacher
    before = trained("wrn10_1", 0).state_dict()
    changed = [k for k, v in teacher.state_dict().items() if not torch.equal(v, before[k])]
    must(not changed, f"the method changed its teacher, which is frozen: {changed[:3]}")
    graded = [k for k, p in teacher.named_parameters() if p.grad is not None or p.requires_grad]
    must(not graded, f"gradients reached the teacher's parameters: {graded[:3]}")
    for what, net in (("teacher", teacher), ("student", transfer.student)):
        hooks = [k for k, m in net.named_modules() if m._forward_hooks or m._forward_pre_hooks]
        must(not hooks, f"hooks were left on the {what}: {hooks[:3]}; read networks through a term's needs")
    broken = [k for k, v in transfer.student.state_dict().items() if not torch.isfinite(v).all()]
    must(not broken, f"the student's weights are not finite after a few steps: {broken[:3]}")


def check_budget(going: Any) -> None:
    """Of steps and images; and the images and labels themselves."""
    transfer, recipe, rounds = going.transfer, going.transfer.recipe, going.transfer.recipe.rounds
    steps = {"synthesis": rounds.count * rounds.synthesis_steps, "student": 4 if rounds.student_steps else 0}
    must(transfer.schedule.steps == steps, f"took {transfer.schedule.steps} steps, its budget is {steps}")
    if recipe.images is None:
        return
    if recipe.source == "generator":  # every student batch is made for it, the last of a round is kept
        made, kept = rounds.batch * transfer.schedule.steps["student"], rounds.batch
    else:
        made, kept = 9 * rounds.count * (rounds.synthesis_steps if rounds.interleaved else 1), 9
    must(transfer.images == made, f"counted {transfer.images} images, its budget makes {made}")
    pool = transfer.pool
    must(len(pool) == kept * rounds.count, f"kept {len(pool)} images, expected {kept * rounds.count}")
    low, high = int(pool.targets.min()), int(pool.targets.max())
    must(
        0 <= low <= high < DOMAIN.classes,
        f"labels reach from {low} to {high}, expected 0 to {DOMAIN.classes - 1}",
    )


def check_terms(going: Any, rows: list[dict[str, Any]]) -> None:
    """What RGAL adds to a method is in its rows."""
    logged, recipe = set().union(*rows), going.transfer.recipe
    assert ({"gather", "gather_fallback"} <= logged) == (recipe.rounds.student_steps > 0)
    assert ("spread" in logged) == (recipe.images is not None and recipe.rounds.synthesis_steps > 0)


def check_resumed(going: Any, again: Any) -> None:
    """Stopped twice and taken up again, a run ends with the same numbers."""
    state = going.transfer.student.state_dict()
    differing = [k for k, v in again.transfer.student.state_dict().items() if not torch.equal(v, state[k])]
    must(
        not differing,
        f"stopped and resumed with the same seed, the student differs ({differing[:3]}): draw random numbers from "
        "ctx.streams or the generator that is handed over, and keep state in buffers, parameters and state_dict()",
    )


def check_seeds(student: dict[str, Tensor], other: Any) -> None:
    """Another seed gives another student, up to the stop; where none is trained, up to the end."""
    trains = other.transfer.recipe.rounds.student_steps > 0
    calls = 0
    while not other.finished and (calls < calls_to_the_stop(other) or not trains):
        other.advance()
        calls += 1
    states = zip(other.transfer.student.state_dict().values(), student.values(), strict=True)
    must(
        not all(torch.equal(a, b) for a, b in states),
        "another seed gives the same student: nothing is drawn",
    )


@pytest.mark.parametrize(
    ("name", "task"), [(n, t) for n in CHOSEN for t in methods()[n].tasks if n != "rgal" and t in OPTIONS]
)
def test_rgal_adds_its_terms(name: str, task: str) -> None:
    """On every method of every task; on real data, and where no student is trained, there is no such phase."""
    its_task = tasks()[task]
    host, plugged = (its_task.recipe(n, SHORT).recipe for n in (name, f"{name}+rgal"))
    added = {w.name: w.weight for w in plugged.transfer if w.name not in {v.name for v in host.transfer}}
    assert added == {"cd": its_task.defaults.get("cd", 0.1), "gram": 0.0, "gather": 0.1}
    if host.images is not None:
        assert [w.name for w in plugged.synthesis] == [*(w.name for w in host.synthesis), "spread"]


@pytest.mark.parametrize("name", CHOSEN)
def test_declaration(name: str) -> None:
    """Parameters are annotated and have defaults, the method says where it is from, and its name round-trips."""
    declared = methods()[name]
    must(bool(declared.reference), f"@method('{name}') says nothing in reference=: where was it published?")
    unknown = set(declared.tasks) - set(tasks())
    must(bool(declared.tasks) and not unknown, f"@method('{name}') is for unknown tasks {sorted(unknown)}")
    without = [k for k, p in inspect.signature(declared.function).parameters.items() if p.default is p.empty]
    must(not without, f"parameters without a default: {without}")
    typed = all(parameter.kind in (bool, int, float, str) for parameter in declared.parameters.values())
    must(typed, "a parameter is no bool, int, float, str, or choice of words")
    assert resolve(name).name == name
    assert resolve(f" {name} ").recipe.rounds == resolve(name).recipe.rounds


def code_lines(source: str) -> int:
    """Count the lines that hold code: no blank lines, comments or docstrings."""
    tree, lines = ast.parse(source), set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


@pytest.mark.parametrize("name", [name for name in CHOSEN if name not in from_files()])
def test_a_method_file_is_short(name: str) -> None:
    """Sixty lines of code at most, and ten statements, imports and docstrings aside: a method is data."""
    source = inspect.getsource(importlib.import_module(f"rgal.baselines.{name}"))
    assert code_lines(source) <= 60
    told = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and not isinstance(node, PROSE)
    ]
    assert len(told) <= 10
