"""Measure how diverse and how confusable the images are that a trial kept.

RGAL's spread term is said to push images of the same label apart and to pull images of different labels together
(Liang & Fu, IJCV 2024). This module measures that for every method, on distances in [0,2] between unit vectors: the
penultimate features of teacher and student, and the teacher's logits, on which the focal sampler draws its negatives.
As in RGAL, labels are the teacher's argmax, and pairs are formed within a batch of images that were made together.

Nothing here draws from a trial's random streams, and networks are left as they were.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgal.analysis.embedding import FEWEST, embedding
from rgal.core.errors import in_short
from rgal.core.observe import observe
from rgal.core.problem import Domain, evaluating
from rgal.data.batches import to_float
from rgal.data.dataset import ImageSet
from rgal.methods.recipe import Recipe
from rgal.synthesis.pool import ImagePool
from rgal.terms.negatives import BANDS, sample_negatives, unit_distances
from rgal.terms.relation import fallback_share

SCHEMA = 1
BAND = BANDS["focal"]
BINS = {"low": 0.0, "high": 2.0, "count": 40}
LAST_ROUNDS = 3
SHOWN = 200  # images of either kind in the embedding
CHUNK = 512  # images in a forward pass
DIGITS = 6

Sums = Mapping[str, tuple[float, int]]  # name -> (sum, what it is divided by)


@dataclass(frozen=True)
class Batch:
    """Locate images that were made together: their round, from 1, and their rows among the kept images, in order."""

    round: int
    rows: slice


@dataclass(frozen=True)
class Measured:
    """Hold what one batch adds: (sum, count) of each quantity, and counts in `BINS` of each kind of distance."""

    sums: Sums
    histograms: Mapping[str, Tensor]


# Which images were made together -----------------------------------------------------------------------------------


def batches_made(recipe: Recipe) -> list[tuple[int, int]]:
    """List (round, images) of each batch that a complete run of the recipe adds to its pool, in order; rounds from 1.

    As in `rgal.engine.run`, a student that trains on the pool has every batch in it. If the student sees each batch
    once, the pool keeps the last batch of a round; if it draws from the generator, the last of each round that trains.
    """
    rounds = recipe.rounds
    if recipe.source == "generator":
        trained = range(rounds.warmup, rounds.count) if rounds.student_steps else range(0)
        return [(number + 1, rounds.batch) for number in trained]
    many = recipe.source == "pool" and rounds.interleaved
    repeats = max(1, rounds.synthesis_steps) if many else 1
    return [(number + 1, rounds.synthesis_batch) for number in range(rounds.count) for _ in range(repeats)]


def kept_batches(made: Sequence[tuple[int, int]], kept: int) -> list[Batch]:
    """List the batches that lie completely among the newest images, oldest first.

    Images before the first of them are left out: they were in the pool at the start, or belong to a batch that a full
    pool has overwritten in part.

    Args:
        made: (round, images) of each batch, from `batches_made`.
        kept: number of images in the pool.

    >>> [(batch.round, batch.rows) for batch in kept_batches([(1, 4), (2, 4), (3, 4)], kept=10)]
    [(2, slice(2, 6, None)), (3, slice(6, 10, None))]
    """
    batches: list[Batch] = []
    end = kept
    for number, size in reversed(made):
        start = end - min(size, kept)  # a pool smaller than a batch keeps its last images
        if start < 0 or start == end:
            break
        batches.append(Batch(number, slice(start, end)))
        end = start
    return batches[::-1]


def oldest_first(pool: ImagePool) -> Tensor:
    """Order the rows (len,) of a pool's images by when they were added: a full pool overwrites its oldest images.

    >>> pool = ImagePool((1, 1, 1), capacity=3)
    >>> for label in range(4):
    ...     pool.add(torch.zeros(1, 1, 1, 1), torch.tensor([label]))
    >>> pool.targets[oldest_first(pool)].tolist()
    [1, 2, 3]
    """
    kept = len(pool)
    return torch.arange(pool.added - kept, pool.added, device=pool.device) % max(1, kept)


# Distances ---------------------------------------------------------------------------------------------------------


def pair_distances(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the distances of normalised rows for every pair i < j.

    Args:
        rows: (N,D); normalised here.
        labels: (N,).

    Returns:
        The distances of the pairs of equal labels (P,) and of different labels (Q,). The distance to a row that is not
        finite is NaN, where `unit_distances` has 0.

    >>> same, different = pair_distances(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0, 1]))
    >>> same.tolist(), [round(value, 4) for value in different.tolist()]
    ([0.0], [1.4142, 1.4142])
    """
    distance = unit_distances(F.normalize(rows.float(), dim=1))
    broken = ~torch.isfinite(rows).all(1)
    distance = distance.masked_fill(broken[:, None] | broken, math.nan)
    same = labels[:, None] == labels[None, :]
    once = torch.ones_like(same).triu(1)
    return distance[once & same], distance[once & ~same]


