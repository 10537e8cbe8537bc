"""Draw figures reproducibly: fixed settings, and the same bytes every time.

Figures are made without pyplot, so that nothing global is left behind, and saved without a date or a random id.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

DPI = 150
# The first that is installed draws what DejaVu Sans has no glyph for.
CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans",
    "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei", "Unifont",
)  # fmt: skip

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "legend.fontsize": 8.5,
    "text.parse_math": False,
    "text.usetex": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "rgal",
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Apply our settings to matplotlib's defaults inside the block, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**STYLE, "font.family": _fonts()})
        yield


@cache
def _fonts() -> list[str]:
    """Our font, and behind it what this machine has for Chinese, Japanese and Korean letters, which ours lacks."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in CJK_FONTS if name in installed), "sans-serif"]


def figure_bytes(figure: Figure, fmt: str) -> bytes:
    """Render a figure as "png" (at `DPI`) or "svg", with the same bytes each time."""
    buffer = io.BytesIO()
    before = figure.dpi
    with paper_style():
        # The canvases print directly: `savefig` would draw everything once more to lay it out, as a draw does anyway.
        if fmt == "png":
            figure.dpi = DPI
            FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
        else:
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    figure.dpi = before
    return buffer.getvalue()
