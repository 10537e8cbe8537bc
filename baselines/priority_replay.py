"""Fast's meta-generator, a small pool, and a student that sees most often the images on which it is far off.

After Liu et al., "Small Scale Data-Free Knowledge Distillation" (SSD-KD), CVPR 2024, which is known here from
summaries alone: Fast's inversion, whose class term is weighed by how rare a class is and how hard an image; 5,000
images are kept; they are drawn by a priority of teacher's and student's discrepancy, with importance weights. Not
known, and chosen here: rarity clamp(n / (C n_c), .5, 2) with n_c the kept images of a class, difficulty (1 - p)^2,
priority KL + 1e-6 with exponent 1, weights (n P)^-b with b from .4 to 1 (prioritised replay's own form), the oldest
images make room, Fast's schedule. This is no reproduction of SSD-KD, and no published number stands beside it.
"""

from dataclasses import replace
from typing import Annotated

from rgal.baselines.fast import fast
from rgal.methods.parameters import AdversarialWeight, BatchNormWeight, ClassWeight, Meaning, Temperature
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.synthesis.sampling import Memory, Prioritised
from rgal.terms.batch_norm import bn_momentum
from rgal.terms.inversion import adversarial
from rgal.terms.priorities import hard_and_rare, prioritised_distillation

SMALL = {"rounds": 20, "warmup": 2, "synthesis_steps": 5, "student_steps": 60, "synthesis_lr": 0.01}


@method(
    "priority_replay",
    reference="after Liu et al., CVPR 2024 (SSD-KD); a stand-in",
    budgets={"small": {**SMALL, "parameters": {"oh": 1, "adv": 0.5}}},
)
def priority_replay(
    bn: BatchNormWeight = 10.0,
    oh: ClassWeight = 0.4,
    gamma: Annotated[float, Meaning("power of the difficulty")] = 2.0,
    adv: AdversarialWeight = 1.1,
    memory: Annotated[int, Meaning("images that are kept")] = 5000,
    exponent: Annotated[float, Meaning("power of priorities; 0 draws all alike")] = 1.0,
    correction: Annotated[float, Meaning("power of importance weights at the start; 1 at the end")] = 0.4,
    temperature: Temperature = 1.0,
) -> Recipe:
    return replace(
        fast(form="reptile"),
        synthesis=(bn_momentum(bn, 0.9), hard_and_rare(oh, gamma), adversarial(adv)),
        transfer=(prioritised_distillation(1.0, temperature),),
        sampling=Prioritised(exponent, correction),
        memory=Memory(memory),
    )
