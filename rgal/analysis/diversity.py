"""How diverse and how confusable the images are that a trial kept, as numbers.

RGAL's spread term claims to push same-label images apart and to pull different-label images together (Liang & Fu, IJCV
2024). Here that is measured for every method alike, on distances in [0,2] of unit vectors: penultimate features of
teacher and student, and the teacher's logits, on which the focal sampler draws its negatives. Labels are the teacher's
argmax, as in RGAL. Pairs are those inside one batch of images that were made together, as RGAL's are.

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
from rgal.terms.relation import BANDS, fallback_share, sample_negatives, unit_distances

SCHEMA = 1
BAND = BANDS["focal"]
BINS = {"low": 0.0, "high": 2.0, "count": 40}
LAST_ROUNDS = 3
SHOWN = 200  # images of either kind in the embedding
CHUNK = 512  # images a forward pass
DIGITS = 6

Sums = Mapping[str, tuple[float, int]]  # name -> (sum, what it is divided by)


@dataclass(frozen=True)
class Batch:
    """Images that were made together: their round, from 1, and their rows among the kept images in order."""

    round: int
    rows: slice


@dataclass(frozen=True)
class Measured:
    """What one batch adds: (sum, count) of each quantity, and counts in `BINS` of each kind of distance."""

    sums: Sums
    histograms: Mapping[str, Tensor]


# Which images were made together -----------------------------------------------------------------------------------


def batches_made(recipe: Recipe) -> list[tuple[int, int]]:
    """(round, images) of each batch that a whole run of the recipe adds to its pool, in order; rounds from 1.

    See `rgal.engine.run`: students of a pool get every batch; of those that see each batch once, the pool keeps the
    last of a round, and of fresh draws the last of a round that trains the student.
    """
    rounds = recipe.rounds
    if recipe.source == "generator":
        trained = range(rounds.warmup, rounds.count) if rounds.student_steps else range(0)
        return [(number + 1, rounds.batch) for number in trained]
    many = recipe.source == "pool" and rounds.interleaved
    repeats = max(1, rounds.synthesis_steps) if many else 1
    return [(number + 1, rounds.synthesis_batch) for number in range(rounds.count) for _ in range(repeats)]


def kept_batches(made: Sequence[tuple[int, int]], kept: int) -> list[Batch]:
    """The batches that are wholly among the `kept` newest images, oldest first.

    What lies before the first of them is left out: images that were there at the start, or the rest of a batch that a
    full pool overwrote in part, whose labels are not those of a batch.
    """
    found: list[Batch] = []
    end = kept
    for number, size in reversed(made):
        start = end - min(size, kept)  # a pool that is smaller than a batch keeps the end of it
        if start < 0 or start == end:
            break
        found.append(Batch(number, slice(start, end)))
        end = start
    return found[::-1]


def oldest_first(pool: ImagePool) -> Tensor:
    """Rows of the pool's images in the order in which they were added, (len,): a full pool overwrites in a circle."""
    kept = len(pool)
    return torch.arange(pool.added - kept, pool.added, device=pool.device) % max(1, kept)


# Distances ---------------------------------------------------------------------------------------------------------


