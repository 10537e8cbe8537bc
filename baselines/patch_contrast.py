"""A batch of images whose patches are like some of their neighbours, the one source of a quantized network's ranges.

After Ramachandran et al., "CLAMP-ViT", ECCV 2024, whose generation is not released and known here from summaries
alone: each patch is an anchor, the four most similar of its 3x3 neighbourhood are positives, the rest of it
negatives, under an InfoNCE loss in every layer. Not known, and chosen here: temperature .1, cross-entropy with a
label in place of the distance to a target that no text names, and schedule, batch and total variation of PSAQ-ViT.
Its search of bit widths is left out. This is no reproduction of CLAMP-ViT, and no published number stands beside it.
"""

from rgal.baselines.psaq_vit import BUDGETS, calibration_images
from rgal.methods.parameters import ClassWeight, LearningRate, PositiveNumber, TotalVariationWeight
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.terms.inversion import one_hot
from rgal.terms.patch_terms import patch_contrast as contrast
from rgal.terms.patch_terms import variation_near


@method(
    "patch_contrast",
    reference="after Ramachandran et al., ECCV 2024 (CLAMP-ViT); a stand-in",
    tasks=("dfq",),
    budgets=BUDGETS,
)
def patch_contrast(
    patches: float = 1.0,
    temperature: PositiveNumber = 0.1,
    oh: ClassWeight = 1.0,
    tv: TotalVariationWeight = 0.05,
    lr: LearningRate = 0.2,
) -> Recipe:
    return calibration_images(lr, contrast(patches, temperature), one_hot(oh), variation_near(tv))
