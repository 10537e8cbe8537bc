"""DeepInversion: pixels that match the teacher's batch norm statistics.

Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR 2020, arXiv 1912.08795.

variant: "cifar" (default) has the weights and schedule of the CMI repository's script. It differs in what is kept: the
lowest-loss iterate, where the script means to but stores the last. "imagenet" is the authors' code for ImageNet: 2000
steps at half resolution, 1000 at full, with the weights of its README's command (its parser has bn 0.05 and lr 0.2);
jitter is 30 pixels at 224. It differs in what is kept: the lowest loss at full resolution, where the code compares
losses of both and stores the image after the step whose loss it was. adv is its competition term, off as there, and
computed as defined: both codes clamp probabilities to [0.01, 0.99], the authors' the result to [0, 1] as well.
"""

from dataclasses import replace
from typing import Literal

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
from rgal.synthesis.image_source import Adam
from rgal.synthesis.pixels import Pixels
from rgal.synthesis.pyramid import PyramidPixels
from rgal.synthesis.views import jitter_flip
from rgal.terms.inversion import adversarial, bn_statistics, image_l2, one_hot, total_variation
from rgal.terms.transfer import distillation

PUBLISHED = {
    "cifar": {"bn": 10.0, "adv": 1.0, "tv": 1e-3, "l2": 0.0, "jitter": 4, "lr": 0.1},
    "imagenet": {"bn": 0.01, "adv": 0.0, "tv": 1e-4, "l2": 1e-5, "jitter": 30 * 32 / 224, "lr": 0.25},
}


@method("deepinversion", reference="Yin et al., CVPR 2020, arXiv 1912.08795", tasks=("kd", "dfq", "necil"))
def deepinversion(
    variant: Literal["cifar", "imagenet"] = "cifar",
    bn: BatchNormWeight | None = None,
    oh: ClassWeight = 1.0,
    adv: AdversarialWeight | None = None,
    tv: TotalVariationWeight | None = None,
    l2: float | None = None,
    jitter: float | None = None,
    lr: LearningRate | None = None,
    temperature: Temperature = 20.0,
) -> Recipe:
    given = {"bn": bn, "adv": adv, "tv": tv, "l2": l2, "jitter": jitter, "lr": lr}
    weight = PUBLISHED[variant] | {name: value for name, value in given.items() if value is not None}
    large = variant == "imagenet"
    rounds = Rounds(200, synthesis_steps=1000, student_steps=400, synthesis_batch=256, batch=256)
    return Recipe(
        images=PyramidPixels() if large else Pixels(),
        views={"global": jitter_flip(weight["jitter"])},
        synthesis=(
            bn_statistics(weight["bn"], first=10.0 if large else 1.0),
            one_hot(oh),
            adversarial(weight["adv"], "js"),
            total_variation(weight["tv"], "l2" if large else "l1"),
            image_l2(weight["l2"]),
        ),
        optimiser=Adam(weight["lr"], (0.5, 0.9) if large else (0.5, 0.99)),
        transfer=(distillation(temperature=temperature),),
        student=SGD(lr=0.1),
        rounds=replace(rounds, synthesis_steps=3000, synthesis_batch=84) if large else rounds,
    )
