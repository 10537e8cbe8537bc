"""Losses of class-incremental methods against loops over images and classes, and where their gradients go."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rgal.core.observe import Observation
from rgal.tasks.class_incremental import terms as terms
from rgal.tasks.class_incremental.groups import grouped
from rgal.tasks.class_incremental.head import growing_head
from rgal.terms.objective import LossTerm, Progress, Term, TermContext
from tests.helpers import naive, small
from tests.helpers import naive_incremental as slow
from tests.helpers.two_phase_builders import STILL, gradients, logits_context, step_context, two_phases

REAL, REPLAYED, OLD, NEW, WIDTH = 5, 3, 4, 2, 5
N, CLASSES = REAL + REPLAYED, OLD + NEW
LABELS = torch.tensor([4, 5, 5, 4, 5, 0, 0, 0])  # those of replayed images mean nothing
SIZES = [(4, 2), (1, 1), (3, 5)]  # (old, new) classes


def setting(**sizes: int) -> TermContext:
    return TermContext(STILL, two_phases(**sizes))


def logits(old: int = OLD, new: int = NEW, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """(z, t): of both nets, correlated."""
    t = scale * small.randn(N, old, seed=1)
    return torch.cat([t, torch.zeros(N, new)], 1) + scale * small.randn(N, old + new), t


def labels_of(old: int, new: int) -> Tensor:
    real = old + torch.randint(0, new, (REAL,), generator=small.rng())
    return torch.cat([real, torch.zeros(REPLAYED, dtype=torch.int64)])


def features() -> tuple[Tensor, Tensor]:
    """(f, g) of both nets."""
    g = small.randn(N, WIDTH, seed=1)
    return g + 0.5 * small.randn(N, WIDTH), g


def on_logits(weighted: LossTerm, labels: Tensor = LABELS, real: int = REAL) -> Callable[..., Tensor]:
    term = weighted.build(setting())
    return lambda z, t: term(logits_context(z, t, labels, real))


def on_features(term: Term, nets: dict, labels: Tensor = LABELS, real: int = REAL):  # type: ignore[no-untyped-def, type-arg]
    return lambda f, g: term(step_context(nets, f, g, labels, real))


# Cross-entropies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_local_cross_entropy_equals_the_loop(old: int, new: int) -> None:
    z, t = logits(old, new)
    labels = labels_of(old, new)
    alpha, beta = slow.factors(old, new)
    for scale, factor in (("none", 1.0), ("share", new / (old + new)), ("r_dfcil", (1 + 1 / alpha) / beta)):
        small.assert_twins(
            on_logits(terms.local_cross_entropy(0.7, scale), labels),
            lambda z, t, f=factor: f * slow.local_cross_entropy(z[:REAL], labels[:REAL].tolist(), old),
            z,
            t,
        )


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("real", [REAL, 0])
def test_seen_cross_entropy_equals_the_loop(real: int, temperature: float) -> None:
    """Of the real images, or of all where there are no phases: then there is no old model to ask."""
    z, _ = logits()
    term = terms.seen_cross_entropy(1.0, temperature).build(TermContext(STILL, {}))
    ctx = small.context(targets=LABELS)

    def fast(z: Tensor) -> Tensor:
        ctx.observations = {("student", "global"): Observation(z)}
        ctx.groups = grouped(real, N) if real else {}
        return term(ctx)

    rows = real or N
    small.assert_twins(fast, lambda z: naive.cross_entropy(z[:rows] / temperature, LABELS[:rows]), z)
    assert [need.net for need in term.reads] == ["student"]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_balanced_cross_entropy_equals_the_loop(old: int, new: int) -> None:
    z, _ = logits(old, new)
    labels = labels_of(old, new)
    for real in (REAL, N, 0):
        small.assert_twins(
            lambda z, r=real: terms.balanced_cross_entropy_loss(z, labels, r, old),
            lambda z, r=real: slow.balanced_head(z, labels.tolist(), r, old),
            z,
        )


def test_the_balanced_head_weighs_every_class_alike() -> None:
    """With as many real as replayed images, spread evenly over their classes, each class has the weight 1/2C in all."""
    labels = torch.cat([torch.arange(OLD, CLASSES).repeat(6), torch.arange(OLD).repeat(3)])
    z = torch.zeros(24, CLASSES).requires_grad_()
    terms.balanced_cross_entropy_loss(z, labels, 12, OLD).backward()
    own = z.grad[torch.arange(24), labels] / (1 / CLASSES - 1)  # the weight of each image
    weights = torch.zeros(CLASSES).index_add(0, labels, own)
    torch.testing.assert_close(weights, torch.full((CLASSES,), 1 / (2 * CLASSES)))


def head_term(form: str) -> tuple[Term, dict]:  # type: ignore[type-arg]
    nets = two_phases()
    return terms.head_cross_entropy(1.0, form).build(TermContext(STILL, nets)), nets  # type: ignore[arg-type]


def test_head_cross_entropy_is_of_true_and_of_the_old_models_labels() -> None:
    for form in ("share", "counts"):
        term, nets = head_term(form)
        f, g = features()
        head = growing_head(nets["student"])
        weight, bias = head.weight(), torch.cat([part.bias for part in head.parts])
        replayed = growing_head(nets["teacher"])(g)[REAL:].argmax(1).tolist()
        all_labels = LABELS[:REAL].tolist() + replayed
        ctx = step_context(nets, f, g, LABELS, REAL)
        assert terms.incremental_labels(ctx).tolist() == all_labels and len(set(replayed)) > 1
        z = slow.head_logits(f.double(), weight.double(), bias.double())
        if form == "share":
            expected = slow.balanced_head(z, all_labels, REAL, OLD)
        else:
            expected = slow.counted_cross_entropy(z, all_labels, all_labels)
        assert term(ctx).item() == pytest.approx(expected.item(), rel=1e-5)


def test_counts_add_up_over_the_steps_and_are_stored() -> None:
    term, nets = head_term("counts")
    head, f = growing_head(nets["student"]), features()[0]
    so_far: list[int] = []
    for step in range(3):
        g = small.randn(N, WIDTH, seed=20 + step)
        ctx = step_context(nets, f, g, LABELS, REAL)
        labels = terms.incremental_labels(ctx).tolist()
        so_far += labels
        expected = slow.counted_cross_entropy(head(f).double(), labels, so_far)
        assert term(ctx).item() == pytest.approx(expected.item(), rel=1e-5)
        if step == 1:
            other, _ = head_term("counts")
            other.load_state_dict(small.reloaded(term.state_dict()))
            term = other
    assert list(term.state_dict()) == ["counts"] and not list(term.parameters())
    assert term.counts.tolist() == [so_far.count(c) for c in range(CLASSES)]


@pytest.mark.parametrize("form", ["share", "counts"])
def test_head_cross_entropy_trains_the_classifier_alone(form: str) -> None:
    term, nets = head_term(form)
    f, g = (x.requires_grad_() for x in features())
    term(step_context(nets, f, g, LABELS, REAL)).backward()
    assert f.grad is None and g.grad is None and not gradients(nets["teacher"])
    moved = gradients(nets["student"])
    assert set(moved) == {f"fc.parts.{i}.{what}" for i in (0, 1) for what in ("weight", "bias")}
    assert all(gradient.abs().max() > 0 for gradient in moved.values())


def test_local_cross_entropy_leaves_old_rows_alone() -> None:
    for weighted, spared in ((terms.local_cross_entropy(), True), (terms.seen_cross_entropy(), False)):
        nets = two_phases()
        f, g = features()
        term = weighted.build(TermContext(STILL, nets))
        term(step_context(nets, f.requires_grad_(), g, LABELS, REAL)).backward()
        moved = gradients(nets["student"])
        assert all((moved[f"fc.parts.0.{p}"].abs().max() == 0) == spared for p in ("weight", "bias"))
        assert moved["fc.parts.1.weight"].abs().max() > 0 and f.grad[:REAL].abs().max() > 0
        assert f.grad[REAL:].abs().max() == 0  # replayed images have none of it


# Distillation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_old_logit_distillation_equals_the_loop(old: int, new: int, temperature: float) -> None:
    small.assert_twins(
        on_logits(terms.old_logit_distillation(3.0, temperature)),
        lambda z, t: slow.soft_cross_entropy(z[:REAL], t[:REAL], temperature),
        *logits(old, new),
    )


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_hard_distillation_equals_the_loop(old: int, new: int) -> None:
    small.assert_twins(
        on_logits(terms.hard_distillation(0.15)),
        lambda z, t: slow.hard_distillation(z[REAL:], t[REAL:]),
        *logits(old, new),
    )


# new and old classes, and what R-DFCIL's terms are multiplied with in all
FACTORS = [
    (20, 20, 0.645, 0.519, 1.73),
    (10, 10, 0.693, 0.388, 1.29),
    (10, 90, 0.231, 1.163, 3.88),
    (5, 95, 0.178, 1.182, 3.94),
]


@pytest.mark.parametrize(("new", "old", "ce", "hkd", "rkd"), FACTORS)
def test_r_dfcils_factors_are_those_of_its_code(
    new: int, old: int, ce: float, hkd: float, rkd: float
) -> None:
    alpha, beta = terms.r_dfcil_factors(old, new)
    assert (alpha, beta) == pytest.approx(slow.factors(old, new))
    assert 0.5 * (1 + 1 / alpha) / beta == pytest.approx(ce, abs=5e-4)
    assert 0.15 * alpha * beta == pytest.approx(hkd, abs=6e-4)
    assert 0.5 * alpha * beta == pytest.approx(rkd, abs=6e-3)
    # And the terms have them: of uniform logits the cross-entropy is ln n, of logits one apart the distance is 1.
    z, t = torch.zeros(2, old + new), torch.ones(2, old)
    ctx = logits_context(z, t, torch.tensor([old, 0]), 1)
    loss = terms.local_cross_entropy(0.5, "r_dfcil").build(setting())(ctx)
    assert 0.5 * loss.item() == pytest.approx(ce * math.log(new), rel=3e-3)
    assert 0.15 * terms.hard_distillation(0.15).build(setting())(ctx).item() == pytest.approx(hkd, rel=2e-3)


def test_feature_distillation_equals_the_loop() -> None:
    old_head = small.randn(OLD, WIDTH, seed=3)
    small.assert_twins(
        lambda f, g, v: terms.feature_distillation_loss(f, g, v),
        slow.feature_distillation,
        *features(),
        old_head,
    )


def test_feature_distillation_reaches_the_new_features_and_nothing_old() -> None:
    """Nor the old classifier, which it looks through, even if that were not frozen."""
    nets = two_phases()
    nets["teacher"].requires_grad_(True)
    f, g = features()
    term = terms.feature_distillation(0.1).build(TermContext(STILL, nets))
    assert not list(term.parameters()) and not term.state_dict()
    f.requires_grad_()
    value = term(step_context(nets, f, g, LABELS, REAL))
    value.backward()
    expected = slow.feature_distillation(f.double(), g.double(), nets["teacher"].fc.weight().double())
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert not gradients(nets["teacher"]) and not gradients(nets["student"])
    assert f.grad.abs().amax(1).min() > 0  # of real and replayed images alike


def test_features_may_move_where_the_old_classifier_does_not_look() -> None:
    nets = two_phases(old=2)
    weight = nets["teacher"].fc.weight()
    blind = torch.linalg.svd(weight.detach())[2][2:]  # rows that no class of the old model sees
    g = features()[1]
    term = terms.feature_distillation(1.0).build(TermContext(STILL, nets))
    away = g + small.randn(N, 3, seed=5) @ blind
    assert term(step_context(nets, away, g, LABELS, REAL)).item() == pytest.approx(0, abs=1e-10)
    assert term(step_context(nets, g + weight.detach()[0], g, LABELS, REAL)).item() > 0.1


@pytest.mark.parametrize("n", [3, 6])
def test_angle_distillation_equals_the_triple_loop(n: int) -> None:
    small.assert_twins(
        terms.relational_distillation_loss,
        slow.angle_distillation,
        small.randn(n, 4),
        small.randn(n, 7, seed=1),
        tolerance=2e-5,
    )


def test_angle_cosines_equal_the_triple_loop() -> None:
    rows = small.randn(5, 3)
    cosines = terms.angle_cosines(rows)
    for i in range(5):
        for j in range(5):
            for k in range(5):
                expected = slow.cosine_at(i, j, k, rows.double()).item()
                assert cosines[i, j, k].item() == pytest.approx(expected, abs=1e-6)


def test_angles_ignore_shift_and_scale() -> None:
    rows = small.randn(6, 4)
    assert terms.relational_distillation_loss(3 * rows + 2, rows).item() == pytest.approx(0, abs=1e-6)


def test_relational_distillation_is_of_projected_real_features_and_trains_both_projections() -> None:
    nets = two_phases()
    weighted = terms.relational_distillation(0.5, until=0.8)
    term = weighted.build(TermContext(STILL, nets, seed=3))
    f, g = (x.requires_grad_() for x in features())
    value = term(step_context(nets, f, g, LABELS, REAL))
    new, old = (
        slow.head_logits(x[:REAL].double(), p.weight.double(), p.bias.double())
        for x, p in ((f, term.new), (g, term.old))
    )
    alpha, beta = slow.factors(OLD, NEW)
    expected = alpha * beta * slow.angle_distillation(new, old)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    twins = torch.autograd.grad(expected, [f, *term.parameters()])
    value.backward()
    for mine, twin in zip([f, *term.parameters()], twins, strict=True):
        torch.testing.assert_close(mine.grad, twin, rtol=1e-3, atol=1e-5)
    assert g.grad is None and not gradients(nets["teacher"]) and not gradients(nets["student"])
    assert f.grad[REAL:].abs().max() == 0 and term.old.weight.grad.abs().max() > 0
    assert [tuple(p.weight.shape) for p in (term.new, term.old)] == [(2 * WIDTH, WIDTH)] * 2
    again = weighted.build(TermContext(STILL, nets, seed=3))
    small.assert_same(small.snapshot(term), small.snapshot(again))
    assert not torch.equal(term.new.weight, term.old.weight)
    assert not torch.equal(term.new.weight, weighted.build(TermContext(STILL, nets, seed=4)).new.weight)


def test_feature_norm_distillation_is_the_norm_of_the_whole_batch() -> None:
    nets = two_phases()
    term = terms.feature_norm_distillation(10.0).build(TermContext(STILL, nets))
    f, g = features()
    small.assert_twins(lambda x: on_features(term, nets)(x, g), lambda x: slow.frobenius(x, g.double()), f)
    twice = on_features(term, nets, LABELS.repeat(2))(f.repeat(2, 1), g.repeat(2, 1))
    assert twice.item() == pytest.approx(math.sqrt(2) * on_features(term, nets)(f, g).item(), rel=1e-5)


# Schedules ------------------------------------------------------------------------------------------------------


def test_terms_come_and_go_inside_a_phase() -> None:
    until, since = terms.local_cross_entropy(until=0.8), terms.head_cross_entropy(since=0.8)
    steps = [Progress(0, 1, within=step / 10) for step in range(10)]
    assert [until.active(p) for p in steps] == [True] * 8 + [False] * 2
    assert [since.active(p) for p in steps] == [False] * 8 + [True] * 2
    replaying = [Progress(19, 20, 19, step / 10) for step in range(10)]
    assert [p.fraction for p in replaying] == pytest.approx([p.fraction for p in steps])
    assert Progress(3, 20, 19, 0.5).fraction == 0


def test_what_methods_replay_with_is_abds() -> None:
    parts = terms.replay_learning(0.3)
    assert [(w.name, w.weight) for w in parts] == [("ce", 1.0), ("head", 1.0), ("kd", 0.3)]


def test_terms_say_what_they_read() -> None:
    reads = {
        terms.local_cross_entropy: {("student", "logits"), ("teacher", "logits")},
        terms.head_cross_entropy: {("student", "feature"), ("teacher", "logits")},
        terms.feature_distillation: {("student", "feature"), ("teacher", "feature")},
        terms.hard_distillation: {("student", "logits"), ("teacher", "logits")},
        terms.relational_distillation: {("student", "feature"), ("teacher", "feature")},
        terms.feature_norm_distillation: {("student", "feature"), ("teacher", "feature")},
    }
    for make, wanted in reads.items():
        term = make(1.0).build(setting())
        assert {(need.net, need.what) for need in term.reads} == wanted
