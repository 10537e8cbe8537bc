"""Slow, obvious versions of what rgal.analysis.diversity measures: loops over pairs of images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tests.helpers import naive

LOW, HIGH = 0.5, 1.0  # the focal band


def pairs(rows: Tensor, labels: Sequence[int]) -> tuple[list[float], list[float]]:
    """Distances of the unit-length rows of every unordered pair: of the same label, of different labels."""
    table = naive.distances(rows.double())
    same, different = [], []
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            (same if labels[i] == labels[j] else different).append(float(table[i][j]))
    return same, different


def argmax(rows: Tensor) -> list[int]:
    return [max(range(len(row)), key=lambda c: row[c]) for row in rows.tolist()]


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def anchors(logits: Tensor) -> list[bool]:
    """Of the anchors with another image of their label and one of another: whether none of these is in the band."""
    labels, table = argmax(logits), naive.distances(logits.double())
    members = []
    for i, label in enumerate(labels):
        others = [j for j in range(len(labels)) if labels[j] != label]
        if others and labels.count(label) > 1:
            members.append(not any(LOW < float(table[i][j]) < HIGH for j in others))
    return members


def summary(batches: Sequence[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float | int | None]:
    """Of batches (logits, teacher's features, student's features): means and shares over all pairs and anchors."""
    values: dict[str, list[float]] = {
        name: [] for name in ("same", "different", "in_band", "fallback", "student_same", "student_different")
    }
    for logits, teacher, student in batches:
        labels = argmax(logits)
        for prefix, rows in (("", teacher), ("student_", student)):
            same, different = pairs(rows, labels)
            values[f"{prefix}same"] += same
            values[f"{prefix}different"] += different
        values["in_band"] += [float(LOW < d < HIGH) for d in pairs(logits, labels)[1]]
        values["fallback"] += [float(missing) for missing in anchors(logits)]
    counts = {f"{name}_pairs": len(values[name]) for name in ("same", "different")}
    return {name: mean(numbers) for name, numbers in values.items()} | counts


def histogram(values: Sequence[float], low: float = 0.0, high: float = 2.0, bins: int = 40) -> list[int]:
    """How many values lie in each bin; the upper end belongs to the last one."""
    counts = [0] * bins
    for value in values:
        for place in range(bins):
            start, end = (low + (high - low) * edge / bins for edge in (place, place + 1))
            if start <= value < end or (place == bins - 1 and value >= end):
                counts[place] += 1
    return counts


def kept(added: Sequence[tuple[int, int]], capacity: int | None) -> list[tuple[int, list[int]]]:
    """(round, numbers of its images) of the batches no image of which was overwritten. Images count from 0."""
    batches, number = [], 0
    for round_, size in added:
        batches.append((round_, list(range(number, number + size))))
        number += size
    oldest = 0 if capacity is None else max(0, number - capacity)
    return [(round_, images) for round_, images in batches if images and images[0] >= oldest]
