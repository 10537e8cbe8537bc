"""PSAQ-ViT: a batch of images whose patches differ in the teacher; ranges of the quantized network come from it alone.

Li et al., "Patch Similarity Aware Data-Free Quantization for Vision Transformers", ECCV 2022, arXiv 2203.02250.
Weights and schedule of its code (d2c726f) for DeiT: one batch of 32, twice 500 steps of Adam, each a rise over a
fifth and a cosine to 0, pixels clipped; total variation near a number; no training.

Differs from the code: patches are read at the teacher's layers, there in every block's attention before its output
projection; images are rolled by up to 30 of 224 pixels in both halves, by another number in either axis, there by 15
and then 30; the number of total variation is 2,750 at its size, there drawn from 2,500 to 3,000 once; what is
quantized is the suite's placement, there also inputs of layers and norms' outputs. Ten points (`points`) sample the
density less densely than it is narrow, as in the code; 64 or more resolve it, and are not comparable. Networks of
maps are taken too.
"""

from rgal.methods.parameters import ClassWeight, LearningRate, TotalVariationWeight
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.image_source import Adam
from rgal.synthesis.pyramid import Level, PyramidPixels
from rgal.synthesis.views import jitter_flip
from rgal.terms.inversion import one_hot
from rgal.terms.objective import LossTerm
from rgal.terms.patch_terms import patch_differences, variation_near


def calibration_images(lr: float, *synthesis: LossTerm) -> Recipe:
    """Make one batch of images under these terms by PSAQ-ViT's schedule; the student is calibrated on it."""
    return Recipe(
        images=PyramidPixels((Level(1, 1, 0.2), Level(1, 1, 0.2))),
        views={"global": jitter_flip(30 / 224 * 32)},
        synthesis=synthesis,
        optimiser=Adam(lr, (0.5, 0.9)),
        transfer=(),
        rounds=Rounds(1, 1000, 0, synthesis_batch=32, batch=32),
        keep="last",
    )


# One batch in every budget; a suite's own entry says otherwise.
BUDGETS = {name: {"synthesis_batch": 32, "batch": 32} for name in ("smoke", "small", "paper")}


@method("psaq_vit", reference="Li et al., ECCV 2022, arXiv 2203.02250", tasks=("dfq",), budgets=BUDGETS)
def psaq_vit(
    patches: float = 1.0,
    points: int = 10,
    oh: ClassWeight = 1.0,
    tv: TotalVariationWeight = 0.05,
    lr: LearningRate = 0.2,
) -> Recipe:
    return calibration_images(lr, patch_differences(patches, points), one_hot(oh), variation_near(tv))
