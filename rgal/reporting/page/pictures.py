"""Pictures inside a page: files as data URIs. An SVG in an <img> runs nothing, fetches nothing and shares no id."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

from rgal.reporting.page.model import Picture

LARGEST = 300_000  # bytes of a picture that is taken as it is
SMALLEST = 400  # pixels; no picture is made narrower
PIXELS = {"pt": 4 / 3, "in": 96.0, "px": 1.0, "": 1.0}


def plot_picture(drawing: Path) -> Picture | None:
    """Return a drawing, or the PNG beside it where that is lighter and the drawing is large."""
    picture, other = svg_picture(drawing), drawing.with_suffix(".png")
    if picture is None or len(picture.uri) <= LARGEST or (lighter := png_picture(other)) is None:
        return picture
    smaller = min(picture.uri, lighter.uri, key=len)
    return Picture(smaller, picture.width, picture.height)


def svg_picture(path: Path) -> Picture | None:
    """Return a drawing; None if the file is missing or no SVG with a size."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    opening = re.search(rb"<svg\b[^>]*>", content)
    if opening is None:
        return None
    size = [_length(opening[0].decode("utf-8", "replace"), side) for side in ("width", "height")]
    return Picture(_uri("image/svg+xml", content), *size) if all(size) else None


def png_picture(path: Path) -> Picture | None:
    """Return a grid of images, with fewer colours and then smaller if it has more than LARGEST bytes; None if it
    cannot be read.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
            shown = image if len(content) <= LARGEST else _lighter(image)
            if shown is not image:
                content = _png(shown)
            return Picture(_uri("image/png", content), *image.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _lighter(image: Image.Image) -> Image.Image:
    """Reduce to 256 colours, at the largest of sizes 1, 1/2, 1/4, ... that needs at most LARGEST bytes."""
    full = image.convert("RGB")
    factor = 1
    while True:
        size = (max(1, full.width // factor), max(1, full.height // factor))
        smaller = full.resize(size, Image.Resampling.BOX) if factor > 1 else full
        reduced = smaller.quantize(256, dither=Image.Dither.NONE)
        if len(_png(reduced)) <= LARGEST or reduced.width < 2 * SMALLEST:
            return reduced
        factor *= 2


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _length(opening: str, side: str) -> int:
    """Return a side of an <svg> in CSS pixels; 0 if it has none."""
    match = re.search(rf'\s{side}="([0-9.]+)(pt|px|in|)"', opening)
    return round(float(match[1]) * PIXELS[match[2]]) if match else 0
