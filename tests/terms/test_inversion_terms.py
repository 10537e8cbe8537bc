"""Synthesis terms against loops over samples, classes, channels and pixels: values, gradients, signs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rgal.core.observe import Observation
from rgal.terms.inversion import (
    adversarial,
    bn_statistics,
    image_l2,
    jensen_shannon,
    kl_div,
    masked_disagreement_loss,
    one_hot,
    total_variation,
    total_variation_l1_loss,
    total_variation_l2_loss,
)
from rgal.terms.objective import LossTerm, Progress, TermContext
from tests.helpers import naive, small

HALVES = [torch.float16, torch.bfloat16]


def logits(n: int = 6, classes: int = 4, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """(student, teacher), correlated, so that they agree on the class of some samples and not of others."""
    teacher = scale * small.randn(n, classes)
    return teacher + scale * small.randn(n, classes, seed=1), teacher


def images(seed: int = 0) -> Tensor:
    return small.rand(3, *small.COLOUR.shape, seed=seed)


def evaluate(weighted: LossTerm, **logits: Tensor) -> Tensor:
    """The term's value where the nets named in `seen` gave these logits."""
    term = weighted.build(TermContext(small.COLOUR, {}))
    assert {need.net for need in term.reads} == set(logits)
    return term(small.context(**{net: Observation(value) for net, value in logits.items()}))


# Divergences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
def test_kl_div_equals_the_loop(temperature: float) -> None:
    small.assert_twins(
        lambda s, t: kl_div(s, t, temperature), lambda s, t: naive.kl_div(s, t, temperature), *logits()
    )


def test_kl_div_without_reduction_has_one_value_a_sample() -> None:
    s, t = logits()
    expected = torch.stack(naive.kl_per_sample(s.double(), t.double(), 2.0))
    torch.testing.assert_close(kl_div(s, t, 2.0, "none").double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_kl_div_of_equal_logits_is_zero(temperature: float) -> None:
    s, _ = logits(scale=10.0)
    leaf = s.clone().requires_grad_()
    loss = kl_div(leaf, s, temperature)
    loss.backward()
    assert loss.item() == 0
    assert leaf.grad.abs().max() < 1e-6


@pytest.mark.parametrize("dtype", HALVES)
def test_kl_div_of_half_precision_logits(dtype: torch.dtype) -> None:
    s, t = (x.to(dtype) for x in logits())
    exact = naive.kl_div(s.double(), t.double(), 1.0).item()
    assert kl_div(s.float(), t.float()).item() == pytest.approx(exact, rel=1e-5)
    assert kl_div(s, t).item() == pytest.approx(exact, rel=20 * torch.finfo(dtype).eps)


def test_kl_div_keeps_finite_gradients_at_extreme_logits() -> None:
    s, t = logits(scale=500.0)
    s.requires_grad_()
    kl_div(s, t).backward()
    assert torch.isfinite(s.grad).all()


def test_masked_disagreement_equals_the_loop() -> None:
    s, t = logits(12)
    agree = (s.argmax(1) == t.argmax(1)).sum().item()
    assert 0 < agree < 12
    small.assert_twins(masked_disagreement_loss, naive.masked_disagreement, s, t)


def test_masked_disagreement_is_an_attached_zero_where_no_class_agrees() -> None:
    t = torch.eye(4) * 3
    s = t.roll(1, 1).requires_grad_()
    loss = masked_disagreement_loss(s, t)
    loss.backward()
    assert loss.item() == 0 and torch.equal(s.grad, torch.zeros_like(s))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_jensen_shannon_equals_the_loop(temperature: float) -> None:
    small.assert_twins(
        lambda s, t: jensen_shannon(s, t, temperature),
        lambda s, t: naive.jensen_shannon(s, t, temperature),
        *logits(),
    )


@pytest.mark.parametrize("classes", [4, 60])
def test_clamped_jensen_shannon_equals_the_loop(classes: int) -> None:
    small.assert_twins(
        lambda s, t: jensen_shannon(s, t, 3.0, clamp=True),
        lambda s, t: naive.clamped_jensen_shannon(s, t, 3.0),
        *logits(4, classes, scale=8.0),
    )


def test_clamped_jensen_shannon_averages_before_it_clamps() -> None:
    """p = 0.001, q = 0.029: their mean 0.015 is above the floor, that of the clamped ones is 0.0195."""
    p, q = torch.tensor([[0.001, 0.999]]), torch.tensor([[0.029, 0.971]])
    pc, qc, mc = torch.tensor([0.01, 0.99]), q[0], torch.tensor([0.015, 0.985])
    expected = 0.5 * float((mc * (mc / pc).log() + mc * (mc / qc).log()).sum())
    assert jensen_shannon(q.log(), p.log(), 1.0, clamp=True).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0, 100.0, 3000.0])
def test_jensen_shannon_lies_between_zero_and_ln_two(scale: float) -> None:
    s, t = (x.requires_grad_() for x in logits(30, 10, scale))
    value = jensen_shannon(s, t)
    assert -1e-6 <= value.item() <= math.log(2) + 1e-6
    value.backward()
    assert torch.isfinite(s.grad).all() and torch.isfinite(t.grad).all()


def test_jensen_shannon_at_its_ends_and_its_symmetry() -> None:
    s, t = logits(30, 10)
    assert jensen_shannon(s, s).item() == pytest.approx(0, abs=1e-6)
    assert jensen_shannon(s, t).item() == pytest.approx(jensen_shannon(t, s).item(), rel=1e-5)
    apart = 1e4 * torch.eye(4)
    assert jensen_shannon(apart, apart.roll(1, 1)).item() == pytest.approx(math.log(2))


