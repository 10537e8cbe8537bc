"""What is measured of the kept images, against loops over pairs; and that measuring changes nothing."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rgal.analysis import embedding
from rgal.analysis.diversity import (
    Batch,
    averages,
    batches_made,
    diversity,
    histogram,
    kept_batches,
    logits_and_features,
    measure_batch,
    oldest_first,
    pair_distances,
)
from rgal.core.observe import observe
from rgal.core.problem import Problem
from rgal.core.seeding import Streams
from rgal.data import ImageSet
from rgal.engine.run import TransferRun
from rgal.engine.student import StudentLoop
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import methods
from rgal.suite.plan.settings import Schedule
from rgal.suite.task import tasks
from rgal.synthesis.loop import Inversion
from rgal.synthesis.pool import ImagePool
from tests.helpers import naive_diversity, small
from tests.helpers.relation_builders import close_rows, labels_of
from tests.helpers.runs import named

DOMAIN = small.GREY
TEACHER, STUDENT = small.network("wrn10_1", DOMAIN, 1), small.network("lenet5", DOMAIN, 2)


def pictures(n: int, seed: int = 0) -> Tensor:
    return (255 * small.rand(n, *DOMAIN.shape, seed=seed)).to(torch.uint8)


REAL = ImageSet(pictures(40, 9), torch.arange(40) % DOMAIN.classes)
FEW = REAL.subset(torch.arange(5))  # too few for a map, which takes most of the time


def recipe(**rounds: Any) -> Recipe:
    return named("plain", rounds=Rounds(**{"count": 3, "synthesis_batch": 12, "batch": 8, **rounds}))


def filled(sizes: list[int], capacity: int | None = None) -> ImagePool:
    pool = ImagePool(DOMAIN.shape, capacity=capacity)
    for seed, size in enumerate(sizes):
        pool.add(pictures(size, seed), torch.zeros(size, dtype=torch.int64))
    return pool


def record(
    pool: ImagePool,
    made_by: Recipe,
    teacher: nn.Module = TEACHER,
    student: nn.Module = STUDENT,
    real: ImageSet = FEW,
) -> Any:
    return diversity(pool, made_by, DOMAIN, teacher, student, real)


def logits_of(n: int, classes: int = 6, seed: int = 0) -> Tensor:
    """Logits some of whose distances are in the band, with several labels."""
    return close_rows(n, classes, seed) + 0.8 * nn.functional.one_hot(labels_of(n, classes, seed), classes)


def approximately(measured: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return measured.keys() == wanted.keys() and all(
        measured[name] is None if value is None else measured[name] == pytest.approx(value, abs=2e-6)
        for name, value in wanted.items()
    )


# Distances ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "classes"), [(1, 3), (2, 2), (7, 1), (23, 4), (30, 100)])
def test_pairs_are_those_of_a_loop(n: int, classes: int) -> None:
    rows, labels = small.randn(n, 5), labels_of(n, classes)
    for measured, wanted in zip(
        pair_distances(rows, labels), naive_diversity.pairs(rows, labels.tolist()), strict=True
    ):
        assert sorted(measured.tolist()) == pytest.approx(sorted(wanted), abs=1e-6)


@pytest.mark.parametrize("sizes", [[1], [2], [24], [24, 9, 1, 16]])
def test_quantities_are_those_of_a_loop(sizes: list[int]) -> None:
    """Batches of unequal size, of one image, and pairs inside a batch only."""
    batches = [
        (logits_of(n, seed=s), small.randn(n, 7, seed=s), small.randn(n, 4, seed=s + 50))
        for s, n in enumerate(sizes)
    ]
    parts = [measure_batch(*batch) for batch in batches]
    wanted = naive_diversity.summary(batches)
    assert approximately(averages(parts), wanted)
    if max(sizes) > 2:
        assert 0 < wanted["in_band"] < 1 and wanted["same"] != wanted["student_same"]
    for kind, rows in (("same", 1), ("different", 1), ("negatives", 0)):
        values = []
        for batch in batches:
            looped = naive_diversity.pairs(batch[rows], naive_diversity.argmax(batch[0]))
            values += looped[0] if kind == "same" else looped[1]
        counts = torch.stack([part.histograms[kind] for part in parts]).sum(0)
        assert counts.tolist() == naive_diversity.histogram(values)


def test_fallback_is_the_share_of_anchors_without_a_negative_in_the_band() -> None:
    """Three directions: the first two are 0.77 apart and the third is at 1.41 from both."""
    near = torch.tensor([[1.0, 0.99, 0.0], [0.99, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.4, 0.0]])
    near[1] = torch.tensor([0.4, 1.0, 0.0])
    logits = near[[3, 3, 1, 1, 2, 2]]
    means = averages([measure_batch(logits, logits)])
    assert means["fallback"] == pytest.approx(1 / 3, abs=1e-6) and means["in_band"] == pytest.approx(
        4 / 12, abs=1e-6
    )
    assert means["same"] == 0 and "student_same" not in means


def test_one_class_has_no_negatives() -> None:
    logits = torch.ones(8, 4) + torch.tensor([3.0, 0, 0, 0])
    means = averages([measure_batch(logits, small.randn(8, 5))])
    assert means["different"] is means["in_band"] is means["fallback"] is None
    assert means["same_pairs"] == 28 and means["different_pairs"] == 0


def test_nothing_measured_is_nothing_known() -> None:
    assert averages([]) == {}
    assert set(averages([measure_batch(torch.ones(1, 3), torch.ones(1, 3))]).values()) == {None, 0}


def test_a_number_that_is_none_is_unknown() -> None:
    """A student may end with weights that are not finite."""
    broken = small.randn(6, 3)
    broken[2] = math.nan
    means = averages([measure_batch(logits_of(6), small.randn(6, 3), broken)])
    assert means["student_different"] is None and means["different"] > 0
    assert histogram(torch.tensor([math.nan, 0.01])).sum() == 1


def test_bins_hold_their_lower_end_and_the_last_one_both() -> None:
    values = [0.0, 0.049, 0.05, 0.15, 0.5, 1.0, 1.999, 2.0]
    counts = histogram(torch.tensor(values, dtype=torch.float64)).tolist()
    assert len(counts) == 40 and sum(counts) == len(values)
    assert counts[0] == 2 and counts[1] == counts[3] == counts[10] == counts[20] == 1 and counts[39] == 2


# Batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[5, 5, 5], [5, 1, 9, 2], [1]])
@pytest.mark.parametrize("capacity", [None, 1, 4, 7, 10, 100])
def test_batches_are_those_that_the_pool_still_has(sizes: list[int], capacity: int | None) -> None:
    """Every image is one number, so that its place in the pool shows; what was overwritten in part is left out."""
    made = [(number + 1, size) for number, size in enumerate(sizes)]
    pool, number = ImagePool((1, 1, 1), capacity=capacity), 0
    for size in sizes:
        values = torch.arange(number, number + size)
        pool.add(values.to(torch.uint8).view(-1, 1, 1, 1), values)
        number += size
    rows = oldest_first(pool)
    batches = [(b.round, pool.targets[rows[b.rows]].tolist()) for b in kept_batches(made, len(pool))]
    if capacity is None or max(sizes) <= capacity:
        assert batches == naive_diversity.kept(made, capacity)
    else:
        assert all(
            set(images) <= set(naive_diversity.kept([made[r - 1]], None)[0][1]) or images
            for r, images in batches
        )


def test_images_that_were_there_before_are_no_batch() -> None:
    assert kept_batches([(1, 4), (2, 4)], 11) == [Batch(1, slice(3, 7)), Batch(2, slice(7, 11))]
    assert kept_batches([], 5) == [] and kept_batches([(1, 4)], 0) == []


SHORT = Schedule(
    rounds=3, warmup=1, synthesis_batch=9, batch=6, student_steps=2, synthesis_steps=2, generator_width=4
)
MADE = [
    (task, name)
    for name, method in methods().items()
    for task in method.tasks
    if task in ("kd", "dfq")
    and tasks()[task].recipe(name, SHORT).recipe.images is not None
    # which need quantized weights, and a head behind a spatial mean
    and name not in ("ait", "genie", "spaceshipnet")
] + [("kd", "dafl[follows=paper]"), ("kd", "zskt[follows=paper]")]


@pytest.mark.parametrize(("task", "name"), MADE)
def test_every_method_adds_the_batches_that_its_recipe_says(
    task: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its steps do: here they do nothing, which is quick."""
    monkeypatch.setattr(Inversion, "step", lambda *_: None)
    monkeypatch.setattr(StudentLoop, "step", lambda loop, batch, *_: (batch, small.context()))
    resolved = tasks()[task].recipe(name, SHORT).recipe
    student = small.network("lenet5", DOMAIN, 2)
    transfer = TransferRun(resolved, Problem(TEACHER, DOMAIN), student, Streams("cpu", 0), lambda _: {})
    added: list[tuple[int, int]] = []
    add = transfer.pool.add

    def watched(images: Tensor, targets: Tensor, over: Tensor | None = None) -> None:
        added.append((transfer.schedule.round + 1, len(images)))
        add(images, targets, over)

    monkeypatch.setattr(transfer.pool, "add", watched)
    while not transfer.finished:
        transfer.advance()
    assert added == batches_made(resolved) and len(added) >= resolved.rounds.count - resolved.rounds.warmup


