"""What trials measure: a task declares each number once; records, tables, plots and the page follow from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Bounds = Literal["percentage", "number", ""]
Place = Literal["front", "back", "csv", ""]
On = Literal["labels", "teacher", ""]


@dataclass(frozen=True)
class Measure:
    """One number of a trial's result, or a quotient or difference of two.

    Attributes:
        key: its name in result.json, or in export.json of an exported model.
        heading: what a column of it is called, without the unit.
        unit: "%", "points", "MB", "s", "ms", "×" or nothing; a column's title holds it.
        decimals: how many are printed; None: three significant digits below a hundred, whole numbers above.
        better: "higher" or "lower"; decides which method is the strongest baseline.
        bounds: what a record may hold: a "percentage" in [0, 100], any finite "number", or "" for what another
            measure of the same key checks.
        place: where the table of results prints it: in "front" with its spread over the trials, at the "back" as a
            mean, in its "csv" file only, or nowhere ("").
        spread: whether a front column prints mean ± sample standard deviation instead of the mean alone.
        tables: further tables that it is in: "plugin" (a method without and with RGAL), "export" (exported models),
            "plot" (a figure of all methods).
        name: how the columns of the CSV begin, where that is not the key.
        group, short: the heading it shares with its neighbours in LaTeX, and its own below that.
        optional: whether its column is left out where nothing is known of it.
        scale: factor from the record to the table, such as 100 for a share that is printed in percent.
        over, less, out_of: key of another number: the column then is the quotient, the difference or "this of that".
        on: what it is measured against: the "labels" of test images, the "teacher" where there are none, or nothing.
        published: the pair by which published numbers are looked up: "networks" or "protocol".
        note: a sentence below the table. `{}` stands for the range of the values, in two or `decimals` decimals; such
            a note is left out where none is known.
    """

    key: str
    heading: str
    unit: str = ""
    decimals: int | None = 2
    better: Literal["higher", "lower", ""] = ""
    bounds: Bounds = "number"
    place: Place = "front"
    spread: bool = False
    tables: tuple[str, ...] = ()
    name: str = ""
    group: str = ""
    short: str = ""
    optional: bool = False
    scale: float = 1.0
    over: str = ""
    less: str = ""
    out_of: str = ""
    on: On = ""
    published: Literal["networks", "protocol", ""] = ""
    note: str = ""

    @property
    def start(self) -> str:
        """How its columns in a CSV begin."""
        return self.name or self.key

    @property
    def title(self) -> str:
        """Heading and unit of its column: "Top-1 (%)"."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading

    @property
    def on_axis(self) -> str:
        """The label of an axis that shows it: "Test top-1 (%)", "Agreement (%)"."""
        if self.on == "teacher":
            return self.title
        return f"Test {replace(self, heading=self.word).title}"

    @property
    def word(self) -> str:
        """The heading inside a sentence: "top-1", "AIA"."""
        return self.heading[0].lower() + self.heading[1:] if self.heading[1:2].islower() else self.heading


def costs(learner: str = "Student") -> tuple[Measure, ...]:
    """Declare what a trial cost: images, steps and seconds; `learner` is what is trained beside the synthesis."""
    short = learner.lower()
    return (
        Measure("images", "Images", decimals=0, place="back"),
        Measure(
            "synthesis_steps", "Synthesis steps", decimals=0, place="back", group="Steps", short="synthesis"
        ),
        Measure("student_steps", f"{learner} steps", decimals=0, place="back", group="Steps", short=short),
        Measure(
            "synthesis_seconds", "Synthesis", "s", None, place="back", group="Time (s)", short="synthesis"
        ),
        Measure(
            "student_seconds", learner, "s", None, place="back", group="Time (s)", short=short,
            note="Seconds are those of the clock, whatever else the machine did meanwhile.",
        ),
        Measure("synthesis_cpu_seconds", "", "s", None, place="csv", optional=True),
        Measure("student_cpu_seconds", "", "s", None, place="csv", optional=True),
    )  # fmt: skip


TOP1 = Measure(
    "last", "Top-1", "%", better="higher", bounds="percentage", spread=True, tables=("plugin",), name="top1",
    published="networks", on="labels", note="Top-1: test accuracy at the last evaluation, not the best.",
)  # fmt: skip
DROP = Measure(
    "teacher_top1", "Drop", "points", bounds="", place="back", name="drop", less="last", on="labels",
    note="Drop: teacher minus student.",
)  # fmt: skip
TEACHER = Measure(
    "teacher_top1", "Teacher", "%", bounds="percentage", place="", on="labels", note="Teacher: {} % top-1."
)  # fmt: skip
ACCURACY = (TOP1, DROP, TEACHER)

AGREEMENT = Measure(
    "agreement", "Agreement", "%", better="higher", bounds="percentage", spread=True, tables=("plugin",), on="teacher",
    note="Agreement: share of the held-out synthesised images on which student and teacher name the same class, at the "
    "last evaluation. No student trained on these images; all methods of a teacher are judged on the same.",
)  # fmt: skip
KL = Measure(
    "kl", "KL", "nats", decimals=3, better="lower", place="back", on="teacher",
    note="KL: mean of KL(teacher || student) of their class probabilities on the same images.",
)  # fmt: skip
REAL_AGREEMENT = Measure(
    "real_agreement", "Agreement, real", "%", bounds="percentage", place="back", optional=True,
    note="Agreement, real: the same on the given real images, which have no labels.",
)  # fmt: skip
REAL_KL = Measure("real_kl", "KL, real", "nats", decimals=3, place="back", optional=True)


CONFIDENCE = Measure(
    "confidence_median", "Teacher's confidence", "%", bounds="percentage", place="back", optional=True, on="teacher",
    note="Teacher's confidence: median over the images that a method made of the teacher's largest class probability; "
    "the CSV has the 10th and the 90th percentile.",
)  # fmt: skip
CONFIDENCE_ENDS = tuple(
    Measure(f"confidence_{end}", "", "%", bounds="percentage", place="csv", optional=True, on="teacher")
    for end in ("low", "high")
)


# What can be known of a student without a single label. Tables print the first two where there are no test images.
WITHOUT_LABELS = (AGREEMENT, KL, REAL_AGREEMENT, REAL_KL, CONFIDENCE, *CONFIDENCE_ENDS)
PRIMARY = (TOP1, AGREEMENT)  # a finished trial has one of them

# What a record of any task may hold, also of a task that is not installed here.
COMMON = (
    TOP1,
    TEACHER,
    Measure("best", "Best", "%", better="higher", bounds="percentage", place="", on="labels"),
    *costs(),
    Measure("initial_images", "Initial images", decimals=0, place=""),
)


def measured_text(values: Mapping[str, Any]) -> str:
    """Say the primary number of an evaluation or of a result: "top-1 88.20 %", "agreement 97.30 % (KL 0.021)"; ""
    where it has none.

    >>> measured_text({"agreement": 97.3, "kl": 0.0214})
    'agreement 97.30 % (KL 0.021)'
    """
    measure = next((one for one in PRIMARY if one.start in values), None)
    if measure is None:
        return ""
    more = f" ({KL.heading} {values[KL.key]:.3f})" if measure is AGREEMENT and KL.key in values else ""
    return f"{measure.word} {values[measure.start]:.2f} %{more}"
