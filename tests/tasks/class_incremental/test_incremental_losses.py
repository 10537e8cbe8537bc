"""Whole objectives of class-incremental methods, through the student loop and a net, against their twins: the total
of a step on fixed images, and the gradient that every parameter gets."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal.core.optimiser import SGD
from rgal.core.precision import Precision
from rgal.core.seeding import Streams
from rgal.engine.batches import StudentBatch
from rgal.engine.student import StudentLoop, StudentSpec
from rgal.methods.registry import resolve
from rgal.tasks.class_incremental.groups import IncrementalAugmentation, IncrementalTermData, grouped
from rgal.tasks.class_incremental.head import extractor_parameters, growing_head
from rgal.tasks.class_incremental.spec import spec_of
from rgal.tasks.class_incremental.statistics import ClassStatistics
from rgal.terms.negatives import BANDS, sample_negatives
from rgal.terms.objective import Progress
from tests.helpers import naive, naive_incremental_losses, small
from tests.helpers import naive_incremental as slow
from tests.helpers.relation_builders import by_pair
from tests.helpers.two_phase_builders import STILL, gradients, two_phases

OLD, NEW, REAL, REPLAYED, WIDTH = 4, 2, 6, 5, 5
LABELS = torch.tensor([4, 5, 5, 4, 5, 4])


def stream(purpose: str) -> torch.Generator:
    """As the first step of a loop finds it."""
    return Streams("cpu", "second phase").get(purpose)


def images(n: int, seed: int) -> Tensor:
    """Of different brightness and contrast, so that their features differ."""
    level = torch.linspace(0.2, 1, n).view(-1, 1, 1, 1)
    return level * small.rand(n, *STILL.shape, seed=seed)


def batch(images: Tensor, targets: Tensor, real: int = REAL) -> StudentBatch:
    return StudentBatch(images, targets, grouped(real, len(images)))


@dataclass
class Learning:
    """A method's loop in its second phase, and what goes through it. Step size 0: every step sees the same model."""

    loop: StudentLoop
    nets: dict[str, nn.Module]
    memory: ClassStatistics
    images: Tensor
    targets: Tensor

    def step(self, within: float = 0.0) -> float:
        self.loop.step(batch(self.images, self.targets), Progress(0, 1, within=within))
        total = self.loop.meter.peek("total")
        assert total is not None
        return total


def learning(method: str, precision: Precision = "fp32") -> Learning:
    recipe = resolve(method, defaults={"cd": 0.0, "pairs": False}).recipe
    how = spec_of(recipe)
    outputs, replays = how.outputs, recipe.images is not None
    nets = two_phases(OLD, NEW, outputs)
    root = small.randn(WIDTH, WIDTH, seed=2)
    memory = ClassStatistics(
        2 * small.rand(OLD, WIDTH, seed=1), None, torch.tensor(0.3), importance=root @ root.T / WIDTH
    )
    memory = memory if how.keeps else ClassStatistics()
    augmentation = IncrementalAugmentation(recipe.student_view, rotations=how.rotations)
    still = SGD(0.0, 0.0, "constant")
    spec = StudentSpec(recipe.transfer, still, 10, augmentation, IncrementalTermData(memory))
    loop = StudentLoop(nets, STILL, spec, Streams("cpu", "second phase"), precision)
    extra = REPLAYED if replays else 0
    x = torch.cat([images(REAL, 5), images(extra, 6)]) if extra else images(REAL, 5)
    return Learning(loop, nets, memory, x, torch.cat([LABELS, torch.zeros(extra, dtype=torch.int64)]))


def prototypes(kept: ClassStatistics, name: str, draws: int) -> tuple[Tensor, list[int]]:
    rng = stream(f"{name} draws")
    classes = torch.randint(0, OLD, (draws,), generator=rng).tolist()
    noise = torch.randn(draws, WIDTH, generator=rng)
    rows = [kept.means[c] + kept.radius * e for c, e in zip(classes, noise, strict=True)]
    return torch.stack(rows).double(), classes


def seen_by_hand(
    learning: Learning, student: nn.Module, projections: nn.Module | None
) -> naive_incremental_losses.Step:
    """Through a copy of the student, without the loop, and from there in float64."""
    x, labels, real = learning.images, learning.targets, REAL
    if learning.loop.spec.augmentation.rotations:
        (x, labels), real = slow.four_turns(x, labels), 4 * REAL
    inputs = naive.normalised(x, STILL.mean, STILL.std)
    head, old_head = growing_head(student), growing_head(learning.nets["teacher"])
    with torch.no_grad():
        g = learning.nets["teacher"].feature(inputs)
    linear = [] if projections is None else list(projections.modules())
    pairs = [layer for layer in linear if isinstance(layer, nn.Linear)]
    return naive_incremental_losses.Step(
        student.feature(inputs).double(),
        g.double(),
        head.weight().double(),
        torch.cat([part.bias for part in head.parts]).double(),
        old_head.weight().double(),
        old_head.parts[0].bias.double(),
        labels.tolist(),
        real,
        prototypes(learning.memory, "prototypes", 8) if learning.memory.tensors() else None,
        [(p.weight.double(), p.bias.double()) for p in pairs],
    )


