"""SpaceshipNet: a generator whose kept feature maps exchange channels; the student learns where its teacher looks.

Yu et al., "Data-Free Knowledge Distillation via Feature Exchange and Activation Region Constraint", CVPR 2023. Weights
and schedule of the CIFAR scripts of its code (30a76b0): 200 rounds of 200 synthesis and 2,000 student steps of 256.

Differs from the code: the maps of the newest `memory` images are kept, in half precision, there all 51,200 (22 GB); the
generator starts as torch has it, there by Kaiming's rule, and the student too, there by Xavier's with gain sqrt(2); the
learning rate of the student falls in every step.
"""

from typing import Annotated

from rgal.core.optimiser import SGD
from rgal.methods.parameters import (
    BatchNormWeight,
    ClassWeight,
    DistillationWeight,
    LearningRate,
    Meaning,
    Temperature,
)
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.channel_exchange import ExchangingGenerator
from rgal.synthesis.image_source import Adam
from rgal.terms.class_maps import gradient_map_matching, head_map_matching
from rgal.terms.inversion import bn_statistics, one_hot
from rgal.terms.transfer import distillation


@method("spaceshipnet", reference="Yu et al., CVPR 2023", budgets={"small": {"synthesis_lr": 0.005}})
def spaceshipnet(
    oh: ClassWeight = 0.5,
    bn: BatchNormWeight = 1.0,
    kd: DistillationWeight = 1.0,
    temperature: Temperature = 30.0,
    cam: Annotated[float, Meaning("weight of the maps of all classes in the last layer")] = 1.0,
    gcam: Annotated[float, Meaning("weight of the maps of the teacher's class in all layers")] = 1.0,
    exchange: Annotated[float, Meaning("probability of a batch to exchange channels")] = 0.7,
    share: Annotated[float, Meaning("share of the channels that are exchanged")] = 0.5,
    memory: Annotated[int, Meaning("images whose maps are kept")] = 2560,
    lr: LearningRate = 1e-3,
) -> Recipe:
    return Recipe(
        images=ExchangingGenerator(latent=256, memory=memory, exchange=exchange, share=share),
        synthesis=(one_hot(oh), bn_statistics(bn)),
        transfer=(
            distillation(kd, temperature, reduction="mean"),
            head_map_matching(cam),
            gradient_map_matching(gcam),
        ),
        optimiser=Adam(lr),
        student=SGD(0.1, 1e-4),
        rounds=Rounds(200, synthesis_steps=200, student_steps=2000, synthesis_batch=256, batch=256),
        source="generator",
    )
