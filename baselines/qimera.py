"""Qimera: GDFQ whose generator also mixes classes, so that images lie at the boundaries between them.

Choi et al., "Qimera: Data-free Quantization with Synthetic Boundary Supporting Samples", NeurIPS 2021, arXiv
2111.02625. Weights and schedule of the CIFAR-10 configuration of its code: label vectors from noise (`--randemb`), two
labels in two batches out of five, the KL divided by batch and classes.

Differs from the code: mixed batches too are normalised over the latent dimension, not over it and the batch at once;
the generator ends in a sigmoid, its learning rate is constant and its batch norms have torch's eps, as in `gdfq`; on
ImageNet its batch norms are mixed from those of the classes, here the input is, on every data set. The paper's
disentanglement mapping, a linear layer behind the vectors, is off in all its scripts through an inverted switch, and
absent here. Label vectors that start from the teacher's last layer, as on other data sets, are not offered.
"""

from dataclasses import replace

from rgal.baselines.gdfq import gdfq
from rgal.methods.parameters import (
    BatchNormWeight,
    ClassWeight,
    CrossEntropyWeight,
    DistillationWeight,
    LearningRate,
    StudentLearningRate,
    Temperature,
)
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.synthesis.mixture import MixedGenerator


@method("qimera", reference="Choi et al., NeurIPS 2021, arXiv 2111.02625", tasks=("dfq",))
def qimera(
    mixing: float = 0.4,
    labels: int = 2,
    latent: int = 64,
    bn: BatchNormWeight = 0.1,
    oh: ClassWeight = 1.0,
    kd: DistillationWeight = 1.0,
    ce: CrossEntropyWeight = 1.0,
    temperature: Temperature = 20.0,
    lr: LearningRate = 1e-3,
    student_lr: StudentLearningRate = 1e-4,
) -> Recipe:
    images = MixedGenerator(latent=latent, mixed=labels, probability=mixing)
    return replace(gdfq(bn, oh, kd, ce, temperature, lr, student_lr), images=images)
