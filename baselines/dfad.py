"""DFAD: the game of ZSKT over the mean absolute difference of logits, for both players.

Fang et al., "Data-Free Adversarial Distillation", 2019, arXiv 1912.11006. CMI's driver has the game but no script for
it: the large generator is that driver's, as for the other games. Schedule and optimisers are those of Fast-Datafree's
script (`dfad_cifar.sh`), which are the authors' own on CIFAR (five student steps on fresh draws for each generator
step) but for the number of epochs (200 of 80 generator steps; theirs are 500 of 50) and the weight decay (1e-4; theirs
is 5e-4). Theirs draws student batches with batch statistics, CMI's driver with running ones, as here; Fast-Datafree's
driver has the small generator.
"""

from rgal.methods.parameters import AdversarialWeight, DistillationWeight, LearningRate
from rgal.methods.recipe import Recipe, alternating
from rgal.methods.registry import method
from rgal.synthesis.generators import PersistentGenerator
from rgal.synthesis.image_source import Adam
from rgal.terms.game import game
from rgal.terms.transfer import logit_distance


@method("dfad", reference="Fang et al. 2019, arXiv 1912.11006")
def dfad(adv: AdversarialWeight = 1.0, kd: DistillationWeight = 1.0, lr: LearningRate = 1e-3) -> Recipe:
    return alternating(
        images=PersistentGenerator(latent=256, large=True),
        synthesis=(game(adv, "l1"),),
        transfer=(logit_distance(kd),),
        optimiser=Adam(lr, (0.5, 0.999)),
        student_steps=5,
    )
