"""How a method looks: its colour, marker and line follow from its name alone, in every figure of every report.

A method with RGAL has the colour of its host and a star. References on real data are grey with unfilled markers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeVar

from rgal.core.errors import UserError
from rgal.methods.names import RGAL, MethodName

# Apart for colour-blind readers as far as seven can be, and with a contrast above 3 on white and on a dark page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C7A00", "#7E57C2", "#0E8C9B")
# Ten colours for classes: those of methods, and three that differ from them in lightness.
CLASS_COLOURS = (*COLOURS, "#000000", "#8C510A", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STAR = "*"
DASHES = ("solid", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (2.5, 1)), (0, (7, 1.5, 1, 1.5, 1, 1.5)))
GREY = "#707780"
REFERENCE_MARKERS = ("<", ">", "h", "p")
REFERENCE_DASHES = ((0, (1, 1.5)), (0, (1, 3)), (0, (3, 1.5, 1, 1.5)), (0, (4, 3)))
# A method's place here decides its look for ever: add new ones at the end. Any other name gets a look by its hash.
KNOWN = (
    "rgal", "cmi", "deepinversion", "fast", "dafl", "zskt", "nayer",
    "gdfq", "zeroq", "intraq", "qimera", "synq", "hast", "adadfq",
    "fetril", "abd", "r_dfcil", "pass", "lwf", "finetune", "fecam",
    "spaceshipnet", "plain", "adaptive_deepinversion", "dfad", "naive", "calibration", "ait",
    "adversarial_dfq", "acil", "adc", "ldc", "efcpp", "dpcr", "fcs",
    "adagauss", "pre_dfkd", "cpsc", "plus_ema", "priority_replay", "psaq_vit", "patch_contrast",
    "praka", "napa_vq", "genie",
)  # fmt: skip
KNOWN_REFERENCES = ("scratch", "real_kd", "joint", "real_finetune", "real_calibration", "given")
SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross", "X": "x",
    STAR: "star", "<": "triangle-left-open", ">": "triangle-right-open", "h": "hexagon-open", "p": "pentagon-open",
}  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True)
class LineStyle:
    """How one method is drawn."""

    colour: str
    marker: str
    dashes: Any
    filled: bool = True

    def options(self) -> dict[str, Any]:
        """Return keyword arguments of `Axes.plot`."""
        edge = ("white", 0.5) if self.filled else (self.colour, 1.0)
        return {
            "color": self.colour,
            "linestyle": self.dashes,
            "linewidth": 1.5 if self.filled else 1.0,
            "marker": self.marker,
            "markersize": 7.0 if self.marker == STAR else 4.5,
            "markerfacecolor": self.colour if self.filled else "white",
            "markeredgecolor": edge[0],
            "markeredgewidth": edge[1],
        }

    def on_page(self) -> dict[str, str]:
        """Return the same look in the words of the page's figures."""
        dash = (
            self.dashes if isinstance(self.dashes, str) else ",".join(f"{2 * n:g}px" for n in self.dashes[1])
        )
        return {"colour": self.colour, "symbol": SYMBOLS[self.marker], "dash": dash}


def look_of(method: str, data_free: bool = True) -> LineStyle:
    """Return how a method is drawn, whatever else is drawn beside it.

    >>> look_of("cmi").colour == look_of("cmi+rgal").colour, look_of("cmi+rgal").marker
    (True, '*')
    """
    if not data_free:
        place = KNOWN_REFERENCES.index(method) if method in KNOWN_REFERENCES else _hash(method)
        return LineStyle(GREY, _at(REFERENCE_MARKERS, place), _at(REFERENCE_DASHES, place), filled=False)
    try:
        name = MethodName.parse(method)
    except UserError:
        name = MethodName(method)
    place = KNOWN.index(name.host) if name.host in KNOWN else _hash(name.host)
    row = place // len(COLOURS)
    colour, marker, dashes = _at(COLOURS, place), _at(MARKERS, place + row), _at(DASHES, row)
    if name.parameters:
        variant = _hash(str(name.without_plugin))
        marker, dashes = _at(MARKERS, variant), _at(DASHES, variant // len(MARKERS))
    if name.plugin is not None or name.host == RGAL:
        marker = STAR
        dashes = _at(DASHES, _hash(method)) if name.plugin or name.parameters else DASHES[0]
    return LineStyle(colour, marker, dashes)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:6], "big")


def _at(values: tuple[T, ...], place: int) -> T:
    return values[place % len(values)]
