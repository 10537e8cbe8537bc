"""A method is data: a Recipe names its parts, and RGAL is a transformation of recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, cast, get_args

from rgal.synthesis.images import Adam, ImageSpec
from rgal.synthesis.views import View, crop_flip, identity
from rgal.terms.objective import Weighted
from rgal.terms.relation import Feature, Net, relation
from rgal.terms.transfer import channel_distillation, distillation, gram_distillation

Follows = Literal["paper", "code"]  # where a paper and its release differ


@dataclass(frozen=True)
class Rounds:
    """How synthesis and student steps alternate. Budgets are steps.

    count rounds of (synthesis_steps, then student_steps); the first `warmup` rounds only synthesise. One-shot
    methods are warmup = count - 1.
    interleaved: the two kinds of step alternate inside a round, as evenly as their numbers allow, and every synthesis
    step makes a batch of its own (DAFL, ZSKT, GDFQ); a round is then what their authors call an epoch.
    synthesis_batch: images a round, or a synthesis step of an interleaved one. batch: pool images a student step.
    student_steps = 0: the student is not trained (calibration only).
    """

    count: int = 200
    synthesis_steps: int = 400
    student_steps: int = 400
    synthesis_batch: int = 256
    batch: int = 128
    warmup: int = 0
    interleaved: bool = False

    def total_student_steps(self) -> int:
        return (self.count - self.warmup) * self.student_steps


@dataclass(frozen=True)
class SGD:
    """The student's optimiser. Learning rate: linear rise over `rise` of the steps, then cosine to zero, a tenth
    after each quarter of the steps, or constant. Stepped every step, where the public implementations step once an
    epoch of 400."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False
    schedule: Literal["cosine", "quarters", "constant"] = "cosine"
    rise: float = 0.0


GLOBAL_VIEW: Mapping[str, View] = MappingProxyType({"global": crop_flip})


@dataclass(frozen=True)
class Recipe:
    """Everything a method is.

    images: what is optimised; None means the pool holds real images and the row is not data-free.
    views: what the networks see in synthesis, by name; terms read "global" unless they say otherwise.
    synthesis, transfer: weighted terms of the two phases. keep: which iterate of a round enters the pool.
    source: students train on the pool, on fresh draws of a persistent generator, or on the batch that was synthesised
    last, as it is.
    student_view: augmentation of student batches. pairs: every image twice per batch, augmented independently.
    per_class: if not 0, batches of synthesis and of the student hold that many images of each of their classes, so
    that same-label pairs exist whatever the number of classes.
    fmix: mix student batches by FMix; the teacher labels the mixture.
    """

    images: ImageSpec | None
    transfer: tuple[Weighted, ...] = (distillation(),)
    synthesis: tuple[Weighted, ...] = ()
    views: Mapping[str, View] = field(default_factory=lambda: GLOBAL_VIEW)
    optimiser: Adam = Adam()
    student: SGD = SGD()
    rounds: Rounds = Rounds()
    keep: Literal["best", "last"] = "best"
    source: Literal["pool", "generator", "batch"] = "pool"
    student_view: View = crop_flip
    pairs: bool = False
    per_class: int = 0
    fmix: bool = False

    @property
    def data_free(self) -> bool:
        return self.images is not None


def alternating(
    images: ImageSpec,
    synthesis: tuple[Weighted, ...],
    transfer: tuple[Weighted, ...],
    optimiser: Adam,
    student_steps: int,
    source: Literal["generator", "batch"] = "generator",
) -> Recipe:
    """A generator against a student: one step of the one, then `student_steps` of the other, 400 of these a round.

    The student sees images as they are, without augmentation: fresh draws of the generator, or with source "batch"
    the batch that its last step was made on. CMI's schedule for such methods: 200 rounds of 256 images a step.
    """
    rounds = Rounds(200, 400 // student_steps, 400, synthesis_batch=256, batch=256, interleaved=True)
    return Recipe(
        images=images,
        transfer=transfer,
        synthesis=synthesis,
        views={"global": identity},
        optimiser=optimiser,
        rounds=rounds,
        keep="last",
        source=source,
        student_view=identity,
    )


def plus_rgal(
    recipe: Recipe,
    spread: float = 0.1,
    gather: float = 0.1,
    cd: float = 0.1,
    gram: float = 0.0,
    follows: Literal["paper", "code"] = "paper",
    band: Literal["focal", "distance", "uniform"] = "focal",
    student_band: Literal["focal", "distance", "uniform"] = "distance",
    low: float | None = None,
    high: float | None = None,
    margin: float = 0.2,
    target: Net = "student",
    start_layer: int = 2,
    end_layer: int = 4,
    feature: str = "global",
    custom_steps: float = 1.0,
    pairs: bool = True,
    per_class: int = 0,
    fmix: bool = False,
    spread_warmup: bool = False,
) -> Recipe:
    """`recipe + RGAL`: the spread triplet in synthesis, the gather triplet and channel distillation in training.

    Defaults are the weights of the release's README command.
    follows: "paper" spreads in synthesis and draws the student's negatives on the teacher's logits; "code"
    reproduces the release, which gathers in both phases (no caller passes its `negative` switch) and draws them on
    the student's own logits. band, low, high: negative sampling in synthesis; student_band: in training.
    target, start_layer, end_layer: whose pooled layers the synthesis triplet is measured on. feature: the
    student's embeddings, any of layers, global, logits joined by "|". custom_steps: share of the rounds in which
    the student's extra terms are on. pairs: every student image twice, augmented independently, so that positive
    pairs exist; doubles the images a step. per_class: batches of that many images a class (0: as the host draws
    them). spread_warmup: leave the spread term out of warm-up rounds.
    """
    features = tuple(feature.split("|"))
    if not set(features) <= set(get_args(Feature)):
        raise ValueError(f"feature={feature!r}: expected any of {', '.join(get_args(Feature))} joined by '|'")
    extra_synthesis = relation(
        "spread",
        spread,
        polarity="spread" if follows == "paper" else "gather",
        band=band,
        low=low,
        high=high,
        target=target,
        layers=(start_layer, end_layer),
        margin=margin,
        after_warmup=spread_warmup,
    )
    extra_transfer = relation(
        "gather",
        gather,
        band=student_band,
        target="student",
        sample_on="teacher" if follows == "paper" else "student",
        features=cast(tuple[Feature, ...], features),
        layers=(start_layer, end_layer),
        margin=margin,
        until=custom_steps,
    )
    return replace(
        recipe,
        synthesis=(*recipe.synthesis, extra_synthesis) if recipe.data_free else (),
        transfer=(
            *recipe.transfer,
            channel_distillation(cd, until=custom_steps),
            gram_distillation(gram, until=custom_steps),
            extra_transfer,
        ),
        pairs=pairs,
        per_class=per_class or recipe.per_class,
        fmix=fmix,
    )
