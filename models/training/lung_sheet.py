"""Lungs as drawn by hand and as found, side by side: a contact sheet of radiographs, and the outlines alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from models import preprocess
from models.contours import outlines
from models.training import data, overlaps
from triage.audit import segmentation
from triage.audit.drawing import COLOURS, DASHES, INK

Mask = npt.NDArray[np.bool_]
TILE = preprocess.WORKING_SIDE
STRIP = 22
"""Height of the line of words above each tile."""
GAP = 4
BRIGHT = ("#39d98a", "#4db8ff", "#ff9f43")
"""Reference, optimised and baseline on the greys of a radiograph."""
PANEL = 230
"""Side of one drawing of outlines."""


@dataclass(frozen=True)
class Shown:
    """One radiograph on the sheet: what it stands for, and the three masks in the frame of `preprocess.squared`."""

    name: str
    square: npt.NDArray[np.float32] = field(repr=False)
    reference: Mask = field(repr=False)
    optimised: Mask = field(repr=False)
    baseline: Mask = field(repr=False)

    @property
    def said(self) -> tuple[str, str, str]:
        """What stands above the three masks."""
        dices = [segmentation.dice(found, self.reference) for found in (self.optimised, self.baseline)]
        return "reference", f"optimised {dices[0]:.3f}", f"baseline {dices[1]:.3f}"


def spread(dice: npt.NDArray[np.float64]) -> dict[str, int]:
    """Rows of the worst two cases, the lower quartile, the median and the best, each row once."""
    order = [int(i) for i in np.argsort(dice, kind="stable")]
    places = {"worst": 0, "second worst": 1, "lower quartile": len(order) // 4, "median": len(order) // 2, "best": -1}
    found: dict[str, int] = {}
    for name, place in places.items():
        if len(order) > abs(place) and order[place] not in found.values():
            found[name] = order[place]
    return found


def shown(
    networks: tuple[overlaps.Segmenter, overlaps.Segmenter], cases: Sequence[data.Case], origin: str
) -> list[Shown]:
    """The cases to draw, from the worst to the best by the first network's Dice; the second is the baseline."""
    dice = overlaps.overlaps(networks[0], cases, origin, "to choose the cases drawn").dice
    rows = []
    for name, row in spread(dice).items():
        case = cases[row]
        (ours, reference), (before, _) = (overlaps.fields(n, [case], origin)[0] for n in networks)
        rows.append(Shown(name, preprocess.squared(data.read_pixels(case.path)), reference, ours.mask, before.mask))
    return rows


def contact_sheet(rows: Sequence[Shown]) -> Image.Image:
    """
    Image, reference, optimised and baseline, a row a radiograph, as in the paper's figure.

    It shows the radiographs themselves: for a file beside the corpus, never for the repository.
    """
    high, wide = TILE + STRIP + GAP, TILE + GAP
    sheet = Image.new("RGB", (4 * wide + GAP, len(rows) * high + GAP), "black")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for r, row in enumerate(rows):
        grey = Image.fromarray((row.square * 255).astype(np.uint8)).convert("RGB")
        masks = (None, row.reference, row.optimised, row.baseline)
        for c, (mask, words) in enumerate(zip(masks, (row.name, *row.said), strict=True)):
            left, top = GAP + c * wide, GAP + r * high
            draw.text((left + 3, top + 3), words, fill="white", font=font)
            sheet.paste(grey if mask is None else _outlined(grey, mask, BRIGHT[c - 1]), (left, top + STRIP))
    return sheet


def _outlined(grey: Image.Image, mask: Mask, colour: str) -> Image.Image:
    tinted = Image.blend(grey, Image.new("RGB", grey.size, colour), 0.25)
    tile = Image.composite(tinted, grey, Image.fromarray((mask * 255).astype(np.uint8)))
    draw = ImageDraw.Draw(tile)
    for polygon in outlines(mask):
        points = [(column * TILE, row * TILE) for row, column in polygon]
        draw.line([*points, points[0]], fill=colour, width=2)
    return tile


def outline_drawing(rows: Sequence[Shown], title: str) -> str:
    """The same without a pixel of any radiograph: three outlines a panel, as SVG."""
    step, high = PANEL + 14, PANEL + 78
    drawn = [
        f'<rect width="100%" height="100%" fill="#fff"/><text x="10" y="18" font-weight="bold">{escape(title)}</text>'
    ]
    for i, (name, colour, dash) in enumerate(zip(("reference", "optimised", "baseline"), _INKS, DASHES, strict=True)):
        x = 10 + 110 * i
        drawn.append(
            f'<line x1="{x}" y1="32" x2="{x + 26}" y2="32" stroke="{colour}" stroke-width="2" {_dashed(dash)}/>'
        )
        drawn.append(f'<text x="{x + 32}" y="36">{name}</text>')
    for i, row in enumerate(rows):
        left = 10 + i * step
        drawn.append(f'<rect x="{left}" y="46" width="{PANEL}" height="{PANEL}" fill="none" stroke="#bbb"/>')
        for mask, colour, dash in zip((row.reference, row.optimised, row.baseline), _INKS, DASHES, strict=True):
            drawn += [_polygon(p, left, colour, dash) for p in outlines(mask)]
        words = f"{row.name}: {', '.join(row.said[1:])}"
        drawn.append(f'<text x="{left}" y="{PANEL + 62}">{escape(words)}</text>')
    wide = 6 + step * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" '
        f'role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="11" fill="{INK}">'
        f"{''.join(drawn)}</svg>\n"
    )


_INKS = (INK, COLOURS[0], COLOURS[1])


def _polygon(polygon: Sequence[tuple[float, float]], left: float, colour: str, dash: str) -> str:
    points = " ".join(f"{left + column * PANEL:.1f},{46 + row * PANEL:.1f}" for row, column in polygon)
    return f'<polygon points="{points}" fill="none" stroke="{colour}" stroke-width="1.4" {_dashed(dash)}/>'


def _dashed(dash: str) -> str:
    return f'stroke-dasharray="{dash}"' if dash else ""
