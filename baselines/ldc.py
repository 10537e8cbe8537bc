"""LDC: class means that follow the extractor through a linear map, and the nearest mean as classifier.

Gomez-Villa et al., "Exemplar-free Continual Representation Learning via Learnable Drift Compensation", ECCV 2024, arXiv
2407.08536. New classes are learnt by local cross-entropy and 10 times LwF's distillation; after each phase old means go
through the map that takes the old model's features of the phase's images to the new model's.

Differs from the code: the map is the least-squares one, drawn towards the identity by `ridge`, there 20 epochs of Adam
from a random start, which moves means even where nothing has drifted; it is fitted without augmentation; classifiers
are linear with a bias, there cosines with one learnt scale; the first phase is the one that all methods share, there
with AutoAugment. drift: "kernel" is SDC (Yu et al., CVPR 2020, sigma 0.3 as in the code), "none" leaves the means.
"""

from typing import Annotated, Literal

from rgal.methods.parameters import DistillationWeight, Meaning, PositiveNumber
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.compensation import Compensation, KernelDrift, LinearDrift
from rgal.tasks.class_incremental.recipes import DISTILLED_PAPER, distilled
from rgal.tasks.class_incremental.scoring import NearestMean
from rgal.tasks.class_incremental.spec import IncrementalSpec


@method(
    "ldc",
    reference="Gomez-Villa et al., ECCV 2024, arXiv 2407.08536",
    tasks=("necil",),
    budgets={"smoke": {}, "small": {}, "paper": DISTILLED_PAPER},
)
def ldc(
    kd: DistillationWeight = 10.0,
    drift: Annotated[Literal["linear", "kernel", "none"], Meaning("how old means follow")] = "linear",
    ridge: PositiveNumber = 1.0,
) -> Recipe:
    drifts: dict[str, Compensation | None] = {
        "linear": LinearDrift(ridge),
        "kernel": KernelDrift(0.3),
        "none": None,
    }
    return distilled(
        kd, IncrementalSpec(keeps=("means",), compensate=drifts[drift], classifier=NearestMean())
    )