def refining(learning: Learning) -> Learning:
    """As at the end of R-DFCIL's phases: the extractor frozen."""
    student = learning.nets["student"].eval()
    for parameter in extractor_parameters(student):
        parameter.requires_grad_(False)
    return learning


def gathered(s: naive_incremental_losses.Step) -> Tensor:
    """RGAL's gather triplet of pooled features, on the negatives that the term's stream gives."""
    rng, old = stream("gather negatives"), s.old
    labels, index = torch.tensor(s.all_labels), []
    for rows, logits in (
        (slice(0, s.real), s.logits[: s.real, old:]),
        (slice(s.real, None), s.old_logits[s.real :]),
    ):
        if len(labels[rows]):
            sampled = sample_negatives(logits.float(), labels[rows], BANDS["distance"], rng)
            index.append(by_pair(sampled))
    if len(index) == 1:
        return naive.triplet([s.features], s.all_labels, index[0], "gather", 0.2)
    return slow.apart_triplet([s.features], s.all_labels, s.real, old, s.classes, index)


def repelled(s: naive_incremental_losses.Step, kept: ClassStatistics) -> Tensor:
    """RGAL's triplet of upright images with noisy means as negatives."""
    drawn, classes = prototypes(kept, "prototype_gather", 64)
    rows = torch.cat([s.features[:REAL], drawn.clamp(min=0)])
    all_labels = s.labels[:REAL] + [-1 - c for c in classes]
    real = torch.arange(len(rows)) < REAL
    sampled = sample_negatives(
        rows.float(), torch.tensor(all_labels), BANDS["distance"],
        stream("prototype_gather negatives"), among=real[:, None] & ~real[None, :],
    )  # fmt: skip
    return slow.against_constants([rows], all_labels, REAL, by_pair(sampled))


METHODS: dict[str, Any] = {
    "finetune": lambda s, kept: naive_incremental_losses.finetune(s),
    "finetune[classes=new]": lambda s, kept: naive_incremental_losses.finetune_new(s),
    "joint": lambda s, kept: naive_incremental_losses.finetune(s),
    "lwf": lambda s, kept: naive_incremental_losses.lwf(s),
    "ldc": lambda s, kept: naive_incremental_losses.distilled(s),
    "adc": lambda s, kept: naive_incremental_losses.distilled(s),
    "dpcr": lambda s, kept: naive_incremental_losses.distilled(s),
    "efcpp": lambda s, kept: naive_incremental_losses.efcpp(s, kept.importance),
    "adagauss": lambda s, kept: naive_incremental_losses.adagauss(s),
    "pass[draws=8]": lambda s, kept: naive_incremental_losses.pass_(s),
    "abd": lambda s, kept: naive_incremental_losses.abd(s),
    "r_dfcil": lambda s, kept: naive_incremental_losses.r_dfcil(s),
    "abd+rgal": lambda s, kept: naive_incremental_losses.abd(s) + 0.1 * gathered(s),
    "r_dfcil+rgal": lambda s, kept: naive_incremental_losses.r_dfcil(s) + 0.1 * gathered(s),
    "pass[draws=8]+rgal": lambda s, kept: (
        naive_incremental_losses.pass_(s) + 0.1 * gathered(s) + 0.1 * repelled(s, kept)
    ),
}
PARTS_OF = {
    "finetune": {"ce"},
    "finetune[classes=new]": {"ce"},
    "joint": {"ce"},
    "lwf": {"ce", "kd"},
    "ldc": {"ce", "kd"},
    "efcpp": {"ce", "efm"},
    "adagauss": {"ce", "kd", "collapse"},
    "pass": {"ce", "kd", "prototypes"},
    "abd": {"ce", "head", "kd"},
    "r_dfcil": {"ce", "kd", "rkd"},
}


