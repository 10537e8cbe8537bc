"""RGAL as a transformation of recipes: `NAME+rgal`, and `rgal` itself, which is `plain+rgal`.

Liang & Fu, "Relation-Guided Adversarial Learning for Data-Free Knowledge Transfer", IJCV 2024, arXiv 2412.11380.
"""

from __future__ import annotations

from dataclasses import replace

from rgal.methods.recipe import Recipe, RgalChange
from rgal.methods.rgal_options import RgalOptions
from rgal.terms.negatives import BANDS
from rgal.terms.objective import LossTerm
from rgal.terms.relation import RelationSpec, relation
from rgal.terms.transfer import channel_distillation, gram_distillation


def plus_rgal(recipe: Recipe, options: RgalOptions = RgalOptions()) -> Recipe:  # noqa: B008
    """Add RGAL to a recipe: the spread triplet to its synthesis, the gather triplet and channel distillation to the
    training of its student.

    What else it changes in a recipe that belongs to one task, the recipe's own extension says.

    Raises:
        ValueError: the features or the band of distances make no sense.
    """
    change = RgalChange() if recipe.extension is None else recipe.extension.with_rgal(options)
    synthesis, transfer = _triplets(options)
    return replace(
        recipe,
        synthesis=(*recipe.synthesis, synthesis) if recipe.images is not None else (),
        transfer=(
            *recipe.transfer,
            channel_distillation(options.cd, until=options.custom_steps),
            gram_distillation(options.gram, until=options.custom_steps),
            transfer,
            *change.terms,
        ),
        extension=change.extension,
        pairs=options.pairs,
        per_class=options.per_class or recipe.per_class,
        fmix=options.fmix,
    )


def _triplets(options: RgalOptions) -> tuple[LossTerm, LossTerm]:
    """The relation terms of synthesis and of student training."""
    features = options.features()
    paper = options.follows == "paper"
    layers = (options.start_layer, options.end_layer)
    in_synthesis = RelationSpec(
        polarity="spread" if paper else "gather",
        band=BANDS[options.band].between(options.low, options.high),
        target=options.target,
        layers=layers,
        margin=options.margin,
    )
    in_transfer = RelationSpec(
        band=BANDS[options.student_band],
        sample_on="teacher" if paper else "student",
        features=features,
        layers=layers,
        margin=options.margin,
        mixed=options.mixed,
    )
    return (
        relation("spread", options.spread, in_synthesis, after_warmup=options.spread_warmup),
        relation("gather", options.gather, in_transfer, until=options.custom_steps),
    )
