"""Adaptive DeepInversion: DeepInversion's pixels, drawn to where the student still disagrees with the teacher.

Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR 2020, arXiv 1912.08795, in the
form of the authors' code for CIFAR-10: no clipping, no flip, jitter of 2 pixels, Adam's usual moments, 2000 steps. The
competition term is 1 - JS(teacher, student) at T = 3 (here without its constant), the student the one in training; for
ImageNet the code consults a fixed pretrained ResNet-18 instead.

follows: "paper" (default) has the README's "parameters from the paper" and the divergence as defined; "code" the
README's second command and the divergence as the code computes it, with clamped probabilities, itself clamped to [0,
1]. Neither gives the competition weight for CIFAR-10: 0.2 is what the README says the paper used for ImageNet. The code
distils nothing: 1000 batches, one every 50 student steps, and T = 3 are what the authors say they ran; the student's
optimiser is the other methods'.
"""

from rgal.core.optimiser import SGD
from rgal.methods.parameters import (
    AdversarialWeight,
    BatchNormWeight,
    ClassWeight,
    LearningRate,
    Temperature,
    TotalVariationWeight,
)
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.methods.rgal_options import Follows
from rgal.synthesis.image_source import Adam
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.views import jitter_flip
from rgal.terms.inversion import adversarial, bn_statistics, one_hot, total_variation
from rgal.terms.transfer import distillation

PRIORS = {"paper": (2.5e-5, 0.05), "code": (1e-3, 0.1)}  # weight of total variation, step size


@method("adaptive_deepinversion", reference="Yin et al., CVPR 2020, arXiv 1912.08795")
def adaptive_deepinversion(
    follows: Follows = "paper",
    adv: AdversarialWeight = 0.2,
    bn: BatchNormWeight = 10.0,
    oh: ClassWeight = 1.0,
    tv: TotalVariationWeight | None = None,
    jitter: float = 2.0,
    lr: LearningRate | None = None,
    temperature: Temperature = 3.0,
) -> Recipe:
    own_tv, own_lr = PRIORS[follows]
    return Recipe(
        images=Pixels(clip=False),
        views={"global": jitter_flip(jitter, flip=False)},
        synthesis=(
            one_hot(oh),
            adversarial(adv, "js" if follows == "paper" else "js_clamped"),
            total_variation(own_tv if tv is None else tv, "l2"),
            bn_statistics(bn),
        ),
        optimiser=Adam(own_lr if lr is None else lr, (0.9, 0.999)),
        student=SGD(lr=0.1),
        transfer=(distillation(temperature=temperature),),
        rounds=Rounds(1000, synthesis_steps=2000, student_steps=50, synthesis_batch=256, batch=256),
    )
