"""FCS: PASS's learner, a layer that carries class means over to the new extractor, and contrast against old classes.

Li et al., "FCS: Feature Calibration and Separation for Non-Exemplar Class Incremental Learning", CVPR 2024. Rotations
as classes of their own, temperature 0.1, distance of features 10; a linear layer learns to take old features to new
ones, prototypes are carried by it in the loss and at the end of the phase; supervised contrast 0.1 of two views, with
noisy means of old classes as keys that match nothing. Adam at 1e-3, a tenth after epochs 45 and 90 of 101, in every
phase.

Differs from the code: IL2A's further classes, mixtures of pairs, are left out; the second view is a resized crop
without changes of colour; the radius is that of the first phase's classes, there of all; the first phase has as many
steps as the suite's other first models. With `+rgal` features are gathered twice: compare with fcs[contrast=0]+rgal.
"""

from rgal.core.optimiser import StudentAdam
from rgal.methods.parameters import DistillationWeight, PositiveNumber, StudentLearningRate
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.compensation import LearntDrift
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.tasks.class_incremental.terms import feature_norm_distillation, seen_cross_entropy
from rgal.tasks.class_incremental.transfer_terms import supervised_contrast, transferred_prototypes

DROPS = ((45 / 101, 0.1), (90 / 101, 0.01))


@method(
    "fcs",
    reference="Li et al., CVPR 2024",
    tasks=("necil",),
    budgets={
        "smoke": {},
        "small": {"student_lr": 5e-3},  # as for pass: 150 steps instead of 7,979
        "paper": {
            "student_steps": {"epochs": 101},
            "batch": 64,
            "student_lr": 1e-3,
            "student_weight_decay": 2e-4,
        },
    },
)
def fcs(
    kd: DistillationWeight = 10.0,
    transfer: PositiveNumber = 1.0,
    proto: float = 10.0,
    contrast: float = 0.1,
    temperature: PositiveNumber = 0.1,
    lr: StudentLearningRate = 1e-3,
) -> Recipe:
    learning = seen_cross_entropy(1.0, temperature), supervised_contrast(contrast)
    student = StudentAdam(lr, 2e-4, "steps", drops=DROPS)
    spec = IncrementalSpec(
        base=learning,
        base_name=f"rotations, temperature {temperature:g}, Adam {lr:g}, contrast {contrast:g}",
        base_optimiser=student,
        rotations=True,
        keeps=("means", "radius"),
        compensate=LearntDrift("transfer"),
    )
    held = feature_norm_distillation(kd), transferred_prototypes(transfer, proto / transfer, 64, temperature)
    return incremental(*learning, *held, spec=spec, student=student, steps=7979, batch=64)
