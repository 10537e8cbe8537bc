"""PRAKA: one classifier of rotated images and one of upright ones; old class means are mixed with new features.

Shi and Ye, "Prototype Reminiscence and Augmented Asymmetric Knowledge Aggregation for Non-Exemplar Class-Incremental
Learning", ICCV 2023. Cross-entropy of both classifiers at temperature 0.1, the plain one drawn to the mean of the other
over an image's rotations; 15 times the same at mixtures of an old mean with a new image's feature; 15 times the
distance of features to the old model's. Adam at 1e-3, in every phase; its code (0454b85) sets a cosine of
32 epochs for a run of 100, so that the rate falls to 0, rises again and falls a second time: that is kept.

Differs from the code: as many mixtures a step as images before rotation, of upright features; features and the
rotations' logits that the plain ones are drawn to at mixtures are constants; class means are of un-augmented images;
the first phase has as many steps as the suite's other first models.
"""

import math

from rgal.core.optimiser import StudentAdam
from rgal.methods.parameters import DistillationWeight, PositiveNumber, StudentLearningRate
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.tasks.class_incremental.terms import feature_norm_distillation
from rgal.tasks.class_incremental.twofold_terms import mixed_prototype_cross_entropy, twofold_cross_entropy

# Of its code's CIFAR-100 script.
PAPER = {"student_steps": {"epochs": 100}, "batch": 128, "student_lr": 1e-3, "student_weight_decay": 2e-4}
DROPS = tuple((epoch / 100, (1 + math.cos(math.pi * epoch / 32)) / 2) for epoch in range(1, 100))


@method(
    "praka",
    reference="Shi and Ye, ICCV 2023",
    tasks=("necil",),
    budgets={
        "smoke": {},
        "small": {"student_lr": 5e-3},  # as for pass: 150 steps instead of 4,000
        "paper": PAPER,
    },
)
def praka(
    kd: DistillationWeight = 15.0,
    proto: float = 15.0,
    temperature: PositiveNumber = 0.1,
    lr: StudentLearningRate = 1e-3,
) -> Recipe:
    learning, student = twofold_cross_entropy(1.0, temperature), StudentAdam(lr, 2e-4, "steps", drops=DROPS)
    spec = IncrementalSpec(
        base=(learning,),
        base_name=f"rotations beside classes, temperature {temperature:g}, Adam {lr:g}",
        base_optimiser=student,
        rotations=True,
        plain_output=True,
        keeps=("means",),
    )
    held = mixed_prototype_cross_entropy(proto, temperature), feature_norm_distillation(kd)
    return incremental(learning, *held, spec=spec, student=student, steps=4000, batch=128)
