"""SynQ: HAST's pixels, shown without their high frequencies; labels are taught where they are sure, and where to look.

Kim et al., "SynQ: Accurate Zero-shot Quantization by Synthesis-aware Fine-tuning", ICLR 2025, arXiv 2603.18423. Loss of
its code (8681480 in the public fork weesunghyun/SynQ), whose only published command is that of ResNet-18 at W3A3 on
ImageNet; its weights `easy`, `cam`, `threshold` and `hard` are here, on HAST's images, weights and moves for CIFAR-10.
`deviation` is 80 pixels of 224 there, and the same share of an image here: at 32 pixels, 80 would let all through.

Differs from the code: what `hast` says of images, ranges and alignment; images are not guided by calibration centres,
which are off in that command too; attention is read at the last layer's output, there at the last convolution's; its
batch is 4 images on ImageNet (the paper: 16, and 256 on CIFAR), here HAST's 64, with the paper's 97 epochs and its one
fall of the step size, of which it does not say when: here after half. The search of the weights (threshold .5 to .7,
deviation 20 to 100, easy .005 to 5, cam 20 to 2000, student_lr 1e-6 to 1e-4) is left to you. Maps without contrast have
no gradient here; the code's, up to 1e10, ended every two-bit student of the digits in NaN.
"""

from dataclasses import replace

from rgal.baselines.hast import SMALL, hast
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
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.synthesis.views import chain, low_pass, resized_crop
from rgal.terms.class_maps import class_maps
from rgal.terms.hard_samples import HardPairSpec, hard_pair


@method(
    "synq",
    reference="Kim et al., ICLR 2025, arXiv 2603.18423",
    tasks=("dfq",),
    budgets={"small": SMALL},
)
def synq(
    bn: BatchNormWeight = 1.0,
    oh: ClassWeight = 10.0,
    gamma: float = 2.0,
    crop: float = 1.0,
    kd: DistillationWeight = 20.0,
    temperature: Temperature = 20.0,
    alignment: float = 1000.0,
    eps: float = 0.01,
    easy: CrossEntropyWeight = 0.5,
    threshold: float = 0.5,
    cam: float = 50.0,
    hard: float = 1.0,
    deviation: float = 80.0,
    lr: LearningRate = 0.5,
    student_lr: StudentLearningRate = 1e-5,
) -> Recipe:
    host = hast(bn, oh, gamma, crop, kd, temperature, alignment, eps, lr, student_lr)
    pair = HardPairSpec(kd, temperature, alignment, eps, easy, threshold, hard)
    return replace(
        host,
        transfer=(hard_pair(pair), class_maps(cam)),
        student_view=chain(resized_crop((0.5, 1.0)), low_pass(deviation / 224)),
        student=SGD(student_lr, nesterov=True, schedule="steps", drops=((0.5, 0.1),)),
        rounds=replace(host.rounds, student_steps=97 * 200),
    )
