"""HAST: pixels that are hard for the teacher; the student trains on them, and on them moved to where it fails.

Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization", CVPR 2023, arXiv 2303.13826. Weights and schedule of
the CIFAR-10 commands of its code (83dfc16); CIFAR-100: alignment=2000, eps=.02; ImageNet: `dfq_imagenet`, with crops in
half of the steps of synthesis. Twenty batches of 256 images, then 147 epochs of 200 steps (of its 151 the first four
only set ranges).

Differs from the code: pixels keep their step size, where it falls on plateaus, and are rounded and clipped to valid
images once they are finished; ranges come from these images, where the code tracks them on those of a GDFQ generator
that it then throws away; features are aligned at the ends of stages, there at each residual branch before the addition.
The paper weighs the difficulty by gamma, the code raises it to gamma, and moves images to raise all of the student's
loss, the paper to raise their difficulty: the code is followed.
"""

from rgal.core.optimiser import SGD
from rgal.methods.parameters import (
    BatchNormWeight,
    ClassWeight,
    DistillationWeight,
    LearningRate,
    StudentLearningRate,
    Temperature,
)
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.image_source import Adam
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.views import identity, resized_crop, sometimes
from rgal.terms.hard_samples import HardPairSpec, focal, hard_pair
from rgal.terms.inversion import bn_statistics

# In some hundred steps the published falls, after 16 epochs and more of 147, would come after a tenth of them.
SMALL = {"synthesis_lr": 0.1, "student_lr": 1e-4, "student_drops": ((0.6, 0.1), (0.85, 0.01))}
DROPS = tuple(((epoch - 4) / 147, 0.1**fall) for fall, epoch in enumerate((20, 40, 60), 1))


@method(
    "hast",
    reference="Li et al., CVPR 2023, arXiv 2303.13826",
    tasks=("dfq",),
    budgets={"small": SMALL},
)
def hast(
    bn: BatchNormWeight = 1.0,
    oh: ClassWeight = 10.0,
    gamma: float = 2.0,
    crop: float = 1.0,
    kd: DistillationWeight = 20.0,
    temperature: Temperature = 20.0,
    alignment: float = 1000.0,
    eps: float = 0.01,
    lr: LearningRate = 0.5,
    student_lr: StudentLearningRate = 1e-5,
) -> Recipe:
    return Recipe(
        images=Pixels(clip=False),
        views={"global": sometimes(resized_crop((crop, 1.0))) if crop < 1 else identity},
        synthesis=(bn_statistics(bn, "mse"), focal(oh, gamma)),
        transfer=(hard_pair(HardPairSpec(kd, temperature, alignment, eps)),),
        optimiser=Adam(lr, (0.9, 0.999)),
        keep="last",
        student_view=resized_crop((0.5, 1.0)),
        student=SGD(student_lr, nesterov=True, schedule="steps", drops=DROPS),
        rounds=Rounds(
            20, synthesis_steps=1000, student_steps=147 * 200, synthesis_batch=256, batch=64, warmup=19
        ),
    )