def test_the_clamped_form_can_be_negative_with_many_classes() -> None:
    s, t = logits(8, 1000, scale=3.0)
    assert jensen_shannon(s, t, clamp=True).item() < 0 < jensen_shannon(s, t).item()


# Image priors ---------------------------------------------------------------------------------------------------


def test_total_variation_equals_the_loop() -> None:
    small.assert_twins(total_variation_l1_loss, naive.total_variation_l1, small.randn(2, 3, 5, 7))


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 2, 2), (3, 2, 1, 4), (2, 1, 3, 1)])
def test_total_variation_of_norms_equals_the_loop(shape: tuple[int, ...]) -> None:
    small.assert_twins(total_variation_l2_loss, naive.total_variation_l2, small.randn(*shape))


def test_total_variation_of_norms_grows_with_the_root_of_the_batch() -> None:
    x = small.randn(2, 3, 5, 7)
    assert total_variation_l2_loss(x.repeat(9, 1, 1, 1)).item() == pytest.approx(
        3 * total_variation_l2_loss(x).item()
    )


@pytest.mark.parametrize("loss", [total_variation_l1_loss, total_variation_l2_loss])
def test_total_variation_is_zero_for_flat_images(loss) -> None:  # type: ignore[no-untyped-def]
    flat = torch.full((2, 3, 4, 4), 0.7).requires_grad_()
    value = loss(flat)
    value.backward()
    assert value.item() == 0 and not flat.grad.any()


def test_total_variation_of_a_single_pixel_is_zero() -> None:
    assert total_variation_l2_loss(torch.rand(2, 3, 1, 1)).item() == 0


def test_the_image_terms_see_the_normalised_image() -> None:
    mean, std = small.COLOUR.mean, small.COLOUR.std

    def term(weighted: LossTerm, x: Tensor) -> Tensor:
        built = weighted.build(TermContext(small.COLOUR, {}))
        assert not built.reads
        return built(small.context(images=x))

    small.assert_twins(
        lambda x: term(total_variation(1.0), x),
        lambda x: naive.total_variation_l1(naive.normalised(x, mean, std)),
        images(),
    )
    small.assert_twins(lambda x: term(image_l2(1.0), x), lambda x: naive.image_l2(x, mean, std), images())


# The terms as recipes name them ---------------------------------------------------------------------------------


def test_one_hot_is_the_cross_entropy_of_the_teacher_and_the_targets() -> None:
    _, t = logits()
    targets = torch.tensor([0, 3, 1, 1, 2, 0])
    term = one_hot(1.0).build(TermContext(small.COLOUR, {}))
    small.assert_twins(
        lambda x: term(small.context(targets=targets, teacher=Observation(x))),
        lambda x: naive.cross_entropy(x, targets),
        t,
    )


FORMS = {
    "kl": naive.masked_disagreement,
    "js": lambda s, t: -naive.jensen_shannon(s, t, 3.0),
    "js_clamped": lambda s, t: -naive.clamped_jensen_shannon(s, t, 3.0),
}


@pytest.mark.parametrize("form", FORMS)
def test_adversarial_is_minus_the_disagreement(form: str) -> None:
    small.assert_twins(
        lambda s, t: evaluate(adversarial(1.0, form), student=s, teacher=t), FORMS[form], *logits(10)
    )


@pytest.mark.parametrize(("form", "lr"), [("kl", 0.5), ("js", 20.0)])
def test_minimising_adversarial_raises_disagreement(form: str, lr: float) -> None:
    t = 2 * small.randn(16, 4)
    s = (t + 0.2 * small.randn(16, 4, seed=1)).requires_grad_()
    before = naive.kl_div(s.detach().double(), t.double(), 1.0).item()
    optimiser = torch.optim.SGD([s], lr=lr)
    for _ in range(50):
        optimiser.zero_grad()
        evaluate(adversarial(1.0, form), student=s, teacher=t).backward()
        optimiser.step()
    assert naive.kl_div(s.detach().double(), t.double(), 1.0).item() > 2 * before


@pytest.mark.parametrize(("classes", "scale", "value"), [(10, 30.0, -1.0), (100, 1.0, 0.0)])
def test_the_clamped_divergence_stays_between_zero_and_one(classes: int, scale: float, value: float) -> None:
    """Clamped probabilities do not keep it there; the authors' code clamps the result, and no gradient is left."""
    s, t = (scale * small.randn(64, classes, seed=seed) for seed in (1, 2))
    assert not 0 <= jensen_shannon(s, t, clamp=True).item() <= 1
    s.requires_grad_()
    loss = evaluate(adversarial(1.0, "js_clamped"), student=s, teacher=t)
    loss.backward()
    assert loss.item() == value and not s.grad.any()


def test_adversarial_refuses_unknown_forms() -> None:
    with pytest.raises(KeyError):
        adversarial(1.0, "l1")


def test_adversarial_sits_out_warm_up() -> None:
    during, after = Progress(1, 10, warmup=2), Progress(2, 10, warmup=2)
    assert not adversarial(1.0).active(during) and adversarial(1.0).active(after)
    assert adversarial(1.0, after_warmup=False).active(during)
    for always in (one_hot(1.0), bn_statistics(1.0), total_variation(1.0), image_l2(1.0)):
        assert always.active(during) and always.active(after)


@pytest.mark.parametrize("make", [one_hot, bn_statistics, adversarial, total_variation, image_l2])
def test_constructors_keep_weight_and_have_distinct_names(make) -> None:  # type: ignore[no-untyped-def]
    names = {one_hot: "oh", bn_statistics: "bn", adversarial: "adv", total_variation: "tv", image_l2: "l2"}
    assert make(0.25).weight == 0.25 and make(0.25).name == names[make] and make(0.25).until == 1.0
