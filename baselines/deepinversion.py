"""DeepInversion: pixels that match the teacher's batch norm statistics.

Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR 2020, arXiv 1912.08795.
Weights and schedule of the CMI repository's script. Differs from it in what is kept: the lowest-loss iterate, where
the script means to but stores the last.
"""

from rgal.recipe import SGD, Recipe, Rounds
from rgal.registry import method
from rgal.synthesis.images import Adam, Pixels
from rgal.synthesis.views import jitter_flip
from rgal.terms.inversion import adversarial, bn_statistics, image_l2, one_hot, total_variation
from rgal.terms.transfer import distillation


@method("deepinversion", reference="Yin et al., CVPR 2020, arXiv 1912.08795", tasks=("kd", "dfq", "necil"))
def deepinversion(
    bn: float = 10.0,
    oh: float = 1.0,
    adv: float = 1.0,
    tv: float = 1e-3,
    l2: float = 0.0,
    jitter: int = 4,
    lr: float = 0.1,
    temperature: float = 20.0,
) -> Recipe:
    return Recipe(
        images=Pixels(),
        views={"global": jitter_flip(jitter)},
        synthesis=(
            bn_statistics(bn),
            one_hot(oh),
            adversarial(adv, "js"),
            total_variation(tv),
            image_l2(l2),
        ),
        optimiser=Adam(lr, (0.5, 0.99)),
        transfer=(distillation(temperature=temperature),),
        student=SGD(lr=0.1),
        rounds=Rounds(200, synthesis_steps=1000, student_steps=400, synthesis_batch=256, batch=256),
    )
