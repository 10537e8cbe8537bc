"""Adversarial DFQ, used for distillation: the game of ZSKT, kept near the data by batch norm statistics and classes.

Choi et al., "Data-Free Network Quantization with Adversarial Knowledge Distillation", CVPR Workshops 2020, arXiv
2005.04136. Tables of distillation call it DFQ; it has nothing to do with our task of that name.

follows: "code" (default) is CMI's copy of the method, to which the published numbers belong: plain norms between
statistics, cross-entropy with the teacher's own class. "paper" has the divergence of Gaussians and the entropy of every
image instead. Weights, large generator and schedule (ten student steps on fresh draws per generator step, T = 1
although the script says 20) are CMI's either way; the paper's weight of the terms falls during training, and it also
plays several generators against several students, which is not reproduced.
"""

from rgal.methods.parameters import (
    AdversarialWeight,
    BatchNormWeight,
    ClassWeight,
    DiversityWeight,
    LearningRate,
    Temperature,
)
from rgal.methods.recipe import Recipe, alternating
from rgal.methods.registry import method
from rgal.methods.rgal_options import Follows
from rgal.synthesis.generators import PersistentGenerator
from rgal.synthesis.image_source import Adam
from rgal.terms.batch_norm import bn_gaussian
from rgal.terms.game import confident, game, information_entropy
from rgal.terms.inversion import bn_statistics
from rgal.terms.transfer import distillation


@method("adversarial_dfq", reference="Choi et al., CVPR Workshops 2020, arXiv 2005.04136")
def adversarial_dfq(
    follows: Follows = "code",
    adv: AdversarialWeight = 1.0,
    bn: BatchNormWeight = 1.0,
    oh: ClassWeight = 1.0,
    ie: DiversityWeight = 20.0,
    lr: LearningRate = 1e-3,
    temperature: Temperature = 1.0,
) -> Recipe:
    paper = follows == "paper"
    return alternating(
        PersistentGenerator(latent=256, large=True),
        synthesis=(
            game(adv),
            bn_gaussian(bn) if paper else bn_statistics(bn),
            confident(oh, "entropy" if paper else "class"),
            information_entropy(ie),
        ),
        transfer=(distillation(temperature=temperature),),
        optimiser=Adam(lr, (0.5, 0.999)),
        student_steps=10,
    )
