"""CMI: generator inversion whose images must be told apart from all earlier ones.

Fang et al., "Contrastive Model Inversion for Data-Free Knowledge Distillation", IJCAI 2021, arXiv 2105.08584. Weights
and schedule of the repository's "from scratch" command. The head's step size is the generator's. Under a ResNet-34, and
here a ResNet-18, images are told apart by the inputs of layer1 to layer4 instead of all batch norms'.
"""

from rgal.methods.parameters import (
    AdversarialWeight,
    BatchNormWeight,
    ClassWeight,
    LearningRate,
    PositiveNumber,
    Temperature,
)
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.generators import FreshGenerator
from rgal.synthesis.image_source import Adam
from rgal.synthesis.views import crop_flip, resized_crop
from rgal.terms.contrastive import contrastive
from rgal.terms.inversion import adversarial, bn_statistics, one_hot
from rgal.terms.transfer import distillation


@method("cmi", reference="Fang et al., IJCAI 2021, arXiv 2105.08584", tasks=("kd", "dfq", "necil"))
def cmi(
    bn: BatchNormWeight = 1.0,
    oh: ClassWeight = 1.0,
    adv: AdversarialWeight = 0.5,
    cr: float = 0.8,
    cr_temperature: PositiveNumber = 0.1,
    bank: int = 40_960,
    lr: LearningRate = 1e-3,
    temperature: Temperature = 20.0,
) -> Recipe:
    return Recipe(
        images=FreshGenerator(latent=256),
        views={"global": crop_flip, "local": resized_crop((0.25, 1.0))},
        synthesis=(
            bn_statistics(bn),
            one_hot(oh),
            adversarial(adv),
            contrastive(cr, cr_temperature, bank),
        ),
        optimiser=Adam(lr, (0.5, 0.999)),
        transfer=(distillation(temperature=temperature),),
        rounds=Rounds(200, synthesis_steps=200, student_steps=400, synthesis_batch=256, batch=128),
    )
