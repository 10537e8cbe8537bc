"""SpaceshipNet's terms: maps of the teacher's class in every layer, and of every class in the last."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rgal.core.errors import UserError
from rgal.core.observe import observe
from rgal.core.seeding import Streams
from rgal.terms.class_maps import gradient_map_matching, head_map_matching, layer_map_loss
from rgal.terms.objective import Objective, Progress, TermContext
from tests.helpers import small

X = small.randn(5, *small.COLOUR.shape)


def networks(student: str = "resnet8") -> dict[str, torch.nn.Module]:
    teacher = small.network("resnet8", small.COLOUR, 1).eval().requires_grad_(False)
    return {"teacher": teacher, "student": small.student(name=student).eval()}


def value(term, nets) -> torch.Tensor:  # type: ignore[no-untyped-def]
    objective = Objective([term], TermContext(small.COLOUR, nets), {"teacher"})
    total, _, _ = objective(
        X, torch.zeros(5, dtype=torch.int64), {"global": X}, Streams("cpu", 0), Progress()
    )
    return total


def test_gradient_maps_equal_the_formula_and_are_constants_in_their_weights() -> None:
    nets = networks()
    seen = {name: observe(net, X.clone().requires_grad_(), ["layers"]) for name, net in nets.items()}
    classes = seen["teacher"].logits.argmax(1)
    expected = torch.zeros(())
    for layer in range(len(seen["teacher"].layers)):
        maps = {}
        for name, one in seen.items():
            score = sum(one.logits[i, classes[i]] for i in range(5))
            (gradient,) = torch.autograd.grad(score, one.layers[layer], retain_graph=True)
            a = gradient.mean((2, 3))
            maps[name] = sum(a[:, k, None, None] * one.layers[layer][:, k] for k in range(a.shape[1]))
        expected = expected + F.mse_loss(maps["student"], maps["teacher"].detach())
    total = value(gradient_map_matching(1.0), nets)
    torch.testing.assert_close(total, expected)
    ours, theirs = (
        torch.autograd.grad(v, list(nets["student"].parameters()), allow_unused=True)
        for v in (total, expected)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None) and (a is None or torch.allclose(a, b, rtol=1e-4, atol=1e-7))


def test_head_maps_are_the_logits_before_their_spatial_mean() -> None:
    """Their spatial mean is the logit without its bias; and the loss is the mean over all elements."""
    nets = networks()
    total = value(head_map_matching(1.0), nets)
    maps = {}
    for name, net in nets.items():
        seen, head = observe(net, X, ["layers"]), net.get_submodule(net.head_name)
        maps[name] = F.conv2d(seen.layers[-1], head.weight[:, :, None, None])
        torch.testing.assert_close(maps[name].mean((2, 3)) + head.bias, seen.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(total, F.mse_loss(maps["student"], maps["teacher"]))
    total.backward()
    head = nets["student"].get_submodule(nets["student"].head_name)
    assert head.weight.grad is None  # a constant here


def test_a_student_like_its_teacher_has_nothing_to_learn_and_sizes_are_matched() -> None:
    nets = networks()
    nets["student"].load_state_dict(nets["teacher"].state_dict())
    for term in (gradient_map_matching(1.0), head_map_matching(1.0)):
        assert value(term, nets).item() == pytest.approx(0, abs=1e-10)
    coarse = small.randn(2, 1, 4, 4)
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert layer_map_loss([fine], [coarse]).item() == pytest.approx(0, abs=1e-10)


def test_a_head_that_does_not_pool_is_refused() -> None:
    nets = networks(student="lenet5")
    with pytest.raises(UserError, match="the term 'cam' applies the student's head .* cam=0"):
        value(head_map_matching(1.0), nets)
