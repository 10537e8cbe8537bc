"""Terms that pull images of old classes out of a model (ABD), against loops over classes, channels and pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rgal.core.batch_statistics import channel_statistics
from rgal.core.errors import UserError
from rgal.core.observe import BatchNormStatistics, Observation
from rgal.tasks.class_incremental import replay
from rgal.terms.batch_norm import bn_gaussian_loss
from rgal.terms.objective import Objective, Progress, TermContext
from tests.helpers import naive, small
from tests.helpers import naive_incremental as slow
from tests.helpers.two_phase_builders import STILL, two_phases

RUNNING = [(small.randn(c, seed=c), small.rand(c, seed=c) + 0.5) for c in (3, 2)]
TEACHER = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(2))


def statistics(inputs: tuple[Tensor, ...]) -> list[BatchNormStatistics]:
    return [
        BatchNormStatistics(*channel_statistics(x), *running)
        for x, running in zip(inputs, RUNNING, strict=True)
    ]


def maps() -> list[Tensor]:
    return [small.randn(4, 3, 2, 3) + 1, 2 * small.randn(4, 2, 2, 2, seed=1)]


# Classes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_content_equals_the_loop(temperature: float) -> None:
    term = replay.content(1.0, temperature).build(TermContext(STILL, {}))
    small.assert_twins(
        lambda t: term(small.context(teacher=Observation(t))),
        lambda t: slow.content(t, temperature),
        3 * small.randn(6, 4),
    )
    assert [(need.net, need.what) for need in term.reads] == [("teacher", "logits")]


def test_contents_gradient_shrinks_with_the_temperature() -> None:
    """At the release's 1000 to about a thousandth; to float32 digits, which the loss itself does not have."""
    t = 3 * small.randn(6, 4)
    sizes = []
    for temperature in (1.0, 1000.0):
        leaf = t.clone().requires_grad_()
        replay.content_loss(leaf, temperature).backward()
        twin = t.double().requires_grad_()
        slow.content(twin, temperature).backward()
        torch.testing.assert_close(leaf.grad.double(), twin.grad, rtol=1e-3, atol=1e-9)
        sizes.append(leaf.grad.norm().item())
    assert 5e-4 < sizes[1] / sizes[0] < 1e-2
    assert replay.content(1.0).build(TermContext(STILL, {}))(
        small.context(teacher=Observation(t))
    ).item() == pytest.approx(math.log(4), abs=0.01)


@pytest.mark.parametrize("classes", [2, 5])
def test_diversity_equals_the_loop(classes: int) -> None:
    term = replay.diversity(1.0).build(TermContext(STILL, {}))
    small.assert_twins(
        lambda t: term(small.context(teacher=Observation(t))), slow.diversity, 3 * small.randn(6, classes)
    )


def test_diversity_is_between_zero_for_all_classes_alike_and_one_for_a_single_one() -> None:
    term = replay.diversity(1.0).build(TermContext(STILL, {}))

    def value(labels: list[int], classes: int = 4) -> float:
        t = (500 * torch.eye(classes)[labels]).requires_grad_()
        loss = term(small.context(teacher=Observation(t)))
        loss.backward()
        assert torch.isfinite(t.grad).all()
        return loss.item()

    assert value([0, 1, 2, 3]) == pytest.approx(0, abs=1e-6)
    assert value([2, 2, 2, 2]) == pytest.approx(1, abs=1e-6)
    assert value([0, 0, 1, 1]) == pytest.approx(0.5, abs=1e-6)
    assert value([0, 0], classes=1) == pytest.approx(1)


# Statistics -----------------------------------------------------------------------------------------------------


def test_running_divergence_equals_the_loop() -> None:
    small.assert_twins(
        lambda *x: replay.bn_running_loss(statistics(x)),
        lambda *x: slow.running_divergence(x, RUNNING),
        *maps(),
    )


def test_running_divergence_is_kl_of_the_running_gaussian_to_the_batchs() -> None:
    """By torch's own closed form; in the other direction it is another number."""
    of_layers, expected = statistics(tuple(maps())), []
    for s in of_layers:
        batch, running = (
            torch.distributions.Normal(mean, (var + 1e-8).sqrt())
            for mean, var in ((s.mean, s.var), (s.running_mean, s.running_var))
        )
        expected.append(torch.distributions.kl_divergence(running, batch).mean())
    value = replay.bn_running_loss(of_layers)
    torch.testing.assert_close(value, torch.stack(expected).mean())
    assert abs(value.item() - bn_gaussian_loss(of_layers).item() / 5) > 0.1


def test_a_nearly_constant_channel_weighs_as_in_the_code() -> None:
    """With 1e-8 added to variances, not batch norm's 1e-5: 11 times as much at a variance of 1e-6."""
    near = BatchNormStatistics(torch.zeros(1), torch.tensor([1e-6]), torch.zeros(1), torch.ones(1))
    expected = 0.5 * (1 / 1.01e-6 + math.log(1.01e-6) - 1)
    assert replay.bn_running_loss([near]).item() == pytest.approx(expected, rel=1e-4)


