"""AIT: a generator's method whose student only follows its teacher, by steps that change the integers of its weights.

Choi et al., "It's All In the Teacher: Zero-Shot Quantization Brought Closer to the Teacher", CVPR 2022, arXiv
2203.17008. A plug-in on methods with generators, as in the paper: `host` says which. The host's images stay as they
are; its student minimises the KL alone, 400/C KL at T = 20, and steps are stretched (gradient inundation). Numbers of
the CIFAR configurations of its code (13a6c8c); the threshold falls with the learning rate, after 100, 200 and 300 of
400 epochs.

Differs from the code: what the host's file says; a step is stretched a million times at most, where a gradient of 0
would be doubled for ever. Its third host, ARC, is not offered, nor are its settings of Qimera by data set.
"""

from dataclasses import replace
from typing import Literal

from rgal.baselines.gdfq import BUDGET, DROPS, gdfq
from rgal.baselines.qimera import qimera
from rgal.core.inundation import Inundation
from rgal.methods.parameters import DistillationWeight, StudentLearningRate, Temperature
from rgal.methods.recipe import Recipe
from rgal.methods.registry import method
from rgal.terms.transfer import distillation


@method(
    "ait",
    reference="Choi et al., CVPR 2022, arXiv 2203.17008",
    tasks=("dfq",),
    budgets={"small": BUDGET | {"student_lr": 1e-4}},
)
def ait(
    host: Literal["gdfq", "qimera"] = "gdfq",
    threshold: float = 1e-3,
    kd: DistillationWeight = 1.0,
    temperature: Temperature = 20.0,
    student_lr: StudentLearningRate = 1e-4,
) -> Recipe:
    recipe = gdfq() if host == "gdfq" else qimera()
    student = Inundation(student_lr, schedule="steps", drops=DROPS, threshold=threshold)
    return replace(recipe, transfer=(distillation(kd, temperature, reduction="mean"),), student=student)