# The record --------------------------------------------------------------------------------------------------------


def test_the_record_is_that_of_a_loop_over_rounds() -> None:
    pool = filled([12, 12, 12, 12, 12])
    content = record(pool, recipe(count=5, warmup=2))
    batches = []
    for images in pool.images.split(12):
        inputs = DOMAIN.normalise(images.float() / 255)
        theirs, own = (observe(net.eval(), inputs, ("logits", "feature")) for net in (TEACHER, STUDENT))
        batches.append((theirs.logits.detach(), theirs.feature.detach(), own.feature.detach()))
    for entry, batch in zip(content["rounds"], batches, strict=True):
        assert approximately(
            entry, naive_diversity.summary([batch]) | {"round": entry["round"], "images": 12}
        )
    assert [entry["round"] for entry in content["rounds"]] == [1, 2, 3, 4, 5]
    assert approximately(content["after_warmup"], naive_diversity.summary(batches[2:]))
    assert approximately(content["last"], naive_diversity.summary(batches[-3:]))
    assert sum(content["histograms"]["same"]) == content["after_warmup"]["same_pairs"]
    assert sum(content["histograms"]["negatives"]) == content["after_warmup"]["different_pairs"]
    assert content["band"] == [0.5, 1.0] and content["warmup"] == 2 and "student_skipped" not in content