def histogram(distances: Tensor) -> Tensor:
    """Count distances in the `BINS`, int64 on the host. The last bin includes its upper end; NaN is not counted."""
    finite = distances[torch.isfinite(distances)].cpu()
    count = int(BINS["count"])
    place = (finite - BINS["low"]) * (count / (BINS["high"] - BINS["low"]))
    return torch.bincount(place.long().clamp(0, count - 1), minlength=count)


def measure_batch(logits: Tensor, feature: Tensor, student: Tensor | None = None) -> Measured:
    """Measure a batch of images that were made together.

    The quantities are: "same" and "different", the distances of features of equal and of different labels; "in_band",
    pairs of different labels whose logits lie in the focal band; "fallback", anchors that have a partner and
    a negative, but no negative in the band.

    Args:
        logits: the teacher's logits (N,C).
        feature: the teacher's feature (N,D).
        student: the student's feature (N,D'), or None.
    """
    labels = logits.argmax(1)
    same, different = pair_distances(feature, labels)
    other = pair_distances(logits, labels)[1]
    rng = torch.Generator(logits.device).manual_seed(0)  # which negatives are drawn does not matter
    negatives = sample_negatives(logits, labels, BAND, rng, draws=1)
    anchors = int((negatives.exists & ((labels[:, None] == labels).sum(1) > 1)).sum())
    inside = int(((other > BAND.low) & (other < BAND.high)).sum())
    sums = {
        "same": (float(same.sum()), len(same)),
        "different": (float(different.sum()), len(different)),
        "in_band": (float(inside), len(other)),
        "fallback": (float(fallback_share(negatives)) * anchors, anchors),
    }
    if student is not None:
        theirs = pair_distances(student, labels)
        for name, distances in zip(("student_same", "student_different"), theirs, strict=True):
            sums[name] = (float(distances.sum()), len(distances))
    kinds = {"same": same, "different": different, "negatives": other}
    return Measured(sums, {name: histogram(distances) for name, distances in kinds.items()})


def averages(parts: Iterable[Measured]) -> dict[str, Any]:
    """Average each quantity over all pairs of the parts, None if there are none, and count the pairs."""
    totals: dict[str, tuple[float, int]] = {}
    for part in parts:
        for name, (value, count) in part.sums.items():
            before = totals.get(name, (0.0, 0))
            totals[name] = before[0] + value, before[1] + count
    means = {name: _rounded(value / count) if count else None for name, (value, count) in totals.items()}
    pairs = {f"{name}_pairs": totals[name][1] for name in ("same", "different") if name in totals}
    return means | pairs


def _rounded(value: float) -> float | None:
    """Round a number, or return None for those that JSON cannot hold."""
    return round(value, DIGITS) if math.isfinite(value) else None


# Networks ----------------------------------------------------------------------------------------------------------


def has_feature(net: nn.Module) -> bool:
    """Tell whether the network names the head whose input is its penultimate feature."""
    name = getattr(net, "head_name", "")
    return isinstance(name, str) and bool(name)


@torch.no_grad()
def logits_and_features(net: nn.Module, images: Tensor, domain: Domain) -> tuple[Tensor, Tensor]:
    """Compute a network's logits and penultimate features in evaluation mode.

    Args:
        net: a network with a head.
        images: uint8 (N,C,H,W).
        domain: how images are normalised.

    Returns:
        Logits (N, classes) and features (N,D), in float32.
    """
    device = next(net.parameters()).device
    logits, features = [], []
    with evaluating(net):
        for chunk in images.split(CHUNK):
            inputs = domain.normalise(to_float(chunk.to(device)))
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            observation = observe(net, inputs, ("logits", "feature"))
            logits.append(observation.logits.float())
            features.append(observation.required_feature.float().flatten(1))
    return torch.cat(logits), torch.cat(features)


# The record --------------------------------------------------------------------------------------------------------


