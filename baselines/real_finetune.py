"""Reference row: the quantized network trained on real images with the objective of GDFQ. Not data-free."""

from rgal.baselines.gdfq import quantized_transfer
from rgal.core.optimiser import SGD
from rgal.methods.parameters import CrossEntropyWeight, DistillationWeight, StudentLearningRate, Temperature
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method


@method("real_finetune", reference="training on real images (upper reference, not data-free)", tasks=("dfq",))
def real_finetune(
    kd: DistillationWeight = 1.0,
    ce: CrossEntropyWeight = 1.0,
    temperature: Temperature = 20.0,
    student_lr: StudentLearningRate = 1e-4,
) -> Recipe:
    return Recipe(
        images=None,
        transfer=quantized_transfer(kd, ce, temperature),
        student=SGD(student_lr, nesterov=True, schedule="quarters"),
        rounds=Rounds(400, 0, 200, batch=200),
    )
