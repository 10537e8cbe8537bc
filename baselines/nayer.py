"""NAYER: label embeddings through layers of noise, drawn anew for every batch, instead of noise through a generator.

Tran et al., "NAYER: Noisy Layer Data Generation for Efficient and Effective Data-free Knowledge Distillation", CVPR
2024, arXiv 2310.00258. Weights and schedule of its CIFAR-10 script for 100 epochs of training (CIFAR-100: steps 40).

embeddings: a .safetensors, .pt or .npy file with a row for each class. The paper's input is the CLIP embedding of "a
image of <label>"; without a file, rows here are orthogonal and say nothing about which classes are alike. Further
differences: a round is one of the release's batches with its share of student steps, so its two batches (ten in
warm-up) and 400 steps an epoch are two rounds of 200; `life` is counted in these rounds, 20 to 10 epochs, in warm-up
too, where the release's 10 epochs are 100 batches; surplus labels are drawn without replacement, as two of a kind
would be the same image twice; the student's learning rate falls to 0, not 2e-4.
"""

from rgal.core.optimiser import SGD
from rgal.methods.parameters import AdversarialWeight, BatchNormWeight, ClassWeight, LearningRate, Temperature
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.image_source import Adam
from rgal.synthesis.noisy import NoisyGenerator
from rgal.terms.batch_norm import bn_momentum as statistics
from rgal.terms.inversion import adversarial, one_hot
from rgal.terms.transfer import distillation


@method("nayer", reference="Tran et al., CVPR 2024, arXiv 2310.00258")
def nayer(
    bn: BatchNormWeight = 10.0,
    oh: ClassWeight = 0.5,
    adv: AdversarialWeight = 1.33,
    bn_momentum: float = 0.9,
    embeddings: str = "",
    life: int = 20,
    lr: LearningRate = 4e-3,
    temperature: Temperature = 20.0,
) -> Recipe:
    return Recipe(
        images=NoisyGenerator(embeddings=embeddings, life=life),
        synthesis=(one_hot(oh), statistics(bn, bn_momentum), adversarial(adv)),
        optimiser=Adam(lr, (0.5, 0.999)),
        student=SGD(lr=0.2),
        transfer=(distillation(temperature=temperature),),
        rounds=Rounds(400, synthesis_steps=30, student_steps=200, synthesis_batch=400, batch=512, warmup=200),
    )
