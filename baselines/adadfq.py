"""AdaDFQ: a generator told the label makes images on which teacher and student disagree within bounds.

Qian et al., "Adaptive Data-Free Quantization", CVPR 2023, arXiv 2303.06869. Weights and schedule of the CIFAR
configuration of its code (84100f3); its ImageNet ones (temperature 5, bounds, step sizes) are in `dfq_imagenet`.

The student's loss is the code's, -T^2 times the entropy of softmax((t - s) / T): half the variance of the logits'
difference, no KL and no cross-entropy. Differs from the code: its generator's learning rate falls with the student's,
ours is constant; its generator is GDFQ's, with the differences that `gdfq` names; ranges are tracked once a batch,
there in the generator's pass and in the student's.
"""

from dataclasses import replace

from rgal.baselines.gdfq import BUDGET, DROPS, gdfq
from rgal.core.optimiser import SGD
from rgal.methods.parameters import (
    BatchNormWeight,
    DistillationWeight,
    LearningRate,
    StudentLearningRate,
    Temperature,
)
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.terms.adaptability import adaptability, label_of_difference, label_of_sum, logit_gap
from rgal.terms.inversion import bn_statistics


@method(
    "adadfq",
    reference="Qian et al., CVPR 2023, arXiv 2303.06869",
    tasks=("dfq",),
    budgets={"small": BUDGET},
)
def adadfq(
    margin: float = 1.0,
    lower: float = 0.1,
    upper: float = 0.8,
    disagree: float = 0.2,
    agree: float = 0.1,
    bn: BatchNormWeight = 1.0,
    kd: DistillationWeight = 1.0,
    temperature: Temperature = 20.0,
    lr: LearningRate = 1e-3,
    student_lr: StudentLearningRate = 1e-4,
) -> Recipe:
    host = gdfq(lr=lr)
    return replace(
        host,
        synthesis=(
            adaptability(margin, lower, upper),
            label_of_difference(disagree),
            label_of_sum(agree),
            bn_statistics(bn, "mse"),
        ),
        transfer=(logit_gap(kd, temperature),),
        student=SGD(student_lr, nesterov=True, schedule="steps", drops=DROPS),
        rounds=replace(host.rounds, synthesis_batch=16, batch=16),
    )
