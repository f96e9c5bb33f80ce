"""A radiograph becomes what the networks read: the whole picture for the lungs, the lung fields for the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage

from triage.domain.errors import UnusableRadiograph

MEAN, SD = 0.449, 0.226
"""Grey mean and spread that the ImageNet-initialised encoders expect."""
SHORTEST_EDGE = 64
LEAST_CONTRAST = 0.02
"""Least distance between the 1st and 99th percentile of the pixels."""
MARGIN = 0.04
"""Margin around the lungs' bounding box, as a share of its edges."""
BOX_MARGIN = 0.12
"""The same for the wider view that keeps what surrounds the lungs."""
WORKING_SIDE = 256
"""Side of the square picture on which the lung fields are cut out."""
DISC = (6, 5, 5, 5, 4, 3, 0)
"""The pixels within 6 of the middle, as `_grown` takes them."""
RIM = (2, 1, 0)
"""The pixels that two steps reach."""


View = Literal["lungs", "crop", "box", "whole"]
"""
lungs: cropped to the lungs, equalised, grey outside; crop: the same without the grey; box: cropped with a wider margin,
neither equalised nor greyed; whole: the whole picture.
"""


class LungCrop(NamedTuple):
    """The classifier's view of one radiograph."""

    image: npt.NDArray[np.float32]
    """(side, side) in [0, 1]."""
    lungs: npt.NDArray[np.float32]
    """(side, side) in [0, 1]: the lung mask in the same frame."""
    box: tuple[float, float, float, float]
    """Top, left, bottom, right of the crop as fractions of the image's height and width."""


def check_usable(pixels: npt.NDArray[np.float32]) -> None:
    """Raise UnusableRadiograph for what is too small or has no contrast."""
    if pixels.ndim != 2 or min(pixels.shape) < SHORTEST_EDGE:
        raise UnusableRadiograph("too-small", "x".join(map(str, pixels.shape)))
    if not np.isfinite(pixels).all():
        raise UnusableRadiograph("blank", "values that are no numbers")
    low, high = np.percentile(_thinned(pixels), (1, 99))
    if high - low < LEAST_CONTRAST:
        raise UnusableRadiograph("blank", f"1st to 99th percentile {low:.3f} to {high:.3f}")


def squared(pixels: npt.NDArray[np.float32], side: int = WORKING_SIDE) -> npt.NDArray[np.float32]:
    """(side, side) in [0, 1]: antialiased, stretched from the 1st to the 99th percentile."""
    image = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None, None]
    small = F.interpolate(image, size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0, 0].numpy()
    low, high = np.percentile(small, (1, 99))
    stretched: npt.NDArray[np.float32] = np.clip((small - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
    return stretched


def standardised(images: torch.Tensor) -> torch.Tensor:
    """Values in [0, 1] as the networks were made to read them."""
    return (images - MEAN) / SD


def to_lung_input(square: npt.NDArray[np.float32], side: int) -> torch.Tensor:
    """(1, 1, side, side) float32 of a picture made by `squared`."""
    image = torch.from_numpy(square)[None, None]
    if image.shape[-1] != side:
        image = F.interpolate(image, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return standardised(image)


def to_lung_crop(
    square: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], side: int, *, grey_outside: bool = True
) -> LungCrop:
    """
    Cut the lung fields out of a picture.

    The crop is the lungs' bounding box plus a margin, stretched to a square, so the frame's aspect and what was
    cropped say nothing. Inside the lungs the histogram is equalised (rank over the lung pixels): any monotone change
    of the grey scale gives the same input. Outside the slightly widened lungs everything is the same grey: borders,
    letters, markers, shoulders and the mediastinum's devices cannot tell which hospital an image came from.

    Args:
        square: (WORKING_SIDE, WORKING_SIDE) made by `squared`.
        mask: same frame, the kept lungs.
        side: edge of the classifier's input.
        grey_outside: False keeps what lies outside the lungs, for experiments on what it gives away.
    """
    box = _box(mask, MARGIN)
    soft = np.ones_like(square)
    if grey_outside:
        soft = np.clip(ndimage.gaussian_filter(_widened(mask).astype(np.float32), 1.5), 0, 1)
    equal, seen = np.zeros_like(square), soft > 0
    equal[seen] = _equalised(square[seen], square[mask])
    image = _cut(soft * equal + (1 - soft) * 0.5, box, side)
    lungs = _cut(mask.astype(np.float32), box, side)
    top, left, bottom, right = (edge / square.shape[0] for edge in box)
    return LungCrop(image, lungs, (top, left, bottom, right))


def seen(square: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], side: int, view: View) -> LungCrop:
    """What the classifier sees of a picture made by `squared` with its kept lungs, under *view*."""
    match view:
        case "lungs":
            return to_lung_crop(square, mask, side)
        case "crop":
            return to_lung_crop(square, mask, side, grey_outside=False)
        case "box":
            return to_lung_box(square, mask, side)
        case "whole":
            _box(mask, 0)  # without lungs there is nothing to look at, though the picture would be shown whole
            whole = (0.0, 0.0, float(len(square)), float(len(square)))
            return LungCrop(_cut(square, whole, side), _cut(mask.astype(np.float32), whole, side), (0.0, 0.0, 1.0, 1.0))


def to_lung_box(square: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], side: int) -> LungCrop:
    """
    Cut the lungs' surroundings out of a picture, greys as they are: the bounding box with `BOX_MARGIN`, made square.

    Args as `to_lung_crop`'s. What lies outside the lungs is seen, so devices and shoulders can speak; borders, letters
    and the frame's aspect cannot. On unseen hospitals ImageNet's features read this better than equalised lungs
    (docs/models/experiments.md).
    """
    box = _box(mask, BOX_MARGIN)
    image, lungs = _cut(square, box, side), _cut(mask.astype(np.float32), box, side)
    top, left, bottom, right = (edge / square.shape[0] for edge in box)
    return LungCrop(image, lungs, (top, left, bottom, right))