def diversity(
    pool: ImagePool,
    recipe: Recipe,
    domain: Domain,
    teacher: nn.Module,
    student: nn.Module,
    real: ImageSet | None,
) -> dict[str, Any]:
    """Measure the kept images of a finished trial; the record is described in results/README.md.

    The same trial gives the same record. This never raises, so that a trial's result does not depend on it: if nothing
    can be measured, the record has a reason under "skipped".

    Args:
        pool: the images that the trial kept.
        recipe: its method.
        domain: how images are normalised.
        teacher, student: its networks.
        real: images to compare with in the embedding, such as test images; None: there are none.
    """
    try:
        return {"schema": SCHEMA, **_measure(pool, recipe, domain, teacher, student, real)}
    except Exception as error:  # such as no memory left
        return {"schema": SCHEMA, "skipped": in_short(error)}


def _measure(
    pool: ImagePool,
    recipe: Recipe,
    domain: Domain,
    teacher: nn.Module,
    student: nn.Module,
    real: ImageSet | None,
) -> dict[str, Any]:
    if not has_feature(teacher):
        return {"skipped": "the teacher names no head, so its penultimate feature is not known"}
    made = batches_made(recipe)
    if pool.added < sum(min(size, len(pool)) for _, size in made):
        raise ValueError(f"the pool was given {pool.added} images, fewer than its recipe makes")
    rows, batches = oldest_first(pool), kept_batches(made, len(pool))
    parts = [_observed(pool.uint8_at(rows[batch.rows]), domain, teacher, student) for batch in batches]
    measured = list(zip((batch.round for batch in batches), parts, strict=True))
    after = [(number, part) for number, part in measured if number > recipe.rounds.warmup]
    last = sorted({number for number, _ in measured})[-LAST_ROUNDS:]
    record = {
        "bins": dict(BINS),
        "band": [BAND.low, BAND.high],
        "warmup": recipe.rounds.warmup,
        "rounds": _rounds(batches, measured),
        "after_warmup": averages(part for _, part in after),
        "last": averages(part for number, part in measured if number in last),
        "histograms": _histograms([part for _, part in after]),
    }
    if not has_feature(student):
        record["student_skipped"] = "the student names no head, so its penultimate feature is not known"
    shown = [rows[batch.rows] for batch in batches if batch.round > recipe.rounds.warmup]
    return record | {"embedding": _embedded(pool, shown, domain, teacher, real)}


def _observed(images: Tensor, domain: Domain, teacher: nn.Module, student: nn.Module) -> Measured:
    logits, feature = logits_and_features(teacher, images, domain)
    return measure_batch(
        logits, feature, logits_and_features(student, images, domain)[1] if has_feature(student) else None
    )


def _rounds(batches: Sequence[Batch], measured: Sequence[tuple[int, Measured]]) -> list[dict[str, Any]]:
    """Average over the batches of each round."""
    images: dict[int, int] = {}
    for batch in batches:
        images[batch.round] = images.get(batch.round, 0) + batch.rows.stop - batch.rows.start
    return [
        {"round": number, "images": count, **averages(part for at, part in measured if at == number)}
        for number, count in images.items()
    ]


def _histograms(parts: Sequence[Measured]) -> dict[str, list[int]]:
    names = parts[0].histograms if parts else ()
    return {name: torch.stack([part.histograms[name] for part in parts]).sum(0).tolist() for name in names}


def _embedded(
    pool: ImagePool, shown: Sequence[Tensor], domain: Domain, teacher: nn.Module, real: ImageSet | None
) -> dict[str, Any]:
    """Embed an even selection of the pool's images in these rows together with an even selection of real images."""
    rows = torch.cat(list(shown)) if shown else torch.empty(0, dtype=torch.int64)
    if real is None:
        return {"skipped": "there are no real images to compare with"}
    if min(len(rows), len(real)) < FEWEST:
        return {"skipped": f"{len(rows)} kept and {len(real)} real images; it takes {FEWEST} of each"}
    picked, picked_real = _evenly(len(rows)), _evenly(len(real))
    logits, feature = logits_and_features(teacher, pool.uint8_at(rows[picked.to(rows.device)]), domain)
    _, real_feature = logits_and_features(teacher, real.images[picked_real], domain)
    points = torch.cat([feature, real_feature])
    labels = [*logits.argmax(1).tolist(), *real.labels[picked_real].tolist()]
    return embedding(F.normalize(points, dim=1).cpu().numpy(), labels, len(picked))


def _evenly(n: int) -> Tensor:
    """Pick at most `SHOWN` of n rows at equal distances."""
    count = min(n, SHOWN)
    return torch.arange(count) * n // count
