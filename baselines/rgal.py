"""RGAL: plain generator inversion plus the relation terms.

Liang & Fu, "Relation-Guided Adversarial Learning for Data-Free Knowledge Transfer", IJCV 2024, arXiv 2412.11380.
Weights and schedule of the release's README command; `follows` chooses between what the paper says and what the
release runs (see docs/fidelity.md). `NAME+rgal` adds the same terms to any other method.
"""

from rgal.baselines.plain import plain
from rgal.methods.registry import Method, register

# No recipe of its own: `plus_rgal(plain(...), RgalOptions(...))`, with the parameters of both.
register(
    Method(
        "rgal",
        plain,
        reference="Liang & Fu, IJCV 2024, arXiv 2412.11380",
        tasks=("kd", "dfq", "necil"),
        module=__name__,
        with_rgal=True,
    )
)
