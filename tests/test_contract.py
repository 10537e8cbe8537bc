"""What every registered method must do, with and without RGAL, on every task it is for."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from rgal import nets
from rgal.problem import Domain, Problem
from rgal.recipe import Recipe
from rgal.registry import methods, parameters, resolve
from rgal.seeding import Streams, global_seed
from rgal.stage import Stage
from rgal.synthesis.pool import ImagePool

DOMAIN = Domain((1, 8, 8), 4, (0.3,), (0.4,), flip=False, crop_padding=1)
NAMES = [f"{name}{plus}" for name, plus in product(methods(), ("", "+rgal")) if name + plus != "rgal+rgal"]


def small(recipe: Recipe) -> Recipe:
    rounds = replace(recipe.rounds, count=2, warmup=0, synthesis_batch=9, batch=6, student_steps=2)
    rounds = replace(rounds, synthesis_steps=2 if recipe.data_free else 0)
    return replace(recipe, rounds=rounds)


def trained(name: str, seed: int) -> nn.Module:
    """A net whose batch norm statistics are not those of initialisation."""
    with global_seed("contract", name, seed):
        net = nets.build(name, DOMAIN.classes, 1, 8).train()
        for _ in range(3):
            net(torch.randn(16, 1, 8, 8))
    return net


def run(name: str, seed: int = 0) -> tuple[Stage, list[dict[str, Any]], nn.Module]:
    recipe = small(resolve(name).recipe)
    teacher, student = trained("wrn10_1", 0), trained("resnet8", 1)
    real = None
    if not recipe.data_free:
        real = ImagePool(DOMAIN.shape)
        stream = torch.Generator().manual_seed(0)
        real.add(torch.rand(12, *DOMAIN.shape, generator=stream), torch.arange(12) % DOMAIN.classes)
    problem = Problem(teacher, DOMAIN)
    stage = Stage(recipe, problem, student, Streams("cpu", seed), lambda net: {"top1": 0.0}, real=real)
    rows = []
    while not stage.finished:
        rows += stage.advance()
    return stage, rows, teacher


@pytest.mark.parametrize("name", NAMES)
def test_method(name: str) -> None:
    """Finite and seeded; budget kept; labels valid; the teacher is as it was; nothing is left on any network."""
    before = {k: v.clone() for k, v in trained("wrn10_1", 0).state_dict().items()}
    stage, rows, teacher = run(name)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    for net in (teacher, stage.student):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    recipe = stage.recipe
    assert stage.steps == {"synthesis": 4 if recipe.data_free else 0, "student": 4}
    if recipe.data_free and recipe.source == "pool":
        assert len(stage.pool) == stage.images == 18
        assert stage.pool.targets.min() >= 0 and stage.pool.targets.max() < DOMAIN.classes
    assert {row["kind"] for row in rows} >= {"student", "evaluation"}
    assert all(torch.isfinite(v).all() for v in stage.student.state_dict().values())
    again, _, _ = run(name)
    for key, value in again.student.state_dict().items():
        assert torch.equal(value, stage.student.state_dict()[key])
    other, _, _ = run(name, seed=1)
    states = zip(other.student.state_dict().values(), stage.student.state_dict().values(), strict=True)
    assert not all(torch.equal(a, b) for a, b in states)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("+rgal")])
def test_rgal_adds_its_terms(name: str) -> None:
    host, plugged = resolve(name.removesuffix("+rgal")).recipe, resolve(name).recipe
    added = {w.name: w.weight for w in plugged.transfer[len(host.transfer) :]}
    assert added == {"cd": 0.1, "gram": 0.0, "gather": 0.1}
    if host.data_free:
        assert [w.name for w in plugged.synthesis] == [*(w.name for w in host.synthesis), "spread"]
    _, rows, _ = run(name)
    logged = set().union(*rows)
    assert {"gather", "gather_fallback", "cd"} <= logged
    assert ("spread" in logged) == host.data_free


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
