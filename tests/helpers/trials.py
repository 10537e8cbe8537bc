"""Trials of distillation and quantization that need no suite, no data and no store."""

from __future__ import annotations

import atexit
import copy
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rgal import nets
from rgal.core.precision import place
from rgal.core.problem import Domain, Problem
from rgal.core.seeding import Streams, global_seed
from rgal.data import ImageSet
from rgal.suite.plan.settings import Schedule
from rgal.suite.plan.trial import Trial
from rgal.suite.task import Job, tasks
from rgal.synthesis.pool import ImagePool
from rgal.synthesis.pool_files import load_pool, pool_key, save_pool
from tests.helpers import small

TRIAL = Trial(
    task="kd",
    dataset="digits",
    data="f",
    image_size=None,
    teacher="wrn16_1",
    teacher_key="t",
    student="wrn10_1",
    method="cmi+rgal",
    seed=0,
    budget="small",
    schedule={"rounds": 2},
    evaluate_every=1,
    evaluate_on="test",
    precision="fp32",
    device="cpu",
    data_root=None,
    order=0,
    keep_pool=False,
    setting="digits wrn16_1 -> wrn10_1",
)

DOMAIN = Domain((1, 8, 8), 4, (0.3,), (0.4,), flip=False, crop_padding=1)

SHORT = Schedule(
    rounds=2, warmup=0, synthesis_batch=9, batch=6, student_steps=2, synthesis_steps=2, generator_width=4
)

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "kd": [{}],
    "dfq": [
        {"bits": bits, "placement": place}
        for bits, place in product(("w8a8", "w4a4", "w2a3"), ("paper", "deploy"))
    ],
}


def trained(name: str, seed: int) -> nn.Module:
    """A net whose batch norm statistics are not those of initialisation."""
    return place(copy.deepcopy(_trained(name, seed)), small.DEVICE)


@cache
def _trained(name: str, seed: int) -> nn.Module:
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
        real = ImagePool(DOMAIN.shape, small.DEVICE)
        real.add(images, labels)
    trial = Trial(
        task=task, dataset="noise", data="", image_size=None, teacher="wrn10_1", teacher_key="", student="resnet8",
        method=name, seed=seed, budget="short", schedule=SHORT.model_dump(exclude_none=True), evaluate_every=1,
        evaluate_on="test", precision="fp32", device=str(small.DEVICE), data_root=None, order=0, keep_pool=False,
        setting="", options=options,
    )  # fmt: skip
    if recipe.source == "given":
        trial = replace(
            trial,
            init_pool=str(given_pool()),
            init_pool_key=pool_key(*load_pool(given_pool(), DOMAIN.shape, DOMAIN.classes)),
        )
    problem = Problem(trained("wrn10_1", 0), DOMAIN, small.DEVICE)
    return Job(trial, recipe, problem, 0.0, test, real, Streams(small.DEVICE, seed), "fp32", ())


@cache
def given_pool() -> Path:
    """A pool's file of twelve noise images, for methods that work on given images alone."""
    pool = ImagePool(DOMAIN.shape)
    pool.add(small.rand(12, *DOMAIN.shape), torch.arange(12) % DOMAIN.classes)
    folder = Path(tempfile.mkdtemp(prefix="rgal-given-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save_pool(pool, folder, {}, DOMAIN.classes)
    return folder


def run(task: str, name: str, options: dict[str, Any], seed: int = 0) -> tuple[Any, list[dict[str, Any]]]:
    going: Any = tasks()[task].start(job(task, name, options, seed))
    rows = []
    while not going.finished:
        rows += going.advance()
    return going, rows
