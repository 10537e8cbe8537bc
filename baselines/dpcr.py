"""DPCR: second moments of each class that follow the extractor through a linear map, and a ridge classifier of them.

He et al., "Semantic Shift Estimation via Dual-Projection and Classifier Reconstruction for Exemplar-Free
Class-Incremental Learning", ICML 2025, arXiv 2503.05423. New classes are learnt as in LDC. Means and sums of x x' of
old classes go through the map of features, then the classifier is rebuilt: (gamma I + sum of x x')^-1 times the sums of
the classes, each class brought to unit length. gamma is the code's for CIFAR-100; for Tiny-ImageNet and ImageNet it
has 2000.

Differs from the code: the map is drawn towards the identity by `ridge`, there towards 0 by 1e-9; its projection on the
space of each class is left out, as in float32 the code keeps every direction and so projects on the whole space; sums
of new classes are of un-augmented images and all is solved in float64; classifiers while learning are linear with a
bias, there cosines; the first phase is the one that all methods share, there with AutoAugment.
"""

from rgal.methods.parameters import DistillationWeight, PositiveNumber
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.compensation import LinearDrift
from rgal.tasks.class_incremental.recipes import DISTILLED_PAPER, distilled
from rgal.tasks.class_incremental.scoring import Ridge
from rgal.tasks.class_incremental.spec import IncrementalSpec

SMALL = {"parameters": {"gamma": 100.0}}  # 64 features of a network with few channels


@method(
    "dpcr",
    reference="He et al., ICML 2025, arXiv 2503.05423",
    tasks=("necil",),
    budgets={"smoke": SMALL, "small": SMALL, "paper": DISTILLED_PAPER},
)
def dpcr(kd: DistillationWeight = 10.0, gamma: PositiveNumber = 200.0, ridge: PositiveNumber = 1.0) -> Recipe:
    spec = IncrementalSpec(
        keeps=("means", "covariances", "counts"),
        compensate=LinearDrift(ridge),
        classifier=Ridge(gamma, unit=True),
    )
    return distilled(kd, spec)
