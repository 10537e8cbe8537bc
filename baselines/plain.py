"""Plain generator inversion: RGAL's host, without any relation term. The zero point of every ablation."""

from rgal.methods.parameters import AdversarialWeight, BatchNormWeight, ClassWeight, LearningRate, Temperature
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.generators import FreshGenerator
from rgal.synthesis.image_source import Adam
from rgal.terms.inversion import adversarial, bn_statistics, one_hot
from rgal.terms.transfer import distillation


@method("plain", reference="the host recipe of Liang & Fu, IJCV 2024", tasks=("kd", "dfq", "necil"))
def plain(
    bn: BatchNormWeight = 1.0,
    oh: ClassWeight = 1.0,
    adv: AdversarialWeight = 1.0,
    lr: LearningRate = 1e-3,
    temperature: Temperature = 20.0,
) -> Recipe:
    return Recipe(
        images=FreshGenerator(latent=256),
        synthesis=(bn_statistics(bn), one_hot(oh), adversarial(adv)),
        optimiser=Adam(lr, (0.5, 0.999)),
        transfer=(distillation(temperature=temperature),),
        rounds=Rounds(200, synthesis_steps=400, student_steps=400, synthesis_batch=256, batch=128),
    )
