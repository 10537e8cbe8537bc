"""AdaGauss: a Gaussian for each class whose mean and covariance follow the extractor through a trained net.

Rypesc et al., "Task-recency bias strikes back: Adapting covariances in Exemplar-Free Class Incremental Learning",
NeurIPS 2024, arXiv 2409.18265. Local cross-entropy, 10 times the distance of projected features to the old model's, and
the anti-collapse term, which keeps the covariance of a batch's features from losing rank; the first phase has rotations
as further classes. Old classes: 10,000 samples go through a net from old features to new ones. Mahalanobis distance.

Differs from the code: features are those of the suite's networks, there 64 signed ones of a 1x1 convolution; a batch of
fewer images than features gets 1e-4 on its covariance's diagonal, where the code stops; statistics are of images
without their mirror images, the net is trained without augmentation; no first epochs for the classifier alone, no limit
of the gradient's norm in training; the first phase has as many steps as the suite's other first models.
"""

from functools import partial

from rgal.core.optimiser import SGD
from rgal.methods.parameters import CrossEntropyWeight, DistillationWeight, StudentLearningRate
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.tasks.class_incremental.compensation import MappedDrift
from rgal.tasks.class_incremental.drift_terms import anti_collapse, anti_collapse_loss, projected_distillation
from rgal.tasks.class_incremental.recipes import incremental
from rgal.tasks.class_incremental.scoring import Mahalanobis
from rgal.tasks.class_incremental.spec import IncrementalSpec
from rgal.tasks.class_incremental.terms import local_cross_entropy, seen_cross_entropy

DROPS = ((0.3, 0.1), (0.6, 0.01), (0.9, 0.001))  # epochs 60, 120 and 180 of 200
BASE = SGD(0.1, 5e-4, schedule="steps", drops=DROPS)
PAPER = {"student_steps": {"epochs": 200, "drop_last": True}, "batch": 256, "student_lr": 0.01,
         "student_weight_decay": 5e-4, "student_drops": [*map(list, DROPS)]}  # fmt: skip


@method(
    "adagauss",
    reference="Rypesc et al., NeurIPS 2024, arXiv 2409.18265",
    tasks=("necil",),
    budgets={
        "smoke": {"parameters": {"drift_steps": 10, "samples": 200}},
        "small": {"parameters": {"drift_steps": 300}},
        "paper": PAPER,
    },
)
def adagauss(
    ce: CrossEntropyWeight = 1.0,
    kd: DistillationWeight = 10.0,
    collapse: float = 1.0,
    lr: StudentLearningRate = 0.01,
    drift_steps: int = 1900,
    samples: int = 10_000,
) -> Recipe:
    spec = IncrementalSpec(
        base=(seen_cross_entropy(), anti_collapse(collapse)),
        base_name=f"rotations in the first phase, anti-collapse {collapse:g}",
        base_optimiser=BASE,
        base_rotations=True,
        keeps=("means", "covariances", "counts"),
        compensate=MappedDrift(drift_steps, samples=samples, loss=partial(anti_collapse_loss, limit=1.0)),
        classifier=Mahalanobis(shrink=(3.0, 0.0)),
    )
    student = SGD(lr, 5e-4, schedule="steps", drops=DROPS)
    losses = local_cross_entropy(ce), projected_distillation(kd), anti_collapse(collapse)
    return incremental(*losses, spec=spec, student=student, steps=3800, batch=256)
