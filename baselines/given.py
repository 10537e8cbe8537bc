"""Row of given images: the student's loop on a pool that `--init-pool` names, whatever made it, and on nothing else.

Images of any origin (diffusion models, other tools, another run, a few real ones) are compared by the student that they
make. Where they come from is not checked: tables mark the row, name the pool, and rank it with the references. Images
without labels get the teacher's. train=false: nothing is trained, `dfq` takes its ranges from the images (in `kd` the
student stays as it starts).
"""

from rgal.methods.parameters import DistillationWeight, Temperature
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.terms.transfer import distillation


@method("given", reference="given images alone (--init-pool)", tasks=("kd", "dfq"))
def given(kd: DistillationWeight = 1.0, temperature: Temperature = 20.0, train: bool = True) -> Recipe:
    rounds = Rounds(200, 0, 400, batch=256) if train else Rounds(1, 0, 0, batch=256)
    return Recipe(None, (distillation(kd, temperature),), rounds=rounds, source="given")
