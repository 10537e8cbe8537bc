"""ZSKT: a generator looks for images on which teacher and student disagree, and the student learns them.

Micaelli & Storkey, "Zero-shot Knowledge Transfer via Adversarial Belief Matching", NeurIPS 2019, arXiv 1905.09768.

follows: "code" (default) is CMI's copy of the method, to which the published numbers of our pairs belong: five student
steps on fresh draws for each generator step, no attention transfer, and T = 1, although the script says 20. "paper" has
ten student steps on the very images of the generator step, and attention transfer of weight 250 (`at`), which is meant
for 32x32 images and scaled with their area. The large generator and the optimisers are CMI's either way. The authors
train both networks with Adam and clip gradients, and their code divides KL by the number of classes, which Adam does
not feel but the proportion of the two terms does; the paper does not divide, nor do we.
"""

from rgal.methods.parameters import AdversarialWeight, LearningRate, Temperature
from rgal.methods.recipe import Recipe, alternating
from rgal.methods.registry import method
from rgal.methods.rgal_options import Follows
from rgal.synthesis.generators import PersistentGenerator
from rgal.synthesis.image_source import Adam
from rgal.terms.game import game
from rgal.terms.transfer import attention_transfer, distillation


@method("zskt", reference="Micaelli & Storkey, NeurIPS 2019, arXiv 1905.09768")
def zskt(
    follows: Follows = "code",
    adv: AdversarialWeight = 1.0,
    at: float | None = None,
    lr: LearningRate = 1e-3,
    temperature: Temperature = 1.0,
) -> Recipe:
    paper = follows == "paper"
    weight = (250.0 if paper else 0.0) if at is None else at
    return alternating(
        PersistentGenerator(latent=256, large=True),
        synthesis=(game(adv),),
        transfer=(distillation(temperature=temperature), attention_transfer(weight)),
        optimiser=Adam(lr, (0.5, 0.999)),
        student_steps=10 if paper else 5,
        source="batch" if paper else "generator",
    )