def pair_distances(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of the normalised rows (N,D) of every pair i < j: of equal labels (P,), of different ones (Q,).

    NaN to a row that is not finite, where `unit_distances` has 0.
    """
    distance = unit_distances(F.normalize(rows.float(), dim=1))
    broken = ~torch.isfinite(rows).all(1)
    distance = distance.masked_fill(broken[:, None] | broken, math.nan)
    same = labels[:, None] == labels[None, :]
    once = torch.ones_like(same).triu(1)
    return distance[once & same], distance[once & ~same]


def histogram(distances: Tensor) -> Tensor:
    """Counts in the `BINS`, whose last one holds its upper end; int64 on the host. NaN is in none."""
    known = distances[torch.isfinite(distances)].cpu()
    count = int(BINS["count"])
    place = (known - BINS["low"]) * (count / (BINS["high"] - BINS["low"]))
    return torch.bincount(place.long().clamp(0, count - 1), minlength=count)


def measure_batch(logits: Tensor, feature: Tensor, student: Tensor | None = None) -> Measured:
    """Of images made together: the teacher's logits (N,C) and feature (N,D), and the student's feature (N,D').

    same, different: distances of features. in_band: other-label pairs whose logits are inside the focal band.
    fallback: anchors that form a pair and have a negative, but none inside it.
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
        "fallback": (float(fallback_share(labels, negatives)) * anchors, anchors),
    }
    if student is not None:
        theirs = pair_distances(student, labels)
        for name, found in zip(("student_same", "student_different"), theirs, strict=True):
            sums[name] = (float(found.sum()), len(found))
    kinds = {"same": same, "different": different, "negatives": other}
    return Measured(sums, {name: histogram(found) for name, found in kinds.items()})


def summed_up(parts: Iterable[Measured]) -> dict[str, Any]:
    """Quantity -> mean over all pairs, or share; None where there is nothing to take it over. And how many pairs."""
    totals: dict[str, tuple[float, int]] = {}
    for part in parts:
        for name, (value, count) in part.sums.items():
            before = totals.get(name, (0.0, 0))
            totals[name] = before[0] + value, before[1] + count
    means = {name: _rounded(value / count) if count else None for name, (value, count) in totals.items()}
    pairs = {f"{name}_pairs": totals[name][1] for name in ("same", "different") if name in totals}
    return means | pairs


def _rounded(value: float) -> float | None:
    """A number that JSON has; None for others."""
    return round(value, DIGITS) if math.isfinite(value) else None


# Networks ----------------------------------------------------------------------------------------------------------


def has_feature(net: nn.Module) -> bool:
    """Whether the net names the head whose input is its penultimate feature."""
    name = getattr(net, "head_name", "")
    return isinstance(name, str) and bool(name)


@torch.no_grad()
def seen_by(net: nn.Module, images: Tensor, domain: Domain) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) and penultimate features (N,D) of uint8 images (N,C,H,W), in float32, evaluation mode."""
    device = next(net.parameters()).device
    logits, features = [], []
    with evaluating(net):
        for chunk in images.split(CHUNK):
            inputs = domain.normalise(to_float(chunk.to(device)))
            seen = observe(net, inputs.contiguous(memory_format=torch.channels_last), ("logits", "feature"))
            assert seen.feature is not None
            logits.append(seen.logits.float())
            features.append(seen.feature.float().flatten(1))
    return torch.cat(logits), torch.cat(features)


# The record --------------------------------------------------------------------------------------------------------


def diversity(
    pool: ImagePool, recipe: Recipe, domain: Domain, teacher: nn.Module, student: nn.Module, real: ImageSet
) -> dict[str, Any]:
    """The record of a finished trial: see results/README.md. The same trial gives the same record.

    real: images to compare with in the embedding, such as test images. A reason under "skipped" where nothing could be
    measured. Never raises: the result of a trial does not depend on what is said about its images.
    """
    try:
        return {"schema": SCHEMA, **_measure(pool, recipe, domain, teacher, student, real)}
    except Exception as error:  # such as no memory left
        return {"schema": SCHEMA, "skipped": in_short(error)}


def _measure(
    pool: ImagePool, recipe: Recipe, domain: Domain, teacher: nn.Module, student: nn.Module, real: ImageSet
) -> dict[str, Any]:
    if not has_feature(teacher):
        return {"skipped": "the teacher names no head, so its penultimate feature is not known"}
    made = batches_made(recipe)
    if pool.added < sum(min(size, len(pool)) for _, size in made):
        raise ValueError(f"the pool was given {pool.added} images, fewer than its recipe makes")
    rows, batches = oldest_first(pool), kept_batches(made, len(pool))
    parts = [_observed(pool.images[rows[batch.rows]], domain, teacher, student) for batch in batches]
    measured = list(zip((batch.round for batch in batches), parts, strict=True))
    after = [(number, part) for number, part in measured if number > recipe.rounds.warmup]
    last = sorted({number for number, _ in measured})[-LAST_ROUNDS:]
    record = {
        "bins": dict(BINS),
        "band": [BAND.low, BAND.high],
        "warmup": recipe.rounds.warmup,
        "rounds": _rounds(batches, measured),
        "after_warmup": summed_up(part for _, part in after),
        "last": summed_up(part for number, part in measured if number in last),
        "histograms": _histograms([part for _, part in after]),
    }
    if not has_feature(student):
        record["student_skipped"] = "the student names no head, so its penultimate feature is not known"
    shown = [rows[batch.rows] for batch in batches if batch.round > recipe.rounds.warmup]
    return record | {"embedding": _embedded(pool.images, shown, domain, teacher, real)}


def _observed(images: Tensor, domain: Domain, teacher: nn.Module, student: nn.Module) -> Measured:
    logits, feature = seen_by(teacher, images, domain)
    return measure_batch(
        logits, feature, seen_by(student, images, domain)[1] if has_feature(student) else None
    )


def _rounds(batches: Sequence[Batch], measured: Sequence[tuple[int, Measured]]) -> list[dict[str, Any]]:
    """One entry a round, over its batches."""
    images: dict[int, int] = {}
    for batch in batches:
        images[batch.round] = images.get(batch.round, 0) + batch.rows.stop - batch.rows.start
    return [
        {"round": number, "images": count, **summed_up(part for at, part in measured if at == number)}
        for number, count in images.items()
    ]


def _histograms(parts: Sequence[Measured]) -> dict[str, list[int]]:
    names = parts[0].histograms if parts else ()
    return {name: torch.stack([part.histograms[name] for part in parts]).sum(0).tolist() for name in names}


def _embedded(
    images: Tensor, shown: Sequence[Tensor], domain: Domain, teacher: nn.Module, real: ImageSet
) -> dict[str, Any]:
    """Evenly chosen images of these rows beside evenly chosen real ones."""
    rows = torch.cat(list(shown)) if shown else torch.empty(0, dtype=torch.int64)
    if min(len(rows), len(real)) < FEWEST:
        return {"skipped": f"{len(rows)} kept and {len(real)} real images; it takes {FEWEST} of each"}
    chosen, theirs = _evenly(len(rows)), _evenly(len(real))
    logits, feature = seen_by(teacher, images[rows[chosen.to(rows.device)]], domain)
    _, real_feature = seen_by(teacher, real.images[theirs], domain)
    points = torch.cat([feature, real_feature])
    labels = [*logits.argmax(1).tolist(), *real.labels[theirs].tolist()]
    return embedding(F.normalize(points, dim=1).cpu().numpy(), labels, len(chosen))


def _evenly(n: int) -> Tensor:
    """At most `SHOWN` of n rows, the same distance apart."""
    count = min(n, SHOWN)
    return torch.arange(count) * n // count