def test_a_full_pool_has_its_last_rounds() -> None:
    content = record(filled([12] * 5, capacity=30), recipe(count=5))
    whole = record(filled([12] * 5), recipe(count=5))
    assert content["rounds"] == whole["rounds"][3:]


def test_batches_of_one_round_are_one_entry() -> None:
    """Interleaved rounds of a pool: each step made a batch; pairs stay inside it."""
    rounds = Rounds(2, synthesis_steps=3, student_steps=3, synthesis_batch=6, interleaved=True)
    content = record(filled([6] * 6), replace(recipe(), rounds=rounds))
    assert [(e["round"], e["images"], e["same_pairs"] + e["different_pairs"]) for e in content["rounds"]] == [
        (1, 18, 45),
        (2, 18, 45),
    ]


def test_one_image_a_round() -> None:
    content = record(filled([1, 1, 1]), recipe(synthesis_batch=1))
    assert content["after_warmup"]["same"] is None and content["embedding"]["skipped"].startswith(
        "3 kept and 5 real"
    )
    assert sum(content["histograms"]["same"]) == 0


def test_a_net_without_a_head_is_skipped_with_a_reason() -> None:
    pool = filled([12] * 3)
    headless = nn.Sequential(nn.Flatten(), nn.Linear(64, DOMAIN.classes)).requires_grad_(False)
    assert "teacher names no head" in record(pool, recipe(), teacher=headless)["skipped"]
    content = record(pool, recipe(), student=headless)
    assert "student names no head" in content["student_skipped"] and "student_same" not in content["last"]
    assert content["last"] == {k: v for k, v in record(pool, recipe())["last"].items() if "student" not in k}


