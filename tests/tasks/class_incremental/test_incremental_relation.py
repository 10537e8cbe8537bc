"""RGAL's triplets of a class-incremental step: real and replayed images apart, across the two, and who is moved."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rgal.core.observe import Observation
from rgal.core.seeding import Streams
from rgal.tasks.class_incremental.groups import IncrementalTermData, grouped
from rgal.terms.negatives import BANDS, Negatives, sample_negatives
from rgal.terms.objective import Context, TermContext
from rgal.terms.relation import RelationSpec, RelationTriplet, relation, relation_distances
from tests.helpers import naive, small
from tests.helpers import naive_incremental as slow
from tests.helpers.relation_builders import LIMITS, by_pair, close_rows, labels_of

OLD, CLASSES, REAL, REPLAYED, WIDTH = 4, 6, 9, 7, 5
N = REAL + REPLAYED
LABELS = torch.tensor([4, 5, 4, 5, 5, 4, 4, 5, 4] + [0] * REPLAYED)  # those of replayed images mean nothing
REPLAYED_LABELS = [0, 1, 2, 0, 1, 2, 1]
IS_REAL = torch.arange(N) < REAL
ACROSS = IS_REAL[:, None] & ~IS_REAL[None, :]


def old_logits(n: int = N) -> Tensor:
    """The old model's: of replayed images largest at REPLAYED_LABELS; close enough to each other for every band."""
    logits = 1 + 0.4 * small.rand(n, OLD, seed=3)
    for i, label in enumerate(REPLAYED_LABELS[: max(0, n - REAL)]):
        logits[REAL + i, label] += 1
    return logits


def new_logits(n: int = N) -> Tensor:
    return close_rows(n, CLASSES, seed=4)


def built(polarity: str = "gather", band: str = "distance", **options: object) -> RelationTriplet:
    spec = RelationSpec(**{"band": BANDS[band], "features": ("global",), **options})  # type: ignore[arg-type]
    term = relation(polarity, 0.1, spec).build(TermContext(small.COLOUR, {}, task_data=IncrementalTermData()))  # type: ignore[arg-type]
    assert isinstance(term, RelationTriplet)
    return term


def context(feature: Tensor, real: int = REAL, labels: Tensor = LABELS, **of_student: Tensor) -> Context:
    logits = {"student": new_logits(len(feature)), "teacher": old_logits(len(feature)), **of_student}
    ctx = small.context(
        targets=labels[: len(feature)],
        streams=Streams("cpu", "relation"),
        student=Observation(logits["student"], feature),
        teacher=Observation(logits["teacher"], feature.detach() + 1),
    )
    ctx.groups = grouped(real, len(ctx.targets))
    return ctx


def groups_negatives(band: str = "distance", mixed: bool = False, own: bool = False) -> list[Negatives]:
    """Of new images on the new logits of the student; of replayed ones on the old logits of the teacher, or of the
    student (`own`); then of all, by the student's logits, where only replayed ones are negatives, of real ones."""
    rng = Streams("cpu", "relation").get("gather negatives")
    every = torch.cat([LABELS[:REAL], torch.tensor(REPLAYED_LABELS)])
    sampled = [new_logits()[:REAL, OLD:], (new_logits()[:, :OLD] if own else old_logits())[REAL:]]
    of_groups = [
        sample_negatives(rows, labels, BANDS[band], rng)
        for rows, labels in zip(sampled, (every[:REAL], every[REAL:]), strict=True)
    ]
    if mixed:
        of_groups.append(sample_negatives(new_logits(), every, BANDS[band], rng, among=ACROSS))
    return of_groups


def indices(sampled: list[Negatives]) -> list[list[list[int]]]:
    return [by_pair(negatives) for negatives in sampled]


ALL_LABELS = LABELS[:REAL].tolist() + REPLAYED_LABELS

# Values and gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True], ids=["on the teacher", "on the student"])
@pytest.mark.parametrize("band", BANDS)
def test_real_and_replayed_images_are_apart(band: str, own: bool) -> None:
    """And weigh as their classes do: 2/6 of new ones, 4/6 of old ones."""
    term = built(band=band, sample_on="student" if own else "teacher")
    index = indices(groups_negatives(band, own=own))
    small.assert_twins(
        lambda f: term(context(f)),
        lambda f: slow.apart_triplet([f], ALL_LABELS, REAL, OLD, CLASSES, index),
        small.randn(N, WIDTH),
    )


