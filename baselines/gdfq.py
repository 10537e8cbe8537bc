"""GDFQ: a generator that is told the label and learns batch norm statistics, one step for each step of the student.

Xu et al., "Generative Low-bitwidth Data Free Quantization", ECCV 2020, arXiv 2003.03603. Weights and schedule of the
CIFAR-100 configuration of its code, whose KL is divided by batch and classes: `reduction="mean"`.

Differs from the code: its generator's learning rate falls with the student's, ours is constant; on ImageNet its
generator is told the label by batch norms of every class, here by E(y) * z on every data set. Its generator's batch
norms behind convolutions add 0.8 to variances (meant as a momentum by its looks), ours 1e-5: the images are the same
(correlation 0.994) but for their scale, which its last batch norm restores and our sigmoid would not.
"""

from rgal.core.optimiser import SGD
from rgal.methods.parameters import (
    BatchNormWeight,
    ClassWeight,
    CrossEntropyWeight,
    DistillationWeight,
    LearningRate,
    StudentLearningRate,
    Temperature,
)
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.generators import ConditionalGenerator
from rgal.synthesis.image_source import Adam
from rgal.synthesis.views import identity
from rgal.terms.inversion import bn_statistics, one_hot
from rgal.terms.objective import LossTerm
from rgal.terms.transfer import cross_entropy, distillation

# Of methods that build on this one's code: learning rates fall after 100, 200 and 300 of its 400 epochs, of which the
# first four train no student; and the small budget of a conditional generator.
DROPS = tuple(((epoch - 4) / 396, 0.1**fall) for fall, epoch in enumerate((100, 200, 300), 1))
BUDGET = {"rounds": 4, "warmup": 2, "student_steps": 150, "synthesis_batch": 64, "synthesis_lr": 0.005}


def quantized_transfer(kd: float, ce: float, temperature: float) -> tuple[LossTerm, ...]:
    """Make the student terms of quantization: distillation, its KL divided by batch and classes, and cross-entropy."""
    return distillation(kd, temperature, reduction="mean"), cross_entropy(ce)


@method("gdfq", reference="Xu et al., ECCV 2020, arXiv 2003.03603", tasks=("dfq",))
def gdfq(
    bn: BatchNormWeight = 0.1,
    oh: ClassWeight = 1.0,
    kd: DistillationWeight = 1.0,
    ce: CrossEntropyWeight = 1.0,
    temperature: Temperature = 20.0,
    lr: LearningRate = 1e-3,
    student_lr: StudentLearningRate = 1e-4,
) -> Recipe:
    return Recipe(
        images=ConditionalGenerator(latent=100),
        views={"global": identity},
        synthesis=(one_hot(oh), bn_statistics(bn, "mse")),
        transfer=quantized_transfer(kd, ce, temperature),
        optimiser=Adam(lr),
        student=SGD(student_lr, nesterov=True, schedule="quarters"),
        rounds=Rounds(400, 200, 200, synthesis_batch=200, batch=200, warmup=4, interleaved=True),
        keep="last",
        source="batch",
        student_view=identity,
    )
