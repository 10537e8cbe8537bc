"""Data-free knowledge transfer: a teacher network is given, its training data is not.

    import rgal

    teacher = rgal.Teacher(net, image=(3, 48, 48), classes=7, normalise="imagenet")  # print(teacher): what was found
    images = rgal.synthesise(teacher, "deepinversion")                 # .images, .labels, .save("folder"), .grid()
    student = rgal.distill(teacher, SmallNet(7), method="rgal")        # .student, .history, .agreement(images)
    int8 = rgal.quantize(teacher, "w8a8", method="rgal")               # .export("model.onnx"), .layers
    wider = rgal.extend(teacher, new_images, new_labels)               # new classes, and no image of the old ones

A live `nn.Module` goes in and a live module comes out; yours is copied, never changed. No suite, no folder of results,
no data set, no `__main__` guard; nothing global in the process is different afterwards. Every call takes `budget`,
`seed`, `progress`, `callback`, `device`, `precision` and `state`, a file from which a stopped call goes on. What a user
can do wrong raises `rgal.UserError`, one line that says what is valid. Names of methods are those of the command line
(`rgal --list methods`); a function of yours under `@rgal.method` is one too.

Parts for a loop of your own: `rgal.RelationLoss` (RGAL's triplet with its sampler), `rgal.TermLoss` (any of the terms
in `rgal.terms`), `rgal.observe` (layers, feature and batch norm statistics in one forward pass).

`help(rgal.distill)` and so on say more; docs/python.md is the guide. `import rgal` alone does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rgal.api.images import SynthesisedImages as SynthesisedImages
    from rgal.api.loops import RelationLoss as RelationLoss
    from rgal.api.loops import TermLoss as TermLoss
    from rgal.api.results import Distilled as Distilled
    from rgal.api.results import Extended as Extended
    from rgal.api.results import Quantized as Quantized
    from rgal.api.teacher import Teacher as Teacher
    from rgal.api.verbs import distill as distill
    from rgal.api.verbs import extend as extend
    from rgal.api.verbs import quantize as quantize
    from rgal.api.verbs import synthesise as synthesise
    from rgal.core.errors import UserError as UserError
    from rgal.core.observe import observe as observe
    from rgal.methods.plugins import load_plugins as load_plugins
    from rgal.methods.recipe import Recipe as Recipe
    from rgal.methods.registry import method as method

_WHERE = {
    "Teacher": "rgal.api.teacher",
    "synthesise": "rgal.api.verbs",
    "distill": "rgal.api.verbs",
    "quantize": "rgal.api.verbs",
    "extend": "rgal.api.verbs",
    "SynthesisedImages": "rgal.api.images",
    "Distilled": "rgal.api.results",
    "Quantized": "rgal.api.results",
    "Extended": "rgal.api.results",
    "RelationLoss": "rgal.api.loops",
    "TermLoss": "rgal.api.loops",
    "observe": "rgal.core.observe",
    "method": "rgal.methods.registry",
    "Recipe": "rgal.methods.recipe",
    "load_plugins": "rgal.methods.plugins",
    "UserError": "rgal.core.errors",
}
# Of a class that is a torch module, help(rgal) would show all that it inherits, on a hundred pages.
_MODULES = ("Distilled", "Quantized", "Extended", "RelationLoss", "TermLoss")
__all__ = [name for name in _WHERE if name not in _MODULES]


def __getattr__(name: str) -> Any:
    """Import a public name, or a part of rgal such as `rgal.terms`, when it is first used."""
    if name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
    elif name == "terms":
        import_module("rgal.core.modules").modules_in(
            "rgal.terms"
        )  # all of them, so that rgal.terms.transfer is there
        value = import_module("rgal.terms")
    else:
        raise AttributeError(f"module 'rgal' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what is public, whether it is imported yet or not."""
    return sorted({*globals(), *_WHERE})
