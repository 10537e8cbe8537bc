"""IntraQ: pixels of a class that differ in confidence, in feature and in what is cut out of them; then one training.

Zhong et al., "IntraQ: Learning Synthetic Images with Intra-Class Heterogeneity for Zero-Shot Network Quantization",
CVPR 2022, arXiv 2111.09136. Weights and schedule of the CIFAR-10 commands of its code (CIFAR-100: low=.6, lower=.02,
upper=1): twenty batches of 256 images, then 147 epochs of 200 steps (of its 151 the first four only set ranges).

Differs from the code: pixels are clipped to valid images; their step size stays, where it falls on plateaus, and the
iterate of lowest loss is kept instead of the last; ranges come from these images, where the code tracks them on those
of a GDFQ generator that it then throws away; class means are of the features seen in the kept step, which may be those
of crops; the student's learning rate falls after each quarter, not after epochs 20, 40 and 60, so that its sum is 2.3
times as large. The code also looks up the mean of another class, which may be the same one, and never uses it: absent
here. Its ImageNet script turns margins (0, 2) and soft targets (1) off.
"""

from rgal.core.optimiser import SGD
from rgal.methods.parameters import (
    BatchNormWeight,
    CrossEntropyWeight,
    DistillationWeight,
    LearningRate,
    StudentLearningRate,
    Temperature,
)
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.image_source import Adam
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.views import resized_crop, sometimes
from rgal.terms.intra_class import marginal_distance, soft_inception
from rgal.terms.inversion import bn_statistics
from rgal.terms.transfer import cross_entropy, distillation


@method("intraq", reference="Zhong et al., CVPR 2022, arXiv 2111.09136", tasks=("dfq",))
def intraq(
    bn: BatchNormWeight = 1.0,
    inception: float = 1.0,
    low: float = 0.95,
    margin: float = 1.0,
    lower: float = 0.05,
    upper: float = 0.8,
    crop: float = 0.5,
    kd: DistillationWeight = 20.0,
    ce: CrossEntropyWeight = 1.0,
    temperature: Temperature = 20.0,
    lr: LearningRate = 0.5,
    student_lr: StudentLearningRate = 1e-4,
) -> Recipe:
    part = resized_crop((crop, 1.0))
    return Recipe(
        images=Pixels(),
        views={"global": sometimes(part, 0.5)},
        synthesis=(
            bn_statistics(bn, "mse"),
            soft_inception(inception, low),
            marginal_distance(margin, lower, upper),
        ),
        transfer=(distillation(kd, temperature), cross_entropy(ce)),
        optimiser=Adam(lr, (0.9, 0.999)),
        student_view=part,
        student=SGD(student_lr, nesterov=True, schedule="quarters"),
        rounds=Rounds(
            20, synthesis_steps=1000, student_steps=147 * 200, synthesis_batch=256, batch=256, warmup=19
        ),
    )
