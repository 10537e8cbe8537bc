"""PASS: rotations as classes of their own, and noisy class means in place of old images.

Zhu et al., "Prototype Augmentation and Self-Supervision for Incremental Learning", CVPR 2021. Weights, temperature and
optimiser of its code for CIFAR-100 and Tiny-ImageNet, in every phase: Adam at 1e-3, a tenth after epochs 44 and 89 of
101; the one radius of the base classes. Its first phase is its own, with rotations.

Differs from the code: the first phase has as many steps and images a step as the suite's other first models; class
means are of un-augmented images, where the code takes those of augmented, incomplete batches; the radius comes from
biased covariances, there divided by n - 1; colour is not jittered; ResNet-18 starts as torch has it, there as He et al.
2015 (the code's ResNet-18 holds CBAM attention, which its blocks never call: nothing is missing here).
noise="covariance" is not PASS: each old class is augmented by its own covariance, in the closed form of IL2A (Zhu et
al., NeurIPS 2021; strength 2.5).
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
    student = StudentAdam(lr, 2e-4, "steps", drops=((44 / 101, 0.1), (89 / 101, 0.01)))
    of_means = prototype_cross_entropy if noise == "radius" else semantic_augmentation
    return incremental(
        seen_cross_entropy(1.0, temperature),
        feature_norm_distillation(kd),
        of_means(proto, draws, temperature),
        spec=IncrementalSpec(
            base=(seen_cross_entropy(1.0, temperature),),
            base_name=f"rotations, temperature {temperature:g}, Adam {lr:g}",
            base_optimiser=student,
            rotations=True,
            keeps=("means", "radius") if noise == "radius" else ("means", "radius", "covariances"),
        ),
        student=student,
        steps=7979,
        batch=64,
    )
