"""Pixels to what a browser shows: the radiograph as JPEG, the activation as PNG, the lung contour as an SVG path."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from triage.domain.finding import Lungs
from triage.domain.imaging import Radiograph

LONGEST_EDGE = 1024
CAPTION = "Not for diagnosis. AI result is preliminary."
ACTIVATION = (255, 140, 0)
"""One hue, fading with the activation: told from grey by brightness and by any kind of colour vision."""


def size_of(radiograph: Radiograph) -> tuple[int, int]:
    """(width, height) of the picture: square pixels, longest edge at most `LONGEST_EDGE`, never enlarged."""
    rows, columns = radiograph.pixels.shape
    tall, wide = radiograph.pixel_spacing_mm or (1.0, 1.0)
    height, width = rows * tall / wide, float(columns)
    shrink = min(1.0, LONGEST_EDGE / max(height, width))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def jpeg(radiograph: Radiograph) -> bytes:
    """The radiograph in the window it was decoded with, the caption written into the image."""
    grey = (np.clip(np.nan_to_num(radiograph.pixels), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(grey).resize(size_of(radiograph), Image.Resampling.LANCZOS)
    font = ImageFont.load_default(max(12, image.width // 42))
    ImageDraw.Draw(image).text(
        (8, image.height - 8), CAPTION, fill=235, font=font, anchor="ls", stroke_width=2, stroke_fill=0
    )
    return _encoded(image, "JPEG", quality=90)


def activation_png(activation: npt.NDArray[Any], size: tuple[int, int]) -> bytes:
    """The class activation, in [0, 1], as one transparent hue to lay over the picture of *size*."""
    strength = (np.clip(np.nan_to_num(activation), 0, 1) * 190).astype(np.uint8)
    alpha = Image.fromarray(strength).resize(size, Image.Resampling.BICUBIC)
    layer = Image.new("RGBA", size, (*ACTIVATION, 0))
    layer.putalpha(alpha)
    return _encoded(layer, "PNG")


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def contour_path(lungs: Lungs) -> str:
    """The lung contours as path data in a box of 1000 by 1000, to be stretched over the picture."""
    return " ".join(
        "M" + " L".join(f"{column * 1000:.1f} {row * 1000:.1f}" for row, column in contour) + " Z"
        for contour in lungs.contours
        if contour
    )


def overlay_svg(lungs: Lungs) -> str:
    """The lung contour as an image of its own."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 1000" preserveAspectRatio="none">'
        f"<title>Lung contour. {CAPTION}</title>"
        f'<path d="{contour_path(lungs)}" fill="none" stroke="#56b4e9" stroke-width="2" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )


@dataclass
class PictureCache:
    """The pictures shown last, bounded in bytes; one a process, shared by its threads."""

    most_bytes: int = 64 * 2**20
    _kept: OrderedDict[tuple[str, str], bytes] = field(default_factory=OrderedDict, repr=False)
    _bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def get(self, sop_instance_uid: str, kind: str, make: Callable[[], bytes]) -> bytes:
        """The picture of one instance, made at first use."""
        key = (sop_instance_uid, kind)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()  # outside the lock: two readers may draw the same picture, none waits for another's archive
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += len(made)
            while self._bytes > self.most_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped)
        return made