def test_a_failure_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fewer than its recipe makes" in record(filled([12]), recipe())["skipped"]
    monkeypatch.setattr("rgal.analysis.diversity.measure_batch", lambda *_: 1 / 0)
    assert record(filled([12] * 3), recipe())["skipped"] == "ZeroDivisionError: division by zero"


def test_measuring_changes_nothing() -> None:
    """Not the networks or their modes, not the pool, not any global random stream; and the record is JSON."""
    teacher, student, pool = copy.deepcopy(TEACHER), copy.deepcopy(STUDENT).train(), filled([12] * 3)
    before = [small.snapshot(teacher), small.snapshot(student), pool.state_dict()]
    streams = torch.get_rng_state()
    content = record(pool, recipe(), teacher, student, REAL)
    small.assert_same([small.snapshot(teacher), small.snapshot(student), pool.state_dict()], before)
    assert torch.equal(torch.get_rng_state(), streams) and student.training and not teacher.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in (*teacher.modules(), *student.modules()))
    text = json.dumps(content, allow_nan=False)
    assert text == json.dumps(record(pool, recipe(), teacher, student, REAL), allow_nan=False)


def test_chunks_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(11)
    whole = logits_and_features(TEACHER, images, DOMAIN)
    monkeypatch.setattr("rgal.analysis.diversity.CHUNK", 4)
    for a, b in zip(whole, logits_and_features(TEACHER, images, DOMAIN), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# The map -----------------------------------------------------------------------------------------------------------


def test_the_map_shows_kept_and_real_images() -> None:
    points = record(filled([12] * 4), recipe(count=4, warmup=1), real=REAL)["embedding"]
    assert points["synthetic"] == [True] * 36 + [False] * 40
    assert len(points["x"]) == len(points["y"]) == len(points["label"]) == 76
    assert points["label"][36:] == REAL.labels.tolist()
    assert all(round(v, 2) == v and math.isfinite(v) for v in [*points["x"], *points["y"]])
    assert points["perplexity"] == 25.0


def test_neighbours_stay_neighbours() -> None:
    """Two far groups: in the plane, each point's nearest neighbour is of its own group."""
    rows = torch.nn.functional.normalize(
        torch.cat([small.randn(30, 6) + 9, small.randn(30, 6, seed=1) - 9]), dim=1
    )
    points = embedding.embedding(rows.numpy(), [0] * 30 + [1] * 30, 30)
    plane = torch.tensor([points["x"], points["y"]]).T.double()
    nearest = (torch.cdist(plane, plane) + 1e9 * torch.eye(60)).argmin(1)
    assert ((nearest < 30) == (torch.arange(60) < 30)).all()


def test_a_map_that_fails_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = small.randn(40, 3)
    rows[3] = math.nan
    assert embedding.embedding(rows.numpy(), [0] * 40, 20)["skipped"].startswith("t-SNE: ValueError: ")

    def fails(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(embedding, "_tsne", fails)
    content = record(filled([12] * 4), recipe(count=4), real=REAL)
    assert (
        content["embedding"] == {"skipped": "t-SNE: MemoryError: no message"} and content["last"]["same"] > 0
    )


def test_the_number_of_threads_changes_no_point() -> None:
    rows = small.randn(120, 8).numpy()
    threads = torch.get_num_threads()
    maps = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            maps.append(embedding.embedding(rows, [0] * 120, 60))
    finally:
        torch.set_num_threads(threads)
    assert maps[0] == maps[1]
