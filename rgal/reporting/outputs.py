"""What a run leaves to go on with: the files of its trials, under the words people look for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rgal.suite.measures import PRIMARY
from rgal.suite.store.records import Record

# What to look for in a trial's folder, the first that is there -> what it is.
KINDS = {
    "student's weights": ("student.safetensors",),
    "images": ("pool", "samples.png"),
    "ONNX file": ("model.onnx",),
}
LISTED = 2  # trials of which every file is named


def output_lines(records: Sequence[Record], keys: Collection[str]) -> list[str]:
    """List the students, images and ONNX files of the finished trials with these keys, a line each.

    The best student comes first, data-free ones before those trained on real images. Of more than `LISTED` trials only
    the first are listed; the others have theirs in folders beside these.
    """
    done = sorted(
        (record for record in records if record.key in keys and record.status == "finished"),
        key=_from_the_best,
    )
    lines = [
        f"{kind}: {path}"
        for record in done[:LISTED]
        for kind, names in KINDS.items()
        if (path := next((record.folder / n for n in names if (record.folder / n).exists()), None))
    ]
    if len(done) > LISTED:
        lines.append(f"and those of {len(done) - LISTED} more trials, in the folders beside these")
    return [*lines, "how to load each: docs/outputs.md"] if lines else []


def _from_the_best(record: Record) -> tuple[bool, float]:
    """Order records: whether real images were used, and how bad the student is by its primary number."""
    result = record.result
    measure = next((one for one in PRIMARY if isinstance(result.get(one.key), int | float)), None)
    return not result.get("data_free", True), -float(result[measure.key]) if measure else 0.0
