"""RGAL's triplet: distances, the negative sampler, the hinge in both polarities, and the term built of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rgal.baselines.plain import plain
from rgal.core.observe import Observation
from rgal.core.seeding import Streams
from rgal.methods.plus_rgal import plus_rgal
from rgal.methods.rgal_options import RgalOptions
from rgal.terms.negatives import BANDS, Band, Negatives, sample_negatives
from rgal.terms.objective import LossTerm, TermContext
from rgal.terms.relation import (
    RelationSpec,
    RelationTriplet,
    fallback_share,
    relation,
    relation_distances,
    triplet,
)
from tests.helpers import naive, small
from tests.helpers.relation_builders import by_pair, close_rows, exact, labels_of

# The triplet ----------------------------------------------------------------------------------------------------


def drawn(rows: Tensor, labels: Tensor, seed: int = 0) -> Negatives:
    return sample_negatives(rows, labels, BANDS["uniform"], small.rng(seed))


def assert_triplet_is_the_pair_loop(
    layers: list[Tensor], labels: Tensor, polarity: str, margin: float = 0.2, tolerance: float = 1e-5
) -> None:
    negatives = drawn(layers[0].float(), labels)
    small.assert_twins(
        lambda *x: triplet(x, negatives, polarity, margin),
        lambda *x: naive.triplet(x, labels.tolist(), by_pair(negatives), polarity, margin),
        *layers,
        tolerance=tolerance,
    )


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.5])
@pytest.mark.parametrize("polarity", ["spread", "gather"])
def test_triplet_equals_the_pair_loop(polarity: str, margin: float) -> None:
    assert_triplet_is_the_pair_loop([close_rows(17, 8)], labels_of(17, 5), polarity, margin)


@pytest.mark.parametrize("polarity", ["spread", "gather"])
def test_triplet_adds_layers(polarity: str) -> None:
    layers = [small.randn(14, 6), small.randn(14, 3, seed=1), small.randn(14, 12, seed=2)]
    assert_triplet_is_the_pair_loop(layers, labels_of(14, 3), polarity)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("polarity", ["spread", "gather"])
def test_triplet_of_half_precision_embeddings(polarity: str, dtype: torch.dtype) -> None:
    # The arithmetic is float32 or better whatever comes in; only the gradient is rounded on its way out.
    rows = close_rows(12, 6).to(dtype)
    tolerance = 4 * torch.finfo(dtype).eps
    assert_triplet_is_the_pair_loop([rows], labels_of(12, 3), polarity, tolerance=tolerance)


@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 3, 4], [2, 2, 2, 2, 2], [0]], ids=["no pair", "one label", "one sample"]
)
@pytest.mark.parametrize("polarity", ["spread", "gather"])
def test_without_a_pair_the_loss_is_an_attached_zero(polarity: str, labels: list[int]) -> None:
    y, rows = torch.tensor(labels), small.randn(len(labels), 7).requires_grad_()
    loss = triplet([rows], drawn(rows, y), polarity)
    assert loss.ndim == 0 and loss.item() == 0 and loss.requires_grad
    loss.backward()
    assert torch.equal(rows.grad, torch.zeros_like(rows))


def after_descent(polarity: str, steps: int = 60) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean (same, different) label distances before and after plain SGD on free embeddings."""
    labels = torch.arange(4).repeat_interleave(16)
    rows = small.randn(64, 16).requires_grad_()
    generator, optimiser = small.rng(), torch.optim.SGD([rows], lr=20.0)
    before = relation_distances(rows.detach(), labels)
    for _ in range(steps):
        negatives = sample_negatives(rows, labels, BANDS["distance"], generator)
        optimiser.zero_grad()
        triplet([rows], negatives, polarity).backward()
        optimiser.step()
    after = relation_distances(rows.detach(), labels)
    return (float(before[0]), float(before[1])), (float(after[0]), float(after[1]))


def test_gather_brings_labels_together_and_parts_different_ones() -> None:
    (same, different), (same_after, different_after) = after_descent("gather")
    assert same_after < same - 0.1
    assert different_after > different + 0.02


def test_spread_parts_labels_and_brings_different_ones_together() -> None:
    (same, different), (same_after, different_after) = after_descent("spread")
    assert same_after > same + 0.02
    assert different_after < different - 0.005


def test_polarities_are_not_each_others_negative() -> None:
    """The hinge sits on the other side: exchanging roles is not flipping a sign."""
    rows, labels = close_rows(16, 6), labels_of(16, 3)
    negatives = drawn(rows, labels)
    spread, gather = (triplet([rows], negatives, p) for p in ("spread", "gather"))
    assert spread > 0 and gather > 0