def test_layers_and_logits_are_embeddings_too() -> None:
    term = built(features=("layers", "logits"), layers=(0, 2))
    index = indices(groups_negatives())

    def fast(first: Tensor, second: Tensor, logits: Tensor) -> Tensor:
        ctx = context(small.randn(N, WIDTH), student=logits)
        ctx.of("student").layers = [first, second]
        return term(ctx)

    def twin(first: Tensor, second: Tensor, logits: Tensor) -> Tensor:
        layers = [first.mean((2, 3)), second.mean((2, 3)), logits]
        return slow.apart_triplet(layers, ALL_LABELS, REAL, OLD, CLASSES, index)

    small.assert_twins(fast, twin, small.randn(N, 4, 3, 3), small.randn(N, 6, 2, 2, seed=1), new_logits())


def mixed_twin(weight: float, sampled: list[Negatives]):  # type: ignore[no-untyped-def]
    index = indices(sampled)

    def twin(f: Tensor) -> Tensor:
        apart = slow.apart_triplet([f], ALL_LABELS, REAL, OLD, CLASSES, index)
        return apart + weight * slow.against_constants([f], ALL_LABELS, REAL, index[2])

    return twin


@pytest.mark.parametrize("band", BANDS)
def test_mixed_triplets_push_real_images_from_replayed_ones(band: str) -> None:
    sampled = groups_negatives(band, mixed=True)
    index = sampled[2].index[:REAL]
    assert (index >= REAL).all() and not sampled[2].exists[REAL:].any()
    small.assert_twins(
        lambda f: built(band=band, mixed=0.5)(context(f)), mixed_twin(0.5, sampled), small.randn(N, WIDTH)
    )


def test_mixed_triplets_give_replayed_images_no_gradient() -> None:
    """What they have is what they have without mixed triplets; what real ones have is not."""
    gradients = []
    for mixed in (0.0, 0.5):
        f = small.randn(N, WIDTH).requires_grad_()
        built(mixed=mixed)(context(f)).backward()
        gradients.append(f.grad)
    assert torch.equal(gradients[0][REAL:], gradients[1][REAL:]) and gradients[0][REAL:].abs().max() > 0
    assert (gradients[0][:REAL] - gradients[1][:REAL]).abs().max() > 1e-3


def test_neither_side_looks_at_the_other() -> None:
    """Without mixed triplets, moving the replayed images changes neither loss nor gradient of the real ones."""
    term, features = built(), small.randn(N, WIDTH)
    moved = torch.cat([features[:REAL], 5 * small.randn(REPLAYED, WIDTH, seed=9)])
    sampled = []
    for f in (features, moved):
        leaf = f.clone().requires_grad_()
        term(context(leaf)).backward()
        sampled.append(leaf.grad)
    assert torch.equal(sampled[0][:REAL], sampled[1][:REAL]) and not torch.equal(
        sampled[0][REAL:], sampled[1][REAL:]
    )


def test_labels_handed_in_for_replayed_images_mean_nothing() -> None:
    f, values = small.randn(N, WIDTH), []
    for label in (0, 3):
        labels = torch.cat([LABELS[:REAL], torch.full((REPLAYED,), label)])
        values.append(built(mixed=0.5)(context(f, labels=labels)).item())
    assert values[0] == values[1]


def test_a_step_without_replay_is_of_the_new_classes_alone() -> None:
    """With their whole weight; mixed triplets need both."""
    labels, logits = LABELS[:REAL], new_logits()[:REAL]
    rng = Streams("cpu", "relation").get("gather negatives")
    index = by_pair(sample_negatives(logits[:, OLD:], labels, BANDS["distance"], rng))
    for mixed in (0.0, 0.5):
        small.assert_twins(
            lambda f, m=mixed: built(mixed=m)(context(f, student=logits)),
            lambda f: naive.triplet([f], labels.tolist(), index, "gather", 0.2),
            small.randn(REAL, WIDTH),
        )


