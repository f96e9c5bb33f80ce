"""Files of a study as what a browser shows: grey PNG without any metadata, and a transparent layer over it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from models.pictures import read_picture
from triage.domain.eligibility import IntendedUse
from triage.domain.errors import UnusableRadiograph

LONGEST_EDGE = 2048
OUTLINE_EDGE, SOFT = 1400, 3
CONTOUR = (86, 180, 233)
SHAPES_DIFFER = 0.02
"""Of the ratio of height to width: more, and the layer lies beside what it marks."""


def radiograph(path: Path) -> Image.Image:
    """
    The radiograph in 8-bit grey, longest edge at most `LONGEST_EDGE`, never enlarged.

    Raises:
        UnusableRadiograph: it cannot be decoded.
    """
    pixels = read_picture(path, IntendedUse()).pixels
    grey = Image.fromarray((np.clip(np.nan_to_num(pixels), 0, 1) * 255).round().astype(np.uint8))
    shrink = LONGEST_EDGE / max(grey.size)
    if shrink >= 1:
        return grey
    return grey.resize((round(grey.width * shrink), round(grey.height * shrink)), Image.Resampling.LANCZOS)


def overlay(path: Path, size: tuple[int, int]) -> Image.Image:
    """
    What is to lie over a radiograph of *size* (width, height), as it is in its file.

    Raises:
        UnusableRadiograph: neither a transparent nor a grey PNG, or of another shape than the radiograph.
    """
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=("PNG",)) as file:
            found = file.convert("RGBA") if file.has_transparency_data else file.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as why:
        raise UnusableRadiograph("undecodable", f"no PNG ({type(why).__name__})") from None
    if abs((found.height / found.width) / (size[1] / size[0]) - 1) > SHAPES_DIFFER:
        raise UnusableRadiograph("undecodable", "the overlay has another shape than the image")
    if found.mode not in {"RGBA", "1", "L", "I", "I;16"}:
        raise UnusableRadiograph("undecodable", "an overlay is a grey mask, or has transparency")
    return found


def layer(found: Image.Image) -> Image.Image:
    """A transparent picture as it is; of a mask its outline, fine enough to be smooth on a small radiograph too."""
    if found.mode == "RGBA":
        return found
    values = np.asarray(found).astype(np.int64)
    inside = Image.fromarray((values * 2 > values.max()).astype(np.uint8) * np.uint8(255))
    fine = OUTLINE_EDGE / max(inside.size)
    drawn = inside.resize((round(inside.width * fine), round(inside.height * fine)), Image.Resampling.BICUBIC)
    soft = np.asarray(drawn.filter(ImageFilter.GaussianBlur(SOFT))).astype(np.int16)
    line = Image.new("RGBA", drawn.size, (*CONTOUR, 0))
    line.putalpha(Image.fromarray(np.clip((80 - abs(soft - 127)) * 5, 0, 255).astype(np.uint8)))
    return line


def png(image: Image.Image) -> bytes:
    """The pixels alone: a new file, so that no name, date or text of the old one travels along."""
    out = io.BytesIO()
    Image.frombytes(image.mode, image.size, image.tobytes()).save(out, "PNG", compress_level=3)
    return out.getvalue()
