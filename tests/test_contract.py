"""What every registered method must do, with and without RGAL, on every task it is for.

Class-incremental learning has phases and more to say about them: see tests/test_contract_necil.py.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rgal import nets
from rgal.data import ImageSet
from rgal.problem import Domain, Problem
from rgal.registry import methods, parameters, resolve
from rgal.seeding import Streams, global_seed
from rgal.suite.config import Schedule
from rgal.suite.task import Job, tasks
from rgal.suite.trial import Trial
from rgal.synthesis.pool import ImagePool

DOMAIN = Domain((1, 8, 8), 4, (0.3,), (0.4,), flip=False, crop_padding=1)
SHORT = Schedule(
    rounds=2, warmup=0, synthesis_batch=9, batch=6, student_steps=2, synthesis_steps=2, generator_width=4
)
PLUGGED = [(name, plus) for name, plus in product(methods(), ("", "+rgal")) if name + plus != "rgal+rgal"]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "kd": [{}],
    "dfq": [
        {"bits": bits, "placement": place}
        for bits, place in product(("w8a8", "w4a4", "w2a3"), ("paper", "deploy"))
    ],
}
CASES = [
    pytest.param(task, name + plus, options, id="-".join([task, name + plus, *map(str, options.values())]))
    for name, plus in PLUGGED
    for task in methods()[name].tasks
    if task in OPTIONS
    for options in OPTIONS[task]
]


def trained(name: str, seed: int) -> nn.Module:
    """A net whose batch norm statistics are not those of initialisation."""
    with global_seed("contract", name, seed):
        net = nets.build(name, DOMAIN.classes, 1, 8).train()
        for _ in range(3):
            net(torch.randn(16, 1, 8, 8))
    return net


def job(task: str, name: str, options: dict[str, Any], seed: int) -> Job:
    """A small trial of a method on a task, with a teacher that never saw data and sixteen test images."""
    recipe = tasks()[task].recipe(name, SHORT).recipe
    stream = torch.Generator().manual_seed(0)
    images, labels = torch.rand(16, *DOMAIN.shape, generator=stream), torch.arange(16) % DOMAIN.classes
    test = ImageSet((images * 255).to(torch.uint8), labels)
    real = None
    if not recipe.data_free:
        real = ImagePool(DOMAIN.shape)
        real.add(images, labels)
    trial = Trial(
        task=task, dataset="noise", data="", image_size=None, teacher="wrn10_1", teacher_key="", student="resnet8",
        method=name, seed=seed, budget="short", schedule=SHORT.model_dump(exclude_none=True), evaluate_every=1,
        evaluate_on="test", precision="fp32", device="cpu", data_root=None, order=0, keep_pool=False, setting="",
        options=options,
    )  # fmt: skip
    problem = Problem(trained("wrn10_1", 0), DOMAIN)
    return Job(trial, recipe, problem, 0.0, test, real, Streams("cpu", seed), "fp32", ())


def run(task: str, name: str, options: dict[str, Any], seed: int = 0) -> tuple[Any, list[dict[str, Any]]]:
    going: Any = tasks()[task].start(job(task, name, options, seed))
    rows = []
    while not going.finished:
        rows += going.advance()
    return going, rows


@pytest.mark.parametrize(("task", "name", "options"), CASES)
def test_method(task: str, name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Finite and seeded; budget kept; labels valid; the teacher is as it was; nothing is left on any network."""
    before = {k: v.clone() for k, v in trained("wrn10_1", 0).state_dict().items()}
    going, rows = run(task, name, options)
    stage, teacher = going.stage, going.job.problem.teacher
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    for net in (teacher, stage.student):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    recipe, rounds = stage.recipe, stage.recipe.rounds
    trains = rounds.student_steps > 0
    assert stage.steps == {"synthesis": rounds.count * rounds.synthesis_steps, "student": 4 if trains else 0}
    if recipe.data_free:
        if recipe.source == "generator":  # every student batch is made for it, the last of a round is kept
            made, kept = rounds.batch * stage.steps["student"], rounds.batch
        else:
            made, kept = 9 * rounds.count * (rounds.synthesis_steps if rounds.interleaved else 1), 9
        assert stage.images == made and len(stage.pool) == kept * rounds.count
        assert stage.pool.targets.min() >= 0 and stage.pool.targets.max() < DOMAIN.classes
    assert {row["kind"] for row in rows} >= ({"student", "evaluation"} if trains else {"evaluation"})
    state = stage.student.state_dict()
    assert all(torch.isfinite(v).all() for v in state.values())
    going.save(tmp_path)
    assert {"last", "best", "images", "synthesis_seconds"} <= set(going.result())
    if options != OPTIONS[task][0]:
        return
    again, _ = run(task, name, options)
    assert all(torch.equal(value, state[key]) for key, value in again.student.state_dict().items())
    if recipe.data_free:
        other, _ = run(task, name, options, seed=1)
        states = zip(other.student.state_dict().values(), state.values(), strict=True)
        assert not all(torch.equal(a, b) for a, b in states)


@pytest.mark.parametrize(
    ("name", "task"), [(n, t) for n, m in methods().items() for t in m.tasks if n != "rgal" and t in OPTIONS]
)
def test_rgal_adds_its_terms(name: str, task: str) -> None:
    """On every method of every task; on real data, and where no student is trained, there is no such phase."""
    chosen = tasks()[task]
    host, plugged = (chosen.recipe(n, SHORT).recipe for n in (name, f"{name}+rgal"))
    added = {w.name: w.weight for w in plugged.transfer if w.name not in {v.name for v in host.transfer}}
    assert added == {"cd": chosen.defaults.get("cd", 0.1), "gram": 0.0, "gather": 0.1}
    if host.data_free:
        assert [w.name for w in plugged.synthesis] == [*(w.name for w in host.synthesis), "spread"]
    _, rows = run(task, f"{name}+rgal", OPTIONS[task][0])
    logged = set().union(*rows)
    assert ({"gather", "gather_fallback"} <= logged) == (host.rounds.student_steps > 0)
    assert ("spread" in logged) == (host.data_free and host.rounds.synthesis_steps > 0)


@pytest.mark.parametrize("name", methods())
def test_declaration(name: str) -> None:
    """Parameters are annotated and have defaults, the method says where it is from, and its name round-trips."""
    chosen = methods()[name]
    assert chosen.reference and chosen.tasks
    assert all(hint is not None for hint, _ in parameters(chosen.recipe).values())
    assert resolve(name).name == name
    assert resolve(f" {name} ").recipe.rounds == resolve(name).recipe.rounds


@pytest.mark.parametrize("name", methods())
def test_a_method_file_is_short(name: str) -> None:
    """10 to 40 lines of code: a method is data."""
    import importlib
    import inspect

    module = importlib.import_module(f"baselines.{name}")
    source = inspect.getsource(module).split('"""', 2)[2]
    assert len([line for line in source.splitlines() if line.strip()]) <= 40
