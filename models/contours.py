"""Outlines of lung masks as closed polygons in fractions of the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Contour = tuple[tuple[float, float], ...]
POINTS_IN_ALL = 200
_AROUND = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""The eight neighbours as (row, column) steps, clockwise from the right."""
_TURNS = tuple(tuple((facing + 6 + turn) % 8 for turn in range(8)) for facing in range(8))
"""In which order the neighbours are tried, by the direction that led here."""


def outlines(mask: npt.NDArray[np.bool_]) -> tuple[Contour, ...]:
    """One polygon ((row, column), ...) per connected part of *mask*, largest first, at most 200 points in all."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
    order = [int(i) + 1 for i in np.argsort(-np.asarray(sizes))]
    share = POINTS_IN_ALL // max(count, 1)
    polygons = []
    for label in order:
        points = simplified(trace(labels == label), 0.6)
        if len(points) >= 3:
            points = points[np.linspace(0, len(points) - 1, min(len(points), share)).round().astype(int)]
            polygons.append(
                tuple(((float(r) + 0.5) / mask.shape[0], (float(c) + 0.5) / mask.shape[1]) for r, c in points)
            )
    return tuple(polygons)


def trace(part: npt.NDArray[np.bool_]) -> npt.NDArray[np.int_]:
    """(n, 2) boundary pixels of one connected part in order (Moore neighbours, Jacob's stopping rule)."""
    padded = np.pad(part, 1)
    columns = padded.shape[1]
    inside = padded.tobytes()  # one byte a pixel: looked up far faster than an array's elements
    steps = [rows * columns + across for rows, across in _AROUND]
    start = here = inside.index(1)
    path, facing, first = [start], 0, -1
    while True:
        for direction in _TURNS[facing]:
            if inside[here + steps[direction]]:
                break
        else:
            break  # a single pixel
        if here == start and first == direction:
            path.pop()
            break
        if first < 0:
            first = direction
        here, facing = here + steps[direction], direction
        path.append(here)
    return np.stack(np.divmod(np.array(path), columns), axis=1) - 1


def simplified(points: npt.NDArray[np.int_], tolerance: float) -> npt.NDArray[np.int_]:
    """Drop points of a closed line that lie within *tolerance* of the line without them (Douglas and Peucker 1973)."""
    if len(points) < 4:
        return points
    far = int(np.argmax(((points - points[0]) ** 2).sum(1)))
    kept = np.zeros(len(points), dtype=bool)
    kept[[0, far]] = True
    spans = [(0, far), (far, len(points))]
    closed = np.concatenate([points, points[:1]]).astype(float)
    while spans:
        low, high = spans.pop()
        if high - low < 2:
            continue
        line = closed[high] - closed[low]
        offset = closed[low + 1 : high] - closed[low]
        length = float(np.hypot(*line))
        if length > 0:
            distance = np.abs(offset[:, 0] * line[1] - offset[:, 1] * line[0]) / length
        else:
            distance = np.hypot(offset[:, 0], offset[:, 1])
        worst = int(np.argmax(distance))
        if distance[worst] > tolerance:
            middle = low + 1 + worst
            kept[middle] = True
            spans += [(low, middle), (middle, high)]
    return points[kept]
