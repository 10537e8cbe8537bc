"""CPSC-DFKD: a game whose generator is told the class by its norms; classes are contrasted across both networks.

Shao et al., "Conditional Pseudo-Supervised Contrast for Data-Free Knowledge Distillation", Pattern Recognition 2023.
Weights and schedule of the CIFAR-100 command of its code's README (1c6ade1): six steps of the generator, five of the
student, 50 times in each of 600 epochs, batches of 512. Weights for CIFAR-10 are not given there; its form of the
logits' distance is `form=log`.

Differs from the code: the generator ends in a sigmoid, there in tanh and a further norm in normalised space; its
first map has a norm of its own; draws are by running statistics; the learning rate's cosine is stepped once.
`follows=code`: every step of the generator has a new Adam, so that it moves by the sign of the gradient, as the code
does; the default keeps one Adam.

In the generator's steps the student's batch norms normalise by the batch and their running statistics follow, as in the
code. By running statistics nothing bounds the logits of a student in its first steps: on the digits the distance of
logits, which the generator maximises, reached 1e15 in step 12, at images of pure white that it never left again.
"""

from typing import Literal

from rgal.core.optimiser import SGD
from rgal.methods.parameters import (
    AdversarialWeight,
    BatchNormWeight,
    ClassWeight,
    LearningRate,
    PositiveNumber,
)
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.methods.rgal_options import Follows
from rgal.synthesis.class_norms import ClassNormalised
from rgal.synthesis.image_source import Adam
from rgal.synthesis.views import identity
from rgal.terms.game import game
from rgal.terms.inversion import bn_statistics
from rgal.terms.shared_contrast import apart, class_of_probabilities, shared_contrast, together
from rgal.terms.transfer import distillation

SMALL = {"synthesis_steps": 216, "student_steps": 180, "synthesis_lr": 0.005}


@method("cpsc", reference="Shao et al., Pattern Recognition 2023", budgets={"small": SMALL})
def cpsc(
    follows: Follows = "paper",
    form: Literal["square", "log"] = "square",
    logits: AdversarialWeight = 5.0,
    bn: BatchNormWeight = 1.0,
    contrast: float = 0.7,
    temperature: PositiveNumber = 0.07,
    oh: ClassWeight = 0.7,
    lr: LearningRate = 1e-3,
) -> Recipe:
    return Recipe(
        images=ClassNormalised(latent=256, renewed=follows == "code"),
        views={"global": identity},
        synthesis=(
            game(1.0),
            apart(logits, form),
            bn_statistics(bn),
            shared_contrast(contrast, temperature),
            class_of_probabilities("oh", oh, "teacher"),
        ),
        transfer=(
            distillation(1.0, 1.0),
            together(logits, form),
            class_of_probabilities("ce", oh, "student"),
        ),
        optimiser=Adam(lr, (0.5, 0.999)),
        student=SGD(0.1, 5e-4, lr_warmup=10 / 600),
        rounds=Rounds(600, 300, 250, synthesis_batch=512, batch=512, interleaved=True),
        student_norms="batch",
        keep="last",
        source="generator",
        student_view=identity,
    )
