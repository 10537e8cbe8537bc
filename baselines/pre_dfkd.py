"""PRE-DFKD: a generator of new images, and an autoencoder that remembers what the student was shown before.

Binici et al., "Robust and Resource-Efficient Data-Free Knowledge Distillation by Generative Pseudo Replay", AAAI 2022.
Weights and schedule of the one case of its code (604010d), ResNet-34 to ResNet-18 on CIFAR-100: one step of the
generator, ten of the student on 1,024 new and 128 remembered images, 36 times in each of 400 epochs.

Differs from the code: generator and decoder are this suite's, which end in a sigmoid and have no spectral norms; the
encoder does not scale its input over the height axis; the disagreement is the true Jensen-Shannon divergence at T = 3,
there one that is clamped and divided by batch and classes, which hardly has a gradient; the student is in evaluation
mode in the generator's steps; new images are drawn by running statistics.
"""

import math

from rgal.core.optimiser import SGD
from rgal.methods.parameters import (
    AdversarialWeight,
    ClassWeight,
    DistillationWeight,
    DiversityWeight,
    LearningRate,
)
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.image_source import Adam
from rgal.synthesis.remembering import RememberingGenerator
from rgal.synthesis.views import identity
from rgal.terms.game import activation, confident, information_entropy
from rgal.terms.inversion import adversarial
from rgal.terms.transfer import logit_distance

SMALL = {"synthesis_steps": 18, "student_steps": 180, "synthesis_lr": 0.005}


@method("pre_dfkd", reference="Binici et al., AAAI 2022", budgets={"small": SMALL})
def pre_dfkd(
    oh: ClassWeight = 1.0,
    ie: DiversityWeight = 5.0,
    act: float = 0.1,
    adv: AdversarialWeight = 1.0,
    kd: DistillationWeight = 1.0,
    lr: LearningRate = 0.02,
) -> Recipe:
    return Recipe(
        images=RememberingGenerator(latent=1000, lr_code=lr, lr_memory=lr / 40),
        views={"global": identity},
        synthesis=(
            confident(oh),
            information_entropy(ie / math.log(10)),  # its code's entropy is in decimal digits
            activation(act),
            adversarial(adv, "js", after_warmup=False),
        ),
        transfer=(logit_distance(kd),),
        optimiser=Adam(lr, (0.9, 0.999)),
        student=SGD(0.1, 5e-4),
        rounds=Rounds(400, 36, 360, synthesis_batch=1024, batch=1152, interleaved=True),
        keep="last",
        source="generator",
        student_view=identity,
    )
