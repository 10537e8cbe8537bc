"""Reference row: the student trained on the real images and labels. Not data-free.

Recipe of CMI's `train_scratch.py`, to which the published numbers of our pairs belong: 200 epochs of CIFAR in batches
of 256, weight decay 1e-4, a tenth of the learning rate after epochs 120, 150 and 180.
"""

from rgal.core.optimiser import SGD
from rgal.methods.parameters import StudentLearningRate
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.terms.transfer import cross_entropy


@method("scratch", reference="student on real data (upper reference, not data-free)")
def scratch(lr: StudentLearningRate = 0.1, weight_decay: float = 1e-4) -> Recipe:
    return Recipe(
        images=None,
        transfer=(cross_entropy(),),
        student=SGD(lr, weight_decay, "steps", drops=((0.6, 0.1), (0.75, 0.01), (0.9, 0.001))),
        rounds=Rounds(200, synthesis_steps=0, student_steps=196, batch=256),
    )
