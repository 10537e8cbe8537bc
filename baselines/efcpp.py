"""EFC++: features may move where no output depends on them; means follow a kernel; the classifier is trained last.

Magistri et al., "EFC++: Elastic Feature Consolidation with Prototype Re-balancing for Cold Start Exemplar-free
Incremental Learning", arXiv 2503.10439. Local cross-entropy, the distance (f - g)'(10 E + 0.1 I)(f - g) of features
under the importance E that the last phase left; batch norms frozen. Means follow the kernel mean of f - g in its
metric; all outputs are then trained on new features and samples of old classes' Gaussians. The first phase has
rotations.

Differs from the code: statistics, drift and E are of un-augmented images, and new features of the last training are not
extracted anew each epoch; classifiers have a bias; the first phase has as many steps and images a step as the suite's
other first models. Weights are of the release for CIFAR-100; ImageNet's smaller rate of the extractor is not there.
"""

from rgal.core.optimiser import StudentAdam
from rgal.methods.parameters import CrossEntropyWeight, PositiveNumber, StudentLearningRate
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.compensation import KernelDrift
from rgal.tasks.class_incremental.drift_terms import importance_distillation
from rgal.tasks.class_incremental.rebalance import Rebalance
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.tasks.class_incremental.terms import local_cross_entropy

# The first phase: a tenth after epochs 45 and 90 of 100.
BASE = StudentAdam(1e-3, 2e-4, "steps", drops=((0.45, 0.1), (0.9, 0.01)))


@method(
    "efcpp",
    reference="Magistri et al. 2025, arXiv 2503.10439",
    tasks=("necil",),
    budgets={
        "smoke": {"parameters": {"epochs": 2}},
        "small": {"student_lr": 1e-3},  # 150 steps instead of 7,900
        "paper": {
            "student_steps": {"epochs": 100},
            "batch": 64,
            "student_lr": 1e-4,
            "student_weight_decay": 2e-4,
        },
    },
)
def efcpp(
    ce: CrossEntropyWeight = 1.0,
    importance: float = 10.0,
    damping: float = 0.1,
    sigma: PositiveNumber = 0.2,
    lr: StudentLearningRate = 1e-4,
    epochs: int = 50,
    head_lr: PositiveNumber = 1e-3,
) -> Recipe:
    spec = IncrementalSpec(
        base_name="rotations in the first phase, Adam 0.001",
        base_optimiser=BASE,
        base_rotations=True,
        keeps=("means", "covariances", "counts", "importance"),
        frozen=("norms", "old outputs"),
        compensate=KernelDrift(sigma, "importance"),
        rebalance=Rebalance(epochs, head_lr),
    )
    losses = local_cross_entropy(ce), importance_distillation(1.0, importance, damping)
    return incremental(*losses, spec=spec, student=StudentAdam(lr, 2e-4, "constant"), steps=7900, batch=64)
