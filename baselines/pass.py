"""PASS: rotations as classes of their own, and noisy class means in place of old images.

Zhu et al., "Prototype Augmentation and Self-Supervision for Incremental Learning", CVPR 2021. Weights, temperature and
optimiser of its code: Adam, a tenth after epochs 44 and 89 of 101; the one radius of the base classes.

Differs from the code: class means are of un-augmented images, where the code takes those of augmented, incomplete
batches; colour is not jittered. Its first phase is its own, with rotations. noise="covariance" is not PASS: each old
class is augmented by its own covariance, in the closed form of IL2A (Zhu et al., NeurIPS 2021; strength 2.5).
"""

from typing import Literal

from rgal.core.optimiser import StudentAdam
from rgal.methods.parameters import DistillationWeight, PositiveNumber, StudentLearningRate
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.prototypes import prototype_cross_entropy, semantic_augmentation
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.tasks.class_incremental.terms import feature_norm_distillation, seen_cross_entropy


@method("pass", reference="Zhu et al., CVPR 2021", tasks=("necil",))
def pass_(
    kd: DistillationWeight = 10.0,
    proto: float = 10.0,
    temperature: PositiveNumber = 0.1,
    draws: int = 64,
    lr: StudentLearningRate = 1e-3,
    noise: Literal["radius", "covariance"] = "radius",
) -> Recipe:
    of_means = prototype_cross_entropy if noise == "radius" else semantic_augmentation
    return incremental(
        seen_cross_entropy(1.0, temperature),
        feature_norm_distillation(kd),
        of_means(proto, draws, temperature),
        spec=IncrementalSpec(
            base=(seen_cross_entropy(1.0, temperature),),
            base_name=f"rotations, temperature {temperature:g}",
            rotations=True,
            keeps=("means", "radius") if noise == "radius" else ("means", "radius", "covariances"),
        ),
        student=StudentAdam(lr, 2e-4, "steps", drops=((44 / 101, 0.1), (89 / 101, 0.01))),
        steps=7900,
        batch=64,
    )
