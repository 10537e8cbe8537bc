"""The objective: which terms run, what they read, what it costs. And the meter that adds their values up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rgal.core.meters import Meter
from rgal.core.seeding import Streams
from rgal.terms.objective import Context, LossTerm, Objective, Progress, Reads, TermContext, stateless
from tests.helpers import small


class Counting(nn.Module):
    """A net that counts its forward passes."""

    layer_names = ("body",)
    head_name = "head"

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.calls = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.body(x).mean((2, 3)))


def nets() -> dict[str, Counting]:
    return {"teacher": Counting(), "student": Counting()}


def square(net: str, what: str = "logits", view: str = "global"):  # type: ignore[no-untyped-def]
    def loss(ctx: Context) -> Tensor:
        observed = getattr(ctx.of(net, view), what)
        return (observed[0] if isinstance(observed, list) else observed).square().mean()

    return loss


def term(
    name: str, weight: float, net: str = "teacher", what: str = "logits", view: str = "global"
) -> LossTerm:
    return stateless(name, weight, square(net, what, view), Reads(net, what, view))


def run(objective: Objective, progress: Progress = Progress()):  # type: ignore[no-untyped-def]  # noqa: B008
    images = small.rand(2, *small.COLOUR.shape).requires_grad_()
    views = {"global": images * 2, "local": images + 1}
    targets = torch.zeros(2, dtype=torch.int64)
    return images, *objective(images, targets, views, Streams("cpu", 0), progress)


def test_the_total_is_the_weighted_sum() -> None:
    terms = [term("a", 0.5), term("b", -2.0, "student"), term("c", 3.0, "student", "feature")]
    _, total, parts, _ = run(Objective(terms, TermContext(small.COLOUR, nets())))
    assert list(parts) == ["a", "b", "c", "total"]
    expected = 0.5 * parts["a"] - 2 * parts["b"] + 3 * parts["c"]
    assert total.item() == pytest.approx(expected.item()) == parts["total"].item()
    assert total.requires_grad and not any(part.requires_grad for part in parts.values())


def test_each_net_runs_once_a_view_and_only_if_needed() -> None:
    these = nets()
    terms = [term("a", 1.0), term("b", 1.0, "teacher", "feature"), term("c", 1.0, view="local")]
    run(Objective(terms, TermContext(small.COLOUR, these)))
    assert these["teacher"].calls == 2 and these["student"].calls == 0


def test_terms_of_weight_zero_do_not_exist() -> None:
    def explode(setting: TermContext) -> None:
        raise AssertionError("built")

    these = nets()
    objective = Objective([term("a", 1.0), LossTerm("b", 0.0, explode)], TermContext(small.COLOUR, these))
    _, _, parts, _ = run(objective)
    assert set(parts) == {"a", "total"} and list(objective.terms) == ["a"]


def test_terms_come_and_go_with_the_rounds() -> None:
    late = LossTerm("late", 1.0, term("x", 1.0).build, after_warmup=True)
    early = LossTerm("early", 1.0, term("x", 1.0).build, until=0.5)
    these = nets()
    objective = Objective([late, early], TermContext(small.COLOUR, these))
    ran = [set(run(objective, Progress(r, 12, warmup=2))[2]) - {"total"} for r in range(12)]
    assert ran == [{"early"}] * 2 + [{"late", "early"}] * 5 + [{"late"}] * 5


def test_terms_come_and_go_inside_a_round() -> None:
    """From `since` on, and before `until`: two parts of a phase share no step, and none is left out."""
    early = LossTerm("early", 1.0, term("x", 1.0).build, until=0.75)
    late = LossTerm("late", 1.0, term("x", 1.0).build, since=0.75)
    objective = Objective([early, late], TermContext(small.COLOUR, nets()))
    ran = [set(run(objective, Progress(0, 1, within=step / 8))[2]) - {"total"} for step in range(8)]
    assert ran == [{"early"}] * 6 + [{"late"}] * 2


def test_the_context_knows_the_groups_of_its_batch() -> None:
    objective = Objective([term("a", 1.0)], TermContext(small.COLOUR, nets()))
    images, targets = small.rand(3, *small.COLOUR.shape), torch.zeros(3, dtype=torch.int64)
    arguments = (images, targets, {"global": images}, Streams("cpu", 0), Progress())
    groups = {"real": slice(0, 2)}
    assert objective(*arguments)[2].groups == {} and objective(*arguments, groups)[2].groups == groups


def test_a_silent_objective_costs_nothing() -> None:
    these = nets()
    late = LossTerm("late", 1.0, term("x", 1.0).build, after_warmup=True)
    _, total, parts, _ = run(Objective([late], TermContext(small.COLOUR, these)), Progress(0, 4, warmup=1))
    assert total.item() == 0 and set(parts) == {"total"} and these["teacher"].calls == 0


def test_nets_without_gradient_pass_none_back() -> None:
    terms = [term("a", 1.0), term("b", 1.0, "student")]
    images, total, _, ctx = run(Objective(terms, TermContext(small.COLOUR, nets()), no_grad=["teacher"]))
    assert not ctx.of("teacher").logits.requires_grad and ctx.of("student").logits.requires_grad
    total.backward()
    assert images.grad is not None


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="share a name"):
        Objective([term("a", 1.0), term("a", 2.0)], TermContext(small.COLOUR, nets()))


def test_views_counts_inactive_terms_too() -> None:
    late = LossTerm("late", 1.0, term("x", 1.0, view="local").build, after_warmup=True)
    assert Objective([late], TermContext(small.COLOUR, nets())).views() == {"global", "local"}


@pytest.mark.parametrize(
    ("round_", "rounds", "warmup", "fraction"),
    [(0, 10, 0, 0.0), (5, 10, 0, 0.5), (1, 10, 2, 0.0), (6, 10, 2, 0.5)],
)
def test_progress_counts_from_the_end_of_warm_up(
    round_: int, rounds: int, warmup: int, fraction: float
) -> None:
    assert Progress(round_, rounds, warmup).fraction == fraction


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [
        (Progress(0, 1, 0, 0.25), 0.25),
        (Progress(19, 20, 19, 0.25), 0.25),
        (Progress(3, 20, 19, 0.5), 0.0),
        (Progress(1, 4, 0, 0.5), 0.375),
    ],
)
def test_progress_inside_a_round_counts_too(progress: Progress, fraction: float) -> None:
    """A phase of class-incremental learning is one round, or the last after rounds of images alone."""
    assert progress.fraction == pytest.approx(fraction)


def test_a_meter_is_the_mean_over_the_steps_in_which_a_value_occurred() -> None:
    meter, rows = Meter(), [{"a": 1.0, "b": 4.0}, {"a": 2.0}, {"a": 6.0, "b": 5.0}]
    for row in rows:
        meter.add({name: torch.tensor(value, requires_grad=True) for name, value in row.items()})
    assert meter.peek("a") == 3.0 and meter.peek("c") is None
    again = Meter()
    again.load_state_dict(small.reloaded(meter.state_dict()))
    assert meter.take() == again.take() == {"a": 3.0, "b": 4.5}
    assert meter.take() == {}


def test_a_meters_state_does_not_follow_it() -> None:
    meter = Meter()
    meter.add({"a": torch.tensor(1.0)})
    state = meter.state_dict()
    meter.add({"a": torch.tensor(5.0)})
    again = Meter()
    again.load_state_dict(state)
    assert again.take() == {"a": 1.0} and meter.take() == {"a": 3.0}
