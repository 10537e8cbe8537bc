"""Reference row: knowledge distillation (Hinton et al. 2015) on the real images. Not data-free.

T^2 * KL at T = 20 plus 0.1 cross-entropy on the true labels, the recipe the CMI repository documents; its driver's
default temperature is 1.
"""

from rgal.core.optimiser import SGD
from rgal.methods.parameters import CrossEntropyWeight, StudentLearningRate, Temperature
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.terms.transfer import cross_entropy, distillation


@method("real_kd", reference="KD on real data (upper reference, not data-free)")
def real_kd(
    temperature: Temperature = 20.0,
    ce: CrossEntropyWeight = 0.1,
    lr: StudentLearningRate = 0.1,
    weight_decay: float = 5e-4,
) -> Recipe:
    return Recipe(
        images=None,
        transfer=(distillation(temperature=temperature), cross_entropy(ce)),
        student=SGD(lr=lr, weight_decay=weight_decay),
        rounds=Rounds(200, synthesis_steps=0, student_steps=400, batch=128),
    )
