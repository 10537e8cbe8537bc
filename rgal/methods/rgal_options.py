"""The parameters of RGAL, each with its meaning, its default and where that is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, cast, get_args

from rgal.methods.parameters import Meaning
from rgal.terms.negatives import BandName
from rgal.terms.relation import Feature, Net

Follows = Literal["paper", "code"]  # where a paper and its release differ


@dataclass(frozen=True)
class RgalOptions:
    """The parameters of RGAL. Defaults are those of the release's README command, whose options are the sources."""

    spread: Annotated[float, Meaning("weight of the triplet in synthesis", "--triplet 0.1")] = 0.1
    gather: Annotated[float, Meaning("weight of the triplet in student training", "--striplet 0.1")] = 0.1
    cd: Annotated[float, Meaning("weight of channel distillation", "--cd_loss 0.1")] = 0.1
    gram: Annotated[float, Meaning("weight of the release's Gram term", "--gram_loss 0")] = 0.0
    follows: Annotated[
        Follows,
        Meaning(
            "paper: synthesis spreads, and the student's negatives are drawn on the teacher's logits; code: both "
            "phases gather, and they are drawn on the student's own, as the release does",
            "the paper",
        ),
    ] = "paper"
    band: Annotated[
        BandName,
        Meaning(
            "distances that negatives may have in synthesis; see docs/fidelity.md", "--balanced_sampling"
        ),
    ] = "focal"
    student_band: Annotated[
        BandName,
        Meaning("distances that negatives may have in student training", "as in the release"),
    ] = "distance"
    low: Annotated[
        float | None, Meaning("lower limit of `band`; none: the band's own", "0.5 in the paper")
    ] = None
    high: Annotated[
        float | None, Meaning("upper limit of `band`; none: the band's own", "1.0 in the paper")
    ] = None
    margin: Annotated[float, Meaning("margin of both triplets", "the release's constant")] = 0.2
    target: Annotated[
        Net, Meaning("network whose layers the synthesis triplet measures", "--triplet_target student")
    ] = "student"
    start_layer: Annotated[int, Meaning("first layer that is measured", "--start_layer 2")] = 2
    end_layer: Annotated[int, Meaning("layer before which measuring stops", "--end_layer 4")] = 4
    feature: Annotated[
        str,
        Meaning(
            "the student's embeddings in training: any of layers, global, logits, joined by |",
            "--striplet_feature global",
        ),
    ] = "global"
    custom_steps: Annotated[
        float, Meaning("share of the rounds in which cd, gram and gather are on", "--custom_steps")
    ] = 1.0
    pairs: Annotated[
        bool,
        Meaning(
            "show the student every image twice, augmented independently, so that each has a same-label partner",
            "--pair_sample",
        ),
    ] = True
    per_class: Annotated[
        int, Meaning("images of each class in a batch; 0: as the method without RGAL draws them")
    ] = 0
    fmix: Annotated[bool, Meaning("mix student batches by FMix; the teacher labels the mixture", "fmix")] = (
        False
    )
    spread_warmup: Annotated[bool, Meaning("leave the spread term out of warm-up rounds")] = False
    mixed: Annotated[
        float,
        Meaning(
            "class-incremental steps: weight of triplets of new images against replayed ones, relative to the "
            "triplets inside each of the two"
        ),
    ] = 0.0

    def features(self) -> tuple[Feature, ...]:
        """The parts of `feature`. ValueError for one that is none of them."""
        parts = tuple(self.feature.split("|"))
        if not set(parts) <= set(get_args(Feature)):
            valid = ", ".join(get_args(Feature))
            raise ValueError(f"feature={self.feature!r}: expected any of {valid} joined by '|'")
        return cast(tuple[Feature, ...], parts)