def test_where_there_are_no_phases_the_term_is_what_it_was() -> None:
    f = small.randn(N, WIDTH)
    labels = old_logits().argmax(1)
    rng = Streams("cpu", "relation").get("gather negatives")
    index = by_pair(sample_negatives(old_logits(), labels, BANDS["distance"], rng))
    ctx = context(f, real=0)
    expected = naive.triplet([f.double()], labels.tolist(), index, "gather", 0.2)
    assert built(mixed=0.5)(ctx).item() == pytest.approx(expected.item(), abs=1e-6)
    assert set(ctx.notes) == {"gather_fallback", "gather_same", "gather_different"}


def test_every_group_reports_its_own_distances_and_fallback() -> None:
    f = small.randn(N, WIDTH)
    ctx = context(f)
    built(mixed=0.5)(ctx)
    sampled = groups_negatives(mixed=True)
    parts = {"_new": slice(0, REAL), "": slice(REAL, None), "_mixed": slice(None)}
    whats = ("fallback", "same", "different")
    assert set(ctx.notes) == {f"gather{suffix}_{what}" for suffix in parts for what in whats}
    for (suffix, rows), negatives in zip(parts.items(), sampled, strict=True):
        labels = ALL_LABELS[rows]
        same, different = naive.relation_distances(f[rows], labels)
        share = naive.fallback_share(labels, negatives.exists.tolist(), negatives.in_band.tolist())
        for what, expected in zip(whats, (share, same, different), strict=True):
            assert float(ctx.notes[f"gather{suffix}_{what}"]) == pytest.approx(expected, abs=1e-5), suffix
    assert not any(note.requires_grad for note in ctx.notes.values())


# Negatives among some -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [2, 5, 30])
@pytest.mark.parametrize("band", BANDS)
def test_negatives_among_some_follow_the_exact_probabilities(band: str, dimension: int) -> None:
    """As if an anchor's forbidden rows were not in the batch; also where only some of the band is allowed."""
    rows, labels = close_rows(12, dimension), labels_of(12, 3)
    among = small.rand(12, 12, seed=5) < 0.6
    wanted = torch.tensor(slow.among_probabilities(rows, labels.tolist(), among, LIMITS[band]))
    sampled = sample_negatives(rows, labels, BANDS[band], small.rng(1), draws=20_000, among=among)
    assert torch.equal(sampled.exists, wanted.sum(1) > 0) and sampled.exists.sum() > 8
    for index, row, exists in zip(sampled.index, wanted, sampled.exists.tolist(), strict=True):
        if exists:
            share = index.bincount(minlength=12) / 20_000
            torch.testing.assert_close(share.double(), row.double(), rtol=0, atol=0.02)
            assert (share[row == 0] == 0).all()


def test_among_all_is_among_everything() -> None:
    rows, labels = close_rows(12, 5), labels_of(12, 3)
    every = torch.ones(12, 12, dtype=torch.bool)
    first = sample_negatives(rows, labels, BANDS["focal"], small.rng())
    second = sample_negatives(rows, labels, BANDS["focal"], small.rng(), among=every)
    assert torch.equal(first.index, second.index)
    nobody = sample_negatives(rows, labels, BANDS["focal"], small.rng(), among=~every)
    assert not nobody.exists.any() and not nobody.in_band.any()


# Directions -----------------------------------------------------------------------------------------------------


def distances(f: Tensor, labels: list[int]) -> tuple[float, float]:
    same, different = relation_distances(f.detach(), torch.tensor(labels))
    return float(same), float(different)


def test_gather_brings_new_classes_together_and_parts_them_and_old_ones_too() -> None:
    f = small.randn(N, WIDTH).requires_grad_()
    sides = {"new": (slice(0, REAL), LABELS[:REAL].tolist()), "old": (slice(REAL, None), REPLAYED_LABELS)}
    before = {name: distances(f[rows], labels) for name, (rows, labels) in sides.items()}
    term = built(margin=0.5)
    for _ in range(30):
        (gradient,) = torch.autograd.grad(term(context(f)), f)
        f.data -= gradient
    for name, (rows, labels) in sides.items():
        same, different = distances(f[rows], labels)
        assert same < before[name][0] - 0.05 and different > before[name][1] + 0.02, name


