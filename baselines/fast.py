"""FastDFKD: a few steps per batch, from a generator that has learnt to be a good start.

Fang et al., "Up to 100x Faster Data-Free Knowledge Distillation", AAAI 2022, arXiv 2112.06253. Weights and schedule of
its scripts for WRN pairs; they are for k = 2, 5 and 10 steps, and give each k its own step sizes. Its meta step is k
times as long as an inner one.

bn_momentum: share of earlier rounds in the batch statistics that are matched. reset: the round at which the
meta-generator's way in is drawn anew. Differences: Reptile's step is the distance itself, in the release 67 times that,
which Adam feels through its epsilon alone (2 % of the largest weight in the first round); `adv` begins with the
student's first round, in the release one round earlier; the student's learning rate falls to 0, in the release to 2e-4
after 200 epochs whatever their number.
"""

from typing import Literal

from rgal.core.optimiser import SGD
from rgal.methods.parameters import AdversarialWeight, BatchNormWeight, ClassWeight, LearningRate, Temperature
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.image_source import Adam
from rgal.synthesis.meta import MetaGenerator
from rgal.terms.batch_norm import bn_momentum as statistics
from rgal.terms.inversion import adversarial, one_hot
from rgal.terms.transfer import distillation

STEP_SIZES = {2: (5e-3, 0.015), 5: (3e-3, 0.01), 10: (2e-3, 0.01)}  # k: of the generator, of the codes


@method("fast", reference="Fang et al., AAAI 2022, arXiv 2112.06253")
def fast(
    k: int = 5,
    form: Literal["fomaml", "reptile"] = "fomaml",
    bn: BatchNormWeight = 10.0,
    oh: ClassWeight = 0.4,
    adv: AdversarialWeight = 1.1,
    bn_momentum: float = 0.9,
    reset: int = 140,
    lr: LearningRate | None = None,
    lr_z: float | None = None,
    temperature: Temperature = 20.0,
) -> Recipe:
    if k not in STEP_SIZES and (lr is None or lr_z is None):
        raise ValueError(f"k={k} has no published step sizes (2, 5 and 10 have); give lr and lr_z")
    known_lr, known_lr_z = STEP_SIZES.get(k, (0.0, 0.0))
    lr, lr_z = known_lr if lr is None else lr, known_lr_z if lr_z is None else lr_z
    return Recipe(
        images=MetaGenerator(latent=256, lr_latent=lr_z, meta_lr=k * lr, form=form, reset=reset),
        synthesis=(statistics(bn, bn_momentum), one_hot(oh), adversarial(adv)),
        optimiser=Adam(lr, (0.5, 0.999)),
        transfer=(distillation(temperature=temperature),),
        student=SGD(lr=0.2),
        rounds=Rounds(220, synthesis_steps=k, student_steps=400, synthesis_batch=256, batch=256, warmup=20),
    )