def _box(mask: npt.NDArray[np.bool_], margin: float) -> tuple[float, float, float, float]:
    """Top, left, bottom, right of the lungs with a margin, in pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) < 8 or len(columns) < 8:
        raise UnusableRadiograph("lungs-implausible", "no lung field")
    n = float(mask.shape[0])
    pad_r, pad_c = margin * (rows[-1] - rows[0] + 1), margin * (columns[-1] - columns[0] + 1)
    top, bottom = max(0.0, rows[0] - pad_r), min(n, rows[-1] + 1 + pad_r)
    left, right = max(0.0, columns[0] - pad_c), min(n, columns[-1] + 1 + pad_c)
    return top, left, bottom, right


def _widened(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Close dents (a dense consolidation is easily left out of the mask), fill holes and add a thin rim."""
    padded = np.pad(mask, 8)
    closed = ~_grown(~_grown(padded, DISC), DISC)
    labels, _ = ndimage.label(~closed)
    return _grown(labels != labels[0, 0], RIM)[8:-8, 8:-8]  # the corner is outside; the rest is closed or a hole in it


def _grown(mask: npt.NDArray[np.bool_], halves: Sequence[int]) -> npt.NDArray[np.bool_]:
    """
    Binary dilation, a few shifts instead of a search at every pixel.

    Args:
        halves: of a symmetric shape, half the width of its middle row, of the next one, and so on to the last.
    """
    wide = [mask]
    for shift in range(1, max(halves) + 1):
        wider = wide[-1].copy()
        wider[:, shift:] |= mask[:, :-shift]
        wider[:, :-shift] |= mask[:, shift:]
        wide.append(wider)
    grown = wide[halves[0]].copy()
    for shift, half in enumerate(halves[1:], start=1):
        grown[shift:] |= wide[half][:-shift]
        grown[:-shift] |= wide[half][shift:]
    return grown


def _equalised(values: npt.NDArray[np.float32], lungs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each value replaced by its rank among the lung pixels, in [0, 1]."""
    knots = np.quantile(np.sort(lungs), np.linspace(0, 1, 129))
    return np.interp(values, knots + np.arange(129) * 1e-7, np.linspace(0, 1, 129)).astype(np.float32)


def _cut(
    picture: npt.NDArray[np.float32], box: tuple[float, float, float, float], side: int
) -> npt.NDArray[np.float32]:
    """The *box* (in pixels) of *picture*, resampled to (side, side)."""
    n = picture.shape[0]
    top, left, bottom, right = (2 * edge / n - 1 for edge in box)
    theta = torch.tensor([[[(right - left) / 2, 0, (right + left) / 2], [0, (bottom - top) / 2, (bottom + top) / 2]]])
    grid = F.affine_grid(theta.float(), [1, 1, side, side], align_corners=False)
    image = torch.from_numpy(np.ascontiguousarray(picture, dtype=np.float32))[None, None]
    cut: npt.NDArray[np.float32] = F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0, 0].numpy()
    return cut


def _thinned(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """At most about a quarter million pixels, enough for percentiles."""
    step = max(1, int(max(pixels.shape) / 512))
    return pixels[::step, ::step]