# Reports --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, 2, 3], [1, 1, 1], [0, 1, 2], [0]])
def test_relation_distances_equal_the_loop(labels: list[int]) -> None:
    rows = close_rows(len(labels), 5)
    distances = [float(x) for x in relation_distances(rows, torch.tensor(labels))]
    assert distances == pytest.approx(naive.relation_distances(rows, labels), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_fallback_share_equals_the_loop(seed: int) -> None:
    rows, labels = close_rows(16, 10, seed), labels_of(16, 7, seed)
    negatives = sample_negatives(rows, labels, Band(low=0.5, high=0.6), small.rng())
    expected = naive.fallback_share(labels.tolist(), negatives.exists.tolist(), negatives.in_band.tolist())
    assert float(fallback_share(negatives)) == pytest.approx(expected)
    assert 0 < expected < 1


@pytest.mark.parametrize("labels", [[0, 1, 2], [4, 4, 4], [0]])
def test_fallback_share_is_zero_without_anchors(labels: list[int]) -> None:
    y = torch.tensor(labels)
    assert float(fallback_share(drawn(close_rows(len(y), 5), y))) == 0


# The term -------------------------------------------------------------------------------------------------------


def observation(seed: int, n: int = 20, layers: int = 3) -> Observation:
    maps = [small.randn(n, 4 + index, 3, 3, seed=seed + index) for index in range(layers)]
    return Observation(close_rows(n, 5, seed), small.randn(n, 9, seed=seed + 7), maps)


TEACHER, STUDENT = observation(10), observation(20)
WORLD = {"teacher": TEACHER, "student": STUDENT}


def built(weighted: LossTerm) -> RelationTriplet:
    term = weighted.build(TermContext(small.COLOUR, {}))
    assert isinstance(term, RelationTriplet)
    return term


def term_value(term: RelationTriplet) -> tuple[Tensor, dict[str, Tensor]]:
    ctx = small.context(streams=Streams("cpu", "relation"), **WORLD)
    return term(ctx), ctx.notes


def expected_value(
    name: str, polarity: str, embeddings: list[Tensor], sample_on: str, band: Band, margin: float = 0.2
) -> float:
    labels = TEACHER.logits.argmax(1)
    stream = Streams("cpu", "relation").get(f"{name} negatives")
    negatives = sample_negatives(WORLD[sample_on].logits, labels, band, stream)
    rows = [x.double() for x in embeddings]
    return float(naive.triplet(rows, labels.tolist(), by_pair(negatives), polarity, margin))


def pooled(observed: Observation, *indices: int) -> list[Tensor]:
    return [observed.layers[i].mean((2, 3)) for i in indices]


FOCAL, DISTANCE = BANDS["focal"], BANDS["distance"]
CHOICES = {
    "defaults": ({}, pooled(STUDENT, 2), "teacher", FOCAL),
    "target": ({"target": "teacher"}, pooled(TEACHER, 2), "teacher", FOCAL),
    "sample_on": ({"sample_on": "student"}, pooled(STUDENT, 2), "student", FOCAL),
    "layers": ({"layers": (0, 2)}, pooled(STUDENT, 0, 1), "teacher", FOCAL),
    "start too deep": ({"layers": (5, 9)}, pooled(STUDENT, 2), "teacher", FOCAL),
    "end before start": ({"layers": (1, 1)}, pooled(STUDENT, 1), "teacher", FOCAL),
    "global": ({"features": ("global",)}, [STUDENT.feature], "teacher", FOCAL),
    "logits": ({"features": ("logits",)}, [STUDENT.logits], "teacher", FOCAL),
    "all features": (
        {"features": ("layers", "global", "logits")},
        [*pooled(STUDENT, 2), STUDENT.feature, STUDENT.logits],
        "teacher",
        FOCAL,
    ),
    "band": ({"band": DISTANCE}, pooled(STUDENT, 2), "teacher", DISTANCE),
    "high": ({"band": DISTANCE.between(None, 0.9)}, pooled(STUDENT, 2), "teacher", Band(high=0.9, clamp=0.5)),
    "low": ({"band": DISTANCE.between(0.4, None)}, pooled(STUDENT, 2), "teacher", Band(low=0.4, high=1.4)),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", ["spread", "gather"])
def test_the_term_measures_what_its_arguments_say(name: str, choice: str) -> None:
    arguments, embeddings, sample_on, band = CHOICES[choice]
    value, _ = term_value(built(relation(name, 0.1, RelationSpec(**arguments))))
    expected = expected_value(name, name, embeddings, sample_on, band)
    assert float(value) == pytest.approx(expected, abs=1e-5) and expected > 0


def test_the_terms_margin_and_polarity() -> None:
    value, _ = term_value(built(relation("spread", 0.1, RelationSpec("gather", margin=0.7))))
    expected = expected_value("spread", "gather", pooled(STUDENT, 2), "teacher", FOCAL, 0.7)
    assert float(value) == pytest.approx(expected, abs=1e-5)


def test_the_term_declares_what_it_reads() -> None:
    spec = RelationSpec(sample_on="student", features=("layers", "global", "logits"))
    term = built(relation("gather", 0.1, spec))
    reads = {(need.net, need.what, need.view) for need in term.reads}
    whats = ("logits", "layers", "feature")
    assert reads == {("teacher", "logits", "global"), *(("student", what, "global") for what in whats)}


def test_the_term_reports_fallback_and_distances() -> None:
    _, notes = term_value(built(relation("spread", 0.1)))
    labels = TEACHER.logits.argmax(1).tolist()
    same, different = naive.relation_distances(pooled(STUDENT, 2)[0], labels)
    assert set(notes) == {"spread_fallback", "spread_same", "spread_different"}
    assert not any(note.requires_grad for note in notes.values())
    assert float(notes["spread_same"]) == pytest.approx(same, abs=1e-5)
    assert float(notes["spread_different"]) == pytest.approx(different, abs=1e-5)
    _, exists, in_band = exact(TEACHER.logits, torch.tensor(labels), "focal")
    share = naive.fallback_share(labels, exists.tolist(), in_band.tolist())
    assert float(notes["spread_fallback"]) == pytest.approx(share)


def rgal_terms(**arguments: object) -> dict[str, LossTerm]:
    recipe = plus_rgal(plain(), RgalOptions(**arguments))  # type: ignore[arg-type]
    return {w.name: w for w in (*recipe.synthesis, *recipe.transfer)}


@pytest.mark.parametrize(
    ("follows", "spread_polarity", "gather_on"),
    [("paper", "spread", "teacher"), ("code", "gather", "student")],
)
def test_plus_rgal_follows_paper_or_code(follows: str, spread_polarity: str, gather_on: str) -> None:
    terms = rgal_terms(follows=follows)
    spread, gather = (term_value(built(terms[name]))[0] for name in ("spread", "gather"))
    wanted = expected_value("spread", spread_polarity, pooled(STUDENT, 2), "teacher", FOCAL)
    assert float(spread) == pytest.approx(wanted, abs=1e-5)
    wanted = expected_value("gather", "gather", [STUDENT.feature], gather_on, DISTANCE)
    assert float(gather) == pytest.approx(wanted, abs=1e-5)


def test_plus_rgal_hands_its_weights_and_schedule_on() -> None:
    terms = rgal_terms(spread=0.3, gather=0.4, cd=0.5, gram=0.6, custom_steps=0.7, spread_warmup=True)
    assert {name: terms[name].weight for name in ("spread", "gather", "cd", "gram")} == {
        "spread": 0.3,
        "gather": 0.4,
        "cd": 0.5,
        "gram": 0.6,
    }
    assert {terms[name].until for name in ("gather", "cd", "gram")} == {0.7}
    assert terms["spread"].after_warmup and terms["spread"].until == 1.0


def test_plus_rgal_refuses_unknown_features() -> None:
    with pytest.raises(ValueError, match="feature='global|pixels'"):
        rgal_terms(feature="global|pixels")


# Memory ---------------------------------------------------------------------------------------------------------

MEASURE = """
import re, torch
from rgal.terms.negatives import BANDS, sample_negatives
from rgal.terms.relation import triplet

def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def run(n):
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(n, 10, generator=rng), torch.randint(0, 10, (n,), generator=rng)
    rows = torch.randn(n, 64, generator=rng).requires_grad_()
    triplet([rows], sample_negatives(logits, labels, BANDS["focal"], rng), "spread").backward()

run(32)
before = kilobytes("VmRSS")
run(2048)
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_two_thousand_samples_fit_into_300_megabytes() -> None:
    # Not ru_maxrss: across fork and exec it starts from the parent's peak, which would hide the growth.
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=root, capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) < 300 * 1024
