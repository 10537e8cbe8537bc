"""A run as a machine: what it trains, what it leaves alone, and that stopping it anywhere changes no number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rgal.core.seeding import Streams
from rgal.engine.options import Diverged, Row
from rgal.engine.run import TransferRun
from rgal.methods.plus_rgal import plus_rgal
from rgal.methods.rgal_options import RgalOptions
from rgal.synthesis.pool import ImagePool
from rgal.terms.objective import stateless
from rgal.terms.transfer import distillation
from tests.helpers import small
from tests.helpers.runs import (
    RECIPES,
    ROUNDS,
    STOPS,
    assert_resumes,
    finish,
    make_problem,
    make_run,
    measure,
    named,
    real_pool,
    reference,
    whole_run,
)

# Stop and go ----------------------------------------------------------------------------------------------------


# Parts of others, or stopped in tests/engine/test_method_resume.py.
SLOW = ("plain", "rgal", "cmi", "deepinversion", "reptile")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in RECIPES]
)
def test_a_stopped_run_ends_with_the_same_numbers(name: str) -> None:
    assert_resumes(RECIPES[name], STOPS).assert_same(reference(name))


def iterate(transfer: TransferRun) -> Iterable[list[Row]]:
    while not transfer.finished:
        yield transfer.advance()


def test_a_state_is_whole_after_the_end() -> None:
    transfer = make_run(RECIPES["rgal"])
    finish(transfer)
    again = make_run(RECIPES["rgal"])
    again.load_state_dict(small.reloaded(transfer.state_dict()))
    assert again.finished and again.position().done == 1.0
    small.assert_same(small.snapshot(again.student), small.snapshot(transfer.student))


def test_runs_of_one_seed_agree_and_of_two_seeds_do_not() -> None:
    finish(make_run(RECIPES["rgal"])).assert_same(reference("rgal"))
    other = make_run(RECIPES["rgal"])
    other.streams.parts = ("stage", 1)
    assert not torch.equal(finish(other).pool[0], reference("rgal").pool[0])


def test_global_randomness_changes_nothing() -> None:
    torch.manual_seed(123)
    transfer = make_run(RECIPES["cmi+rgal"])
    torch.manual_seed(321)
    finish(transfer).assert_same(reference("cmi+rgal"))


# Recipes that are the same ----------------------------------------------------------------------------------------


def test_rgal_without_its_terms_is_plain() -> None:
    finish(make_run(named("rgal[spread=0,gather=0,cd=0,pairs=false]"))).assert_same(reference("plain"))


def test_rgal_is_plain_plus_rgal() -> None:
    plus = plus_rgal(named("plain"), RgalOptions(spread=0.0, gather=0.0))
    finish(make_run(named("rgal[spread=0,gather=0]"))).assert_same(finish(make_run(plus)))
    finish(make_run(named("plain+rgal"))).assert_same(reference("rgal"))


def test_the_relation_terms_change_the_numbers() -> None:
    outcomes = [reference("plain"), reference("rgal"), finish(make_run(named("rgal[follows=code]")))]
    for i, outcome in enumerate(outcomes):
        assert all(not torch.equal(outcome.pool[0], other.pool[0]) for other in outcomes[:i])


# Rows -----------------------------------------------------------------------------------------------------------


def test_rows_say_where_they_were_taken() -> None:
    rows = reference("rgal").rows
    assert [row["kind"] for row in rows] == ["synthesis", "student", "evaluation"] * 3
    assert [row["round"] for row in rows] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [row["synthesis_steps"] for row in rows if row["kind"] == "synthesis"] == [3, 6, 9]
    assert [row["student_steps"] for row in rows if row["kind"] == "student"] == [2, 4, 6]
    assert [row["images"] for row in rows if row["kind"] == "synthesis"] == [10, 20, 30]
    parts = {"bn", "oh", "adv", "spread", "total", "spread_fallback", "spread_same", "spread_different"}
    assert parts <= rows[0].keys() and {"kd", "cd", "gather", "gather_fallback"} <= rows[1].keys()


def test_a_rows_total_is_the_weighted_sum_of_its_parts() -> None:
    weights = {w.name: w.weight for w in RECIPES["rgal"].synthesis if w.weight}
    for row in reference("rgal").rows:
        if row["kind"] == "synthesis":
            assert row["total"] == pytest.approx(sum(w * row[name] for name, w in weights.items()), rel=1e-5)


def test_warm_up_rounds_only_synthesise() -> None:
    rows = reference("warm-up").rows
    assert [row["kind"] for row in rows] == ["synthesis", *["synthesis", "student", "evaluation"] * 2]
    assert "adv" not in rows[0] and "spread" in rows[0] and "adv" in rows[1]
    assert rows[-1]["student_steps"] == 4


def test_evaluations_come_every_so_often_and_at_the_end() -> None:
    rows = finish(make_run(RECIPES["plain"], evaluate_every=2)).rows
    assert [row["round"] for row in rows if row["kind"] == "evaluation"] == [2, 3]


def test_the_position_grows_from_zero_to_one() -> None:
    transfer = make_run(RECIPES["plain"])
    done = [transfer.position().done]
    for _ in iterate(transfer):
        done.append(transfer.position().done)
    assert done[0] == 0 and done[-1] == 1 and done == sorted(done)
    assert transfer.position().remaining_seconds == 0


# Who is touched -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_the_teacher_is_only_read(name: str) -> None:
    run = whole_run(name)
    small.assert_same(small.snapshot(run.teacher), run.teacher_before)
    assert all(p.grad is None and not p.requires_grad for p in run.teacher.parameters())
    assert not run.teacher.training


@pytest.mark.parametrize("name", ["rgal", "cmi+rgal", "persistent generator"])
def test_synthesis_leaves_the_student_alone_and_training_does_not(name: str) -> None:
    transfer = make_run(RECIPES[name])
    while not transfer.finished:
        mode, before = transfer.mode, small.snapshot(transfer.student)
        frozen = not any(p.requires_grad for p in transfer.student.parameters())
        assert frozen == (mode == "synthesis") and transfer.student.training == (mode == "student")
        optimises = transfer.schedule.due() == mode
        transfer.advance()
        if mode == "synthesis":
            small.assert_same(small.snapshot(transfer.student), before)
            assert all(p.grad is None for p in transfer.student.parameters()) or transfer.mode == "student"
        elif optimises:
            assert not torch.equal(transfer.student.fc.weight, before["fc.weight"])


def test_a_frozen_part_of_the_student_stays_frozen() -> None:
    transfer = make_run(RECIPES["plain"])
    assert transfer.trainable == list(transfer.student.parameters())
    student = small.student(small.GREY)
    student.conv1.weight.requires_grad_(False)
    before = student.conv1.weight.clone()
    transfer = TransferRun(RECIPES["plain"], make_problem(), student, Streams("cpu", 1), measure)
    finish(transfer)
    assert torch.equal(student.conv1.weight, before) and not student.conv1.weight.requires_grad


def test_hooks_exist_only_inside_a_step() -> None:
    transfer = make_run(RECIPES["cmi+rgal"])
    finish(transfer)
    for net in (transfer.student, transfer.problem.teacher):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


# Errors ---------------------------------------------------------------------------------------------------------


def broken(ctx: Any) -> Tensor:
    return ctx.images.mean() * float("nan")


def test_a_lost_synthesis_names_the_part() -> None:
    plain = RECIPES["plain"]
    one_step = replace(ROUNDS, synthesis_steps=1)
    recipe = replace(plain, synthesis=(*plain.synthesis, stateless("boom", 1.0, broken)), rounds=one_step)
    with pytest.raises(Diverged, match="synthesis loss part 'boom' became nan in round 1"):
        finish(make_run(recipe))


def test_a_lost_student_names_the_part() -> None:
    recipe = replace(RECIPES["plain"], transfer=(distillation(), stateless("boom", 1.0, broken)))
    recipe = replace(recipe, rounds=replace(ROUNDS, student_steps=1))
    with pytest.raises(Diverged, match="student loss part 'boom' became nan in round 1"):
        finish(make_run(recipe))


def test_a_recipe_that_lacks_a_view_is_refused() -> None:
    recipe = named("cmi[bank=16]")
    with pytest.raises(ValueError, match="no view \\['local'\\]"):
        make_run(replace(recipe, views={"global": recipe.views["global"]}))


def test_real_images_are_for_reference_rows_only() -> None:
    pool = ImagePool(small.GREY.shape)
    for recipe, real in ((RECIPES["plain"], pool), (named("scratch"), None)):
        with pytest.raises(ValueError, match="real images"):
            make_run(recipe, real=real)


@pytest.mark.parametrize("method", ["scratch", "real_kd", "real_kd+rgal"])
def test_reference_rows_train_on_the_given_pool_and_resume(method: str) -> None:
    recipe = named(method)
    expected = finish(make_run(recipe, real=real_pool()))
    assert {row["kind"] for row in expected.rows} == {"student", "evaluation"}
    transfer, rows = make_run(recipe, real=real_pool()), []
    for _ in range(5):
        rows += transfer.advance()
    state = small.reloaded(transfer.state_dict())
    assert "images" not in state["batches"]["pool"] and not len(state["pool"]["images"])
    again = make_run(recipe, real=real_pool())
    again.load_state_dict(state)
    finish(again, rows).assert_same(expected)