def test_running_divergence_is_zero_where_the_statistics_agree() -> None:
    same = [BatchNormStatistics(mean, var, mean, var) for mean, var in RUNNING]
    assert replay.bn_running_loss(same).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("what", ["batch", "running", "both"])
def test_a_dead_channel_leaves_it_finite(what: str) -> None:
    x = torch.zeros(2, 3, 2, 2) if what != "running" else small.randn(2, 3, 2, 2)
    x.requires_grad_()
    var = torch.ones(3) if what == "batch" else torch.zeros(3)
    value = replay.bn_running_loss([BatchNormStatistics(*channel_statistics(x), torch.zeros(3), var)])
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(x.grad).all()


def test_the_statistics_term_is_of_the_old_model_and_refuses_one_without_batch_norm() -> None:
    term = replay.bn_running(50.0).build(TermContext(STILL, {"teacher": TEACHER}))
    of_layers = statistics(tuple(maps()))
    value = term(small.context(teacher=Observation(torch.zeros(1), bn=of_layers)))
    assert torch.equal(value, replay.bn_running_loss(of_layers))
    assert [(need.net, need.what) for need in term.reads] == [("teacher", "bn")]
    with pytest.raises(UserError, match="no BatchNorm2d layer"):
        replay.bn_running(50.0).build(TermContext(STILL, {"teacher": nn.Linear(2, 2)}))


# Smoothness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (1, 1, 3, 3)])
def test_roughness_equals_the_loop(shape: tuple[int, ...]) -> None:
    small.assert_twins(
        lambda x: replay.smoothness_loss(x, replay.gaussian_kernel()), slow.roughness, small.randn(*shape)
    )


def test_the_kernel_is_the_releases_with_a_deviation_of_root_two() -> None:
    """Its exponent is -(d / 2)^2 for a deviation that it calls 1, which is -d^2 / (2 * 2)."""
    kernel = replay.gaussian_kernel()
    assert kernel.shape == (5, 5) and kernel.sum().item() == pytest.approx(1)
    assert torch.equal(kernel, kernel.T) and torch.equal(kernel, kernel.flip(0))
    for y in range(5):
        for x in range(5):
            expected = math.exp(-((x - 2) ** 2) / 4) * math.exp(-((y - 2) ** 2) / 4)
            assert (kernel[y, x] / kernel[2, 2]).item() == pytest.approx(expected, rel=1e-5)


def test_flat_images_are_smooth_and_noise_is_rough() -> None:
    kernel = replay.gaussian_kernel()
    flat, noise = torch.full((1, 3, 8, 8), 0.3), small.rand(1, 3, 8, 8)
    assert replay.smoothness_loss(flat, kernel).item() == pytest.approx(0, abs=1e-12)
    assert replay.smoothness_loss(noise, kernel) > 0.05


def test_the_smoothness_term_sees_the_normalised_image() -> None:
    term = replay.smoothness(1e-3).build(TermContext(small.COLOUR, {}))
    assert not term.reads and not term.state_dict() and not list(term.parameters())
    x = small.rand(1, 3, 6, 6)
    small.assert_twins(
        lambda x: term(small.context(images=x)),
        lambda x: slow.roughness(naive.normalised(x, small.COLOUR.mean, small.COLOUR.std)),
        x,
    )


# Together -------------------------------------------------------------------------------------------------------


def test_dreams_are_the_four_terms() -> None:
    parts = replay.generator_terms(1.0, 1000.0, 0.5, 50.0, 1e-3)
    assert [(w.name, w.weight) for w in parts] == [("oh", 1.0), ("ie", 0.5), ("bn", 50.0), ("smooth", 1e-3)]


def test_the_synthesis_loss_of_a_real_net_is_its_twins() -> None:
    """Through the objective, on images in [0,1]; the gradient on the images too."""
    nets = two_phases()
    teacher = nets["teacher"]
    objective = Objective(replay.generator_terms(1.0, 1000.0, 1.0, 50.0, 1e-3), TermContext(STILL, nets))
    running = [(teacher.bn.running_mean, teacher.bn.running_var)]

    def fast(x: Tensor) -> Tensor:
        views = {"global": STILL.normalise(x)}
        streams = small.context().streams
        return objective(x, torch.zeros(len(x), dtype=torch.int64), views, streams, Progress())[0]

    def twin(x: Tensor) -> Tensor:
        inputs = naive.normalised(x, STILL.mean, STILL.std)
        maps = teacher.conv(inputs.float()).double()
        logits = teacher(inputs.float()).double()
        parts = slow.content(logits, 1000), slow.diversity(logits), slow.running_divergence([maps], running)
        return parts[0] + parts[1] + 50 * parts[2] + 1e-3 * slow.roughness(inputs)

    small.assert_twins(fast, twin, small.rand(4, *STILL.shape), tolerance=1e-4)