def test_spread_in_synthesis_does_the_opposite() -> None:
    """Images have no phases there: all are of old classes, as the old model sees them."""
    labels = old_logits().argmax(1).tolist()
    assert len(set(labels)) > 1
    f = (small.randn(OLD, WIDTH, seed=6)[labels] + 0.3 * small.randn(N, WIDTH)).requires_grad_()
    before = distances(f, labels)
    term = built("spread", margin=0.5)
    for _ in range(30):
        (gradient,) = torch.autograd.grad(term(context(f, real=0)), f)
        f.data -= gradient
    same, different = distances(f, labels)
    assert same > before[0] + 0.1 and different < before[1] - 0.05


def test_a_single_step_on_real_images_has_the_signs() -> None:
    """Each by itself: an anchor moves towards its same-label partner and away from its negative."""
    f = torch.tensor([[1.0, 0.2], [1.0, -0.2], [0.9, 0.6]]).requires_grad_()
    logits = torch.cat([torch.ones(3, 2), torch.tensor([[1.0, 0.5], [1.0, 0.6], [0.6, 1.0]])], 1)
    labels = torch.tensor([2, 2, 3])
    term = built(margin=1.0, band="uniform")
    ctx = context(f, 3, labels, student=logits, teacher=torch.ones(3, 2))
    (gradient,) = torch.autograd.grad(term(ctx), f)
    before = naive.distances(f.detach().double())
    after = naive.distances((f.detach() - 0.1 * gradient).double())
    assert after[0][1] < before[0][1] and after[0][2] > before[0][2] and after[1][2] > before[1][2]


# Edges ----------------------------------------------------------------------------------------------------------

FEW = {
    "one new class": ([4] * 5, [0, 1, 0, 1]),
    "one old class": ([4, 5, 4, 5], [1, 1, 1]),
    "one image each": ([4], [0]),
    "no pair": ([4, 5], [0, 1, 2]),
    "one image": ([4], []),
    "one new class without replay": ([5] * 4, []),
}


@pytest.mark.parametrize("mixed", [0.0, 0.5])
@pytest.mark.parametrize("case", FEW)
def test_few_labels_give_an_attached_value_and_finite_gradients(case: str, mixed: float) -> None:
    new, old = FEW[case]
    n, teacher = len(new) + len(old), torch.zeros(len(new) + len(old), OLD)
    for i, label in enumerate(old):
        teacher[len(new) + i, label] = 1.0
    labels = torch.tensor(new + [0] * len(old))
    f = small.randn(n, WIDTH).requires_grad_()
    ctx = context(f, len(new), labels, student=small.randn(n, CLASSES, seed=1), teacher=teacher)
    value = built(mixed=mixed)(ctx)
    value.backward()
    assert value.ndim == 0 and value.requires_grad and torch.isfinite(f.grad).all()
    assert all(torch.isfinite(note) for note in ctx.notes.values())
    apart = case in ("one new class", "one old class")  # the other side has its triplets
    if not mixed and not apart:
        assert value.item() == 0 and torch.equal(f.grad, torch.zeros_like(f))
    if case == "one new class":
        assert (f.grad[: len(new)].abs().max() > 0) == bool(mixed)


def test_a_phase_of_a_single_class_has_one_logit() -> None:
    """Its negatives would be drawn in one dimension; there are none, and nothing breaks."""
    labels = torch.full((4,), OLD)
    f = small.randn(4, WIDTH).requires_grad_()
    ctx = context(f, 4, labels, student=small.randn(4, OLD + 1), teacher=small.randn(4, OLD))
    value = built()(ctx)
    value.backward()
    assert value.item() == 0 and torch.equal(f.grad, torch.zeros_like(f))


@pytest.mark.parametrize("mixed", [0.0, 0.5])
def test_bfloat16_features(mixed: float) -> None:
    rows = small.randn(N, WIDTH).bfloat16()
    twin = mixed_twin(mixed, groups_negatives(mixed=True))
    tolerance = 4 * torch.finfo(torch.bfloat16).eps
    small.assert_twins(lambda f: built(mixed=mixed)(context(f)), twin, rows, tolerance=tolerance)
