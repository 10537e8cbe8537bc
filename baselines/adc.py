"""ADC: class means that follow the extractor by what it does to new images attacked until they pass for the old class.

Goswami et al., "Resurrecting Old Classes with New Data for Exemplar-Free Continual Learning", CVPR 2024, arXiv
2405.19074. New classes are learnt as in LDC; the classifier is the nearest mean. For each old class the 100 nearest
images of the phase take 3 steps of length 25 in normalised pixels, over the whole batch as in the code; the paper
normalises the gradient of each image.

Differs from the code: whether an attacked image passes is asked of the means as they were, there of means of which the
earlier classes' have moved already; images are not augmented; pixels are clamped to the range of [0, 1], there to that
of the phase's images; classifiers while learning are linear with a bias, there cosines; the first phase is the one that
all methods share, there with AutoAugment. `+rgal` gathers new images; the attack stays as it is.
"""

from typing import Annotated

from rgal.methods.parameters import DistillationWeight, Meaning, PositiveNumber
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.compensation import AttackDrift
from rgal.tasks.class_incremental.recipes import DISTILLED_PAPER, distilled
from rgal.tasks.class_incremental.scoring import NearestMean
from rgal.tasks.class_incremental.spec import IncrementalSpec


@method(
    "adc",
    reference="Goswami et al., CVPR 2024, arXiv 2405.19074",
    tasks=("necil",),
    budgets={"smoke": {}, "small": {}, "paper": DISTILLED_PAPER},
)
def adc(
    kd: DistillationWeight = 10.0,
    alpha: PositiveNumber = 25.0,
    steps: Annotated[int, Meaning("of the attack of each class")] = 3,
    attacked: Annotated[int, Meaning("images of each class")] = 100,
) -> Recipe:
    drift = AttackDrift(alpha, steps, attacked)
    return distilled(kd, IncrementalSpec(keeps=("means",), compensate=drift, classifier=NearestMean()))