def assert_gradients(mine: nn.Module, twin: nn.Module, total: Tensor) -> None:
    names, leaves = zip(*((n, p) for n, p in twin.named_parameters() if p.requires_grad), strict=True)
    wanted = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=True)
    own = gradients(mine)
    scale = max(float(g.abs().max()) for g in wanted if g is not None)
    for name, gradient in zip(names, wanted, strict=True):
        got = own.get(name)
        if gradient is None or got is None:
            assert got is None or got.abs().max() == 0, name
            assert gradient is None or gradient.abs().max() == 0, name
        else:
            torch.testing.assert_close(got, gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_the_total_of_a_step_and_its_gradients_are_the_twins(method: str) -> None:
    phase = learning(method)
    twin = copy.deepcopy(phase.nets["student"])
    terms = phase.loop.objective.terms
    trained = next((term for term in terms.values() if list(term.parameters())), None)
    projections = copy.deepcopy(trained)
    before = small.snapshot(phase.nets["teacher"])
    total = phase.step()
    expected = METHODS[method](seen_by_hand(phase, twin, projections), phase.memory)
    assert total == pytest.approx(expected.item(), rel=1e-5)
    assert_gradients(phase.nets["student"], twin, expected)
    if projections is not None:
        assert_gradients(trained, projections, expected)
    small.assert_same(small.snapshot(phase.nets["teacher"]), before)
    assert not gradients(phase.nets["teacher"])


@pytest.mark.parametrize("method", PARTS_OF)
def test_a_method_logs_its_parts_alone(method: str) -> None:
    phase = learning(method)
    phase.step()
    assert set(phase.loop.meter.take()) == PARTS_OF[method] | {"total"}


def test_r_dfcil_changes_over_when_the_classifier_is_refined() -> None:
    phase = learning("r_dfcil")
    parts = []
    for within in (0.0, 0.79, 0.8, 0.99):
        phase.step(within)
        parts.append(set(phase.loop.meter.take()) - {"total"})
    assert parts == [{"ce", "kd", "rkd"}] * 2 + [{"head", "kd"}] * 2


@pytest.mark.parametrize("method", ["r_dfcil", "r_dfcil+rgal"])
def test_the_refined_total_and_its_gradients_are_the_twins(method: str) -> None:
    """The second of two steps, so that counts of labels have a past. The gather triplet has no gradient left."""
    phase = refining(learning(method))
    phase.step(0.8)
    phase.loop.meter.take()
    twin = copy.deepcopy(phase.nets["student"])
    before = small.snapshot(phase.nets["student"])
    total = phase.step(0.9)
    by_hand = seen_by_hand(phase, twin, None)
    by_hand.earlier = by_hand.all_labels
    expected = naive_incremental_losses.r_dfcil_refined(by_hand)
    if "rgal" in method:
        # Its negatives are the second draw of their stream: take the value from the loop itself.
        assert total == pytest.approx(expected.item() + 0.1 * phase.loop.meter.take()["gather"], rel=1e-5)
    else:
        assert total == pytest.approx(expected.item(), rel=1e-5)
    assert_gradients(phase.nets["student"], twin, expected)
    assert set(gradients(phase.nets["student"])) == {n for n in before if n.startswith("fc.")}
    small.assert_same(
        small.snapshot(phase.nets["student"]), before
    )  # the step size is 0, statistics are frozen


def test_a_refining_step_moves_the_classifier_alone() -> None:
    """With decay and momentum, after steps that trained everything."""
    recipe = resolve("r_dfcil").recipe
    phase = learning("r_dfcil")
    spec = StudentSpec(recipe.transfer, SGD(0.1, 0.1, "constant"), 10, IncrementalAugmentation())
    phase.loop = StudentLoop(phase.nets, STILL, spec, Streams("cpu", "second phase"))
    phase.step(0.0)
    student = refining(phase).nets["student"]
    for parameter in extractor_parameters(student):
        parameter.grad = None
    before = small.snapshot(student)
    phase.step(0.8)
    after = small.snapshot(student)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {f"fc.parts.{i}.{what}" for i in (0, 1) for what in ("weight", "bias")}


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_nets_change_no_total_by_much(method: str) -> None:
    exact, phase = learning(method).step(), learning(method, "bf16")
    assert phase.step() == pytest.approx(exact, rel=0.05, abs=0.02)
    moved = gradients(phase.nets["student"])
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in moved.values())


@pytest.mark.parametrize("method", METHODS)
def test_few_images_give_finite_steps(method: str) -> None:
    """One real image, and one replayed where there are any."""
    phase = learning(method)
    keep = [0] if len(phase.images) == REAL else [0, REAL]
    student = phase.nets["student"]
    phase.loop.step(batch(phase.images[keep], phase.targets[keep], 1))
    assert torch.isfinite(torch.tensor(list(phase.loop.meter.take().values()))).all()
    assert all(torch.isfinite(value).all() for value in small.snapshot(student).values())
    assert all(torch.isfinite(g).all() for g in gradients(student).values())


def test_pass_draws_64_means_a_step() -> None:
    phase = learning("pass+rgal")
    terms = phase.loop.objective.terms
    assert terms["prototypes"].draws == terms["prototype_gather"].draws == 64


def test_fetril_takes_no_steps() -> None:
    for method in ("fetril", "fetril[classifier=fc]"):
        recipe = resolve(method).recipe
        assert recipe.transfer == () and recipe.rounds.student_steps == 0 and recipe.images is None
        assert spec_of(recipe).keeps == ("means",)
    assert spec_of(resolve("fetril+rgal").recipe).source_class == "spread"
