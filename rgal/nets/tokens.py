"""Choose the layers of a network of tokens among the calls of its modules in one forward pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

LAYERS = 4  # the number of stages of most residual networks
DEPTHS = (2, 3, 4)  # nesting depths to search, in this order, until there are two layers
# A stage does not end at these: a pool makes the next stage's input, the others pass on what they were given.
_NO_STAGE = re.compile("Pool|Dropout|DropPath|Identity|Flatten|Permute")


@dataclass
class Call:
    """Record one call of a module.

    began: how many calls had ended when it started. output: kept only if the module may be the head.
    """

    name: str
    module: nn.Module
    began: int
    shape: tuple[int, ...] = ()
    output: Tensor | None = None


def called_once(calls: Sequence[Call]) -> list[Call]:
    """Leave out the modules that are called more than once: which of their outputs is the layer?"""
    counts = Counter(id(call.module) for call in calls)
    return [call for call in calls if counts[id(call.module)] == 1]


def is_no_stage(call: Call) -> bool:
    """Tell whether a module only pools or passes on what it was given."""
    return bool(_NO_STAGE.search(type(call.module).__name__))


def find_tokens(calls: Sequence[Call]) -> list[Call]:
    """Choose the layers of a network of tokens (N,T,D), or of channels-last maps (N,H,W,C).

    These are outputs of its blocks, the kind of module that most often returns tokens: the last at each size where
    there are several sizes (Swin), else those after each quarter of the blocks (ViT).
    """
    tokens = [call for call in called_once(calls) if len(call.shape) in (3, 4) and not is_no_stage(call)]
    composed = [call for call in tokens if any(True for _ in call.module.children())]
    for depth in DEPTHS:
        outputs = [call for call in composed if call.name.count(".") < depth]
        kinds = Counter(type(call.module) for call in outputs)
        if kinds:
            kind = max(kinds, key=lambda kind: kinds[kind])
            chosen = _spread([call for call in outputs if type(call.module) is kind])
            if len(chosen) > 1:
                return chosen
    return _spread([call for call in tokens if isinstance(call.module, nn.Linear)])[-1:]


def _spread(calls: Sequence[Call]) -> list[Call]:
    """Choose at most LAYERS calls: the last of each shape, or of one shape those at equal distances."""
    last: dict[tuple[int, ...], Call] = {}
    for call in calls:
        last.pop(call.shape, None)
        last[call.shape] = call
    if len(last) > 1:
        return list(last.values())[-LAYERS:]
    count = min(LAYERS, len(calls))
    return [calls[len(calls) * (i + 1) // count - 1] for i in range(count)]
