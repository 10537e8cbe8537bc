"""GENIE: codes and a generator under swing convolutions make images; then rounding is learnt block by block.

Jeon et al., "GENIE: Show Me the Data for Quantization", CVPR 2023. Eight batches of 128 images, each of a new generator
and trained codes, 4,000 steps on the deviations of batch norm statistics of a teacher whose strided convolutions see
their input moved by a pixel; no labels. The student's weights keep their ranges and learn whether they are rounded up
or down, its activations learn their scales (LSQ), each block for 20,000 steps of 32 images, on inputs half of which are
the teacher's and with half of all activations left unquantized (QDrop). Numbers of its code (7b089d9).

Differs from the code: blocks are what the network names as layers, stages mostly, there residual units; scales of
weights are their ranges' and are not trained; those of activations start from the extremes of calibration, there from a
search for the least error, and one step size trains the logarithm of the scale at a tenth of the rounding's pace, there
the scale itself at 0.04 of it, falling to 0; which layers have other widths is the task's placement; the generator ends
in a sigmoid; step sizes of synthesis stay, there they fall on plateaus and by 0.95 every 100 steps; batch variances are
biased. With `+rgal` the student's weights and norms are trained by the triplets, beside the rounding.
"""

from typing import Annotated

from rgal.core.optimiser import StudentAdam
from rgal.methods.networks import Fixed
from rgal.methods.parameters import BatchNormWeight, LearningRate, Meaning, Positive, StudentLearningRate
from rgal.methods.recipe import Recipe, Rounds
from rgal.methods.registry import method
from rgal.synthesis.generators import FreshGenerator
from rgal.synthesis.image_source import Adam
from rgal.synthesis.swing import SWINGING, swing_statistics, with_swings
from rgal.synthesis.views import identity
from rgal.tasks.quantization.block_reconstruction import block_reconstruction

# Three stages and what follows them.
PAPER = Rounds(8, synthesis_steps=4000, student_steps=4 * 20_000, synthesis_batch=128, batch=32, warmup=7)


@method(
    "genie",
    reference="Jeon et al., CVPR 2023",
    tasks=("dfq",),
    # Some hundred steps instead of 20,000 a block have to reach as far, and the error must outweigh decisions.
    budgets={"small": {"student_lr": 0.1, "parameters": {"rounding": 0.1}}},
)
def genie(
    bn: BatchNormWeight = 1.0,
    rounding: float = 1.0,
    lr: LearningRate = 0.01,
    lr_latent: Annotated[float, Positive, Meaning("learning rate of the codes")] = 0.1,
    student_lr: StudentLearningRate = 1e-3,
) -> Recipe:
    return Recipe(
        images=FreshGenerator(latent=256, lr_latent=lr_latent),
        networks={SWINGING: Fixed(with_swings)},
        views={"global": identity},
        synthesis=(swing_statistics(bn),),
        transfer=(block_reconstruction(rounding),),
        optimiser=Adam(lr, (0.9, 0.999)),
        student=StudentAdam(student_lr, 0.0, "constant"),
        student_view=identity,
        rounds=PAPER,
        keep="last",
    )
