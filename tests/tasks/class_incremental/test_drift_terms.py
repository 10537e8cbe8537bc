"""Terms and trainings of learners whose extractor moves: vectors, twins, and what must stay as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rgal.core.observe import batch_norms
from rgal.core.seeding import global_seed
from rgal.tasks.class_incremental.drift_terms import (
    ImportanceDistillation,
    ProjectedDistillation,
    anti_collapse_loss,
    feature_importance,
    importance_distillation_loss,
)
from rgal.tasks.class_incremental.groups import IncrementalTermData
from rgal.tasks.class_incremental.head import GrowingHead, growing_head
from rgal.tasks.class_incremental.rebalance import Rebalance, drawn_features
from rgal.tasks.class_incremental.statistics import ClassStatistics, Collecting, add_classes
from rgal.terms.objective import TermContext
from tests.helpers import naive_statistics_learners as slow
from tests.helpers import small
from tests.helpers.necil_builders import BASE, SHORT, STEP, finish, start
from tests.helpers.two_phase_builders import step_context, two_phases

W = torch.tensor([[1.0, 0], [0, 1], [-1, 1]])
E = torch.tensor([[0.46515, -0.20439], [-0.20439, 0.14912]])


def head_of(weight: torch.Tensor, bias: torch.Tensor | None = None) -> GrowingHead:
    linear = nn.Linear(weight.shape[1], len(weight))
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
    return GrowingHead(linear)


# The importance of features -------------------------------------------------------------------------------------


def test_the_importance_by_hand_and_by_loops() -> None:
    features = torch.tensor([[1.0, 2], [0, 1]])
    found = feature_importance(head_of(W), features)
    torch.testing.assert_close(found, E, rtol=0, atol=1e-5)
    weight, bias, rows = small.randn(4, 6), small.randn(4, seed=1), small.randn(9, 6, seed=2)
    wanted = slow.importance(weight, bias, rows)
    torch.testing.assert_close(
        feature_importance(head_of(weight, bias), rows).double(), wanted, rtol=1e-5, atol=1e-6
    )


def test_the_distance_under_the_importance() -> None:
    old, new = torch.tensor([[1.0, 2], [0, 1], [2, 0]]), torch.tensor([[2.0, 2], [0, 0], [2, 1]])
    assert importance_distillation_loss(new, old, E, 10, 0.1).item() == pytest.approx(2.64466, abs=5e-5)

    def loop(f: torch.Tensor, g: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        metric = 10 * matrix + 0.1 * torch.eye(len(matrix), dtype=torch.float64)
        return sum((a - b) @ metric @ (a - b) for a, b in zip(f, g, strict=True)) / len(f)

    x, y, z = small.randn(5, 4), small.randn(5, 4, seed=1), small.randn(4, 4, seed=2)
    small.assert_twins(lambda f, g, m: importance_distillation_loss(f, g, m, 10, 0.1), loop, x, y, z @ z.T)


def test_terms_read_features_of_both_models() -> None:
    nets = two_phases(width=2)
    data = IncrementalTermData(ClassStatistics(importance=E))
    context = TermContext(small.GREY, nets, 3, data)
    f, g = torch.tensor([[2.0, 2], [0, 0], [2, 1]]), torch.tensor([[1.0, 2], [0, 1], [2, 0]])
    ctx = step_context(nets, f.clone().requires_grad_(), g, torch.tensor([4, 5, 4]), 3)
    assert ImportanceDistillation(context, 10, 0.1)(ctx).item() == pytest.approx(2.64466, abs=5e-5)
    term = ProjectedDistillation(context, width=3)
    with torch.no_grad():
        wanted = (term.layers(f) - g).square().sum() / g.numel()
    assert term(ctx).item() == pytest.approx(wanted.item(), rel=1e-6)
    assert [tuple(p.shape) for p in term.parameters()] == [(6, 2), (6,), (2, 6), (2,)]
    small.assert_same(small.snapshot(term), small.snapshot(ProjectedDistillation(context, width=3)))


# Anti-collapse --------------------------------------------------------------------------------------------------


def test_anti_collapse_by_hand_and_by_cholesky_s_recursion() -> None:
    rows = torch.tensor([[0.0, 0], [1, 0], [0, 1], [2, 1]])
    assert anti_collapse_loss(rows, jitter=0.0).item() == pytest.approx(-0.75395, abs=1e-5)
    x = 0.8 * small.randn(20, 4)
    small.assert_twins(lambda x: anti_collapse_loss(x, 1.0, 0.0), slow.anti_collapse, x)
    small.assert_twins(lambda x: anti_collapse_loss(x, 0.5, 0.0), lambda x: slow.anti_collapse(x, 0.5), x)


def test_fewer_images_than_features_give_finite_gradients() -> None:
    rows = small.rand(5, 12)
    rows[:, 3] = 0
    rows.requires_grad_()
    loss = anti_collapse_loss(rows)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(rows.grad).all() and rows.grad.abs().max() > 0


# The classifier alone -------------------------------------------------------------------------------------------


def test_samples_have_their_class_s_numbers_and_moments() -> None:
    means = torch.tensor([[1.0, 2], [-3, 0]])
    roots = torch.tensor([[[2.0, 0], [1, 0.5]], [[0.1, 0], [0, 0.1]]])
    rows, classes = drawn_features(means, roots, torch.tensor([20_000, 5]), small.rng())
    assert classes.bincount().tolist() == [20_000, 5]
    torch.testing.assert_close(rows[classes == 0].mean(0), means[0], rtol=0, atol=0.06)
    torch.testing.assert_close(torch.cov(rows[classes == 0].T), roots[0] @ roots[0].T, rtol=0.05, atol=0.05)


def test_a_rebalanced_head_knows_old_and_new_classes_again() -> None:
    labels = torch.arange(4).repeat_interleave(40)
    centres = 3 * small.randn(4, 5, seed=3)
    rows = centres[labels] + 0.3 * small.randn(160, 5)
    keep = Collecting(("means", "covariances", "counts"))
    kept = add_classes(ClassStatistics(), rows[:80], labels[:80], range(2), keep)
    with global_seed("head"):
        head = GrowingHead(nn.Linear(5, 2))
    head.add(2, "new")
    head.requires_grad_(False)
    before = small.snapshot(head)
    Rebalance(epochs=30, lr=0.02, batch=32)(head, kept, rows[80:], labels[80:], seed=1)
    assert (head(rows).argmax(1) == labels).double().mean() > 0.95
    assert all(p.grad is None and not p.requires_grad for p in head.parameters())
    after = small.snapshot(head)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    head.load_state_dict(before)
    Rebalance(epochs=30, lr=0.02, batch=32)(head, kept, rows[80:], labels[80:], seed=1)
    small.assert_same(small.snapshot(head), after)


# In a run -------------------------------------------------------------------------------------------------------


def test_a_first_phase_with_rotations_leaves_the_upright_outputs() -> None:
    going = start("efcpp")
    trained = growing_head(going.job.problem.teacher).weight()
    assert len(trained) == 4 * BASE
    assert torch.equal(growing_head(going.student).weight(), trained[::4])
    finish(going)
    assert len(growing_head(going.job.problem.teacher).weight()) == 4 * BASE  # it is shared: not cut


def test_what_is_frozen_stays_while_the_rest_learns() -> None:
    """Affine parts and statistics of batch norms, and the classifier's old rows until the end of the phase."""
    going = start("efcpp", schedule=SHORT.model_copy(update={"rounds": 1, "warmup": 0, "student_steps": 4}))
    norms, heads, nets = [], [], []
    while not going.finished:
        going.advance()
        if going.phase == 1 and going.transfer is not None and going.transfer.mode == "student":
            norms.append([small.snapshot(norm) for norm in batch_norms(going.student)])
            heads.append([small.snapshot(part) for part in growing_head(going.student).parts])
            nets.append(small.snapshot(going.student))
    assert len(nets) > 3 and len(heads[0]) == 2
    for later in range(1, len(nets)):
        small.assert_same(norms[later], norms[0])
        small.assert_same(heads[later][0], heads[0][0])
    assert not torch.equal(heads[-1][1]["weight"], heads[0][1]["weight"])
    moved = [name for name in nets[0] if not torch.equal(nets[0][name], nets[-1][name])]
    assert any("conv" in name for name in moved)
    assert len(growing_head(going.student).weight()) == BASE + 2 * STEP
