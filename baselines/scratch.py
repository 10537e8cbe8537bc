"""Reference row: the student trained on the real images and labels. Not data-free."""

from rgal.core.optimiser import SGD
from rgal.methods.parameters import StudentLearningRate
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.terms.transfer import cross_entropy


@method("scratch", reference="student on real data (upper reference, not data-free)")
def scratch(lr: StudentLearningRate = 0.1, weight_decay: float = 5e-4) -> Recipe:
    return Recipe(
        images=None,
        transfer=(cross_entropy(),),
        student=SGD(lr=lr, weight_decay=weight_decay),
        rounds=Rounds(200, synthesis_steps=0, student_steps=400, batch=128),
    )
