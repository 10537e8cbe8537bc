"""NAPA-VQ: classes are coding vectors, which are kept apart from those that images say are their neighbours.

Malepathirana et al., "NAPA-VQ: Neighborhood Aware Prototype Augmentation with Vector Quantization for Continual
Learning", ICCV 2023. PASS's rotations and temperature 0.1, with distances to coding vectors as logits; a margin between
each feature's own vector and its neighbours; 10 times the cross-entropy of mixtures of neighbouring old means; 10 times
the distance of features to the old model's. Old vectors stay. The test names the coding vector with the least angle.

Differs from the code (0a8b78d): coding vectors are the rows of the classifier, start as torch has them and are trained
by the extractor's Adam, there drawn from N(0, I) and trained by SGD at a rate of their own (5, later 0.5); the graph of
neighbours is made anew from the old vectors at the start of a phase, follows images only, and is made symmetric by the
larger of both edges; means are of upright, un-augmented images, and mixed with those of upright neighbours; the first
phase has as many steps as the suite's other first models.
"""

from rgal.core.optimiser import StudentAdam
from rgal.methods.parameters import DistillationWeight, PositiveNumber, StudentLearningRate
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.coding_terms import coding_vectors
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.tasks.class_incremental.terms import feature_norm_distillation

RATES = {"student_lr": 1e-4, "student_weight_decay": 2e-4}
DROPS = ((0.45, 0.1), (0.9, 0.01))  # epochs 45 and 90 of 100


@method(
    "napa_vq",
    reference="Malepathirana et al., ICCV 2023",
    tasks=("necil",),
    budgets={
        "smoke": {},
        "small": {"student_lr": 5e-3},  # as for pass: 150 steps instead of 7,900
        "paper": {"student_steps": {"epochs": 100}, "batch": 64} | RATES,  # of its code's CIFAR-100 script
    },
)
def napa_vq(
    kd: DistillationWeight = 10.0,
    proto: float = 10.0,
    temperature: PositiveNumber = 0.1,
    draws: int = 64,
    lr: StudentLearningRate = 1e-4,
) -> Recipe:
    coding = coding_vectors(1.0, proto, draws, temperature)
    spec = IncrementalSpec(
        base=(coding,),
        base_name=f"coding vectors, temperature {temperature:g}",
        base_optimiser=StudentAdam(1e-3, 2e-4, "steps", drops=DROPS),
        rotations=True,
        keeps=("means",),
        frozen=("old outputs",),
        classifier="rows",
    )
    student = StudentAdam(lr, 2e-4, "steps", drops=DROPS)
    return incremental(
        coding, feature_norm_distillation(kd), spec=spec, student=student, steps=7900, batch=64
    )
