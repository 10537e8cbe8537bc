"""What the released drivers and scripts set, method by method: numbers that our recipes must have."""

from __future__ import annotations

import pytest
import torch

from rgal.core.optimiser import SGD, StudentAdam
from rgal.data import load
from rgal.methods.registry import resolve
from rgal.suite.plan.settings import TeacherRecipe
from rgal.suite.running.teachers import TeacherRun
from rgal.synthesis.generators import PersistentGenerator
from rgal.synthesis.image_source import Adam
from rgal.tasks.class_incremental.spec import spec_of
from rgal.tasks.class_incremental.task import TASK, Options
from tests.helpers import small
from tests.helpers.runs import make_run, named


@pytest.mark.parametrize(
    ("text", "latent"),
    [
        ("dafl", 512),
        ("zskt", 256),
        ("zskt[follows=paper]", 256),
        ("dfad", 256),
        ("adversarial_dfq", 256),
        ("adversarial_dfq[follows=paper]", 256),
    ],
)
def test_games_have_the_large_generator(text: str, latent: int) -> None:
    """CMI's driver: LargeGenerator, latent 512 for DAFL and 256 for the others."""
    images = resolve(text).recipe.images
    assert isinstance(images, PersistentGenerator)
    assert (images.latent, images.large) == (latent, True)


def test_scratch_is_cmis_training_from_scratch() -> None:
    """CMI's train_scratch.py: batch 256, weight decay 1e-4, a tenth after epochs 120, 150 and 180 of 200."""
    recipe = resolve("scratch").recipe
    rounds, student = recipe.rounds, recipe.student
    assert isinstance(student, SGD) and (student.lr, student.weight_decay, student.nesterov) == (
        0.1,
        1e-4,
        False,
    )
    assert (rounds.count, rounds.student_steps, rounds.batch) == (200, 196, 256)  # 50,000 images
    rates = [
        student.learning_rate(epoch * 196, 200 * 196) for epoch in (0, 119, 120, 149, 150, 179, 180, 199)
    ]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])


def test_zeroq_has_the_step_size_of_its_code() -> None:
    assert resolve("zeroq").recipe.optimiser == Adam(0.5, (0.9, 0.999))


def test_intraq_trains_in_147_of_its_151_epochs() -> None:
    """The first four set ranges and train nothing."""
    assert resolve("intraq").recipe.rounds.student_steps == 147 * 200


@pytest.mark.parametrize("text", ["pass", "pass[noise=covariance]"])
def test_pass_has_one_optimiser_in_all_phases(text: str) -> None:
    """PASS.py: Adam 1e-3, weight decay 2e-4, a tenth after epochs 44 and 89 of 101 (of 79 batches at 10 classes)."""
    recipe = resolve(text).recipe
    assert recipe.rounds.student_steps == 101 * 79
    for optimiser in (recipe.student, spec_of(recipe).base_optimiser):
        assert isinstance(optimiser, StudentAdam) and optimiser.weight_decay == 2e-4
        rates = [optimiser.learning_rate(epoch, 101) for epoch in (0, 43, 44, 88, 89, 100)]
        assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


@pytest.mark.parametrize(("text", "kind"), [("pass", torch.optim.Adam), ("lwf", torch.optim.SGD)])
def test_the_first_phase_of_pass_is_trained_by_its_optimiser(text: str, kind: type) -> None:
    dataset = load("digits")
    purpose = TASK.pretraining(dataset, resolve(text).recipe, 0, Options())
    part, domain = purpose.part(dataset), purpose.domain(dataset.spec.domain)
    run = TeacherRun("resnet8", part, domain, TeacherRecipe(steps=2, batch=8), "fp32", small.DEVICE, purpose)
    assert type(run.loop.optimiser) is kind


def test_another_step_size_of_pass_trains_another_first_model() -> None:
    names = {spec_of(resolve(text).recipe).base_name for text in ("pass", "pass[lr=0.002]")}
    assert len(names) == 2


@pytest.mark.parametrize("lr", [1e-3, 5e-3])
def test_cmis_head_learns_at_the_generators_step_size(lr: float) -> None:
    run = make_run(named("cmi[bank=16]", optimiser=Adam(lr, (0.5, 0.999))))
    head = run.inversion.term_optimiser
    assert head is not None and [group["lr"] for group in head.param_groups] == [lr]
