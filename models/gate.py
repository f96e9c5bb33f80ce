"""The pixel gate: are there two plausible lungs, and is the picture like those the classifier was made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

LEAST_PART = 0.008
"""Parts smaller than this share of the image are specks, not lungs."""
AREA = (0.08, 0.80)
"""Lung area over image area."""
LEAST_RATIO = 0.12
"""Smaller lung over larger lung: a collapsed or white lung is small, still there."""
LEAST_APART = 0.18
"""Horizontal distance of the two centres over the image's width."""
MOST_UNEVEN = 0.25
"""Vertical distance of the two centres over the image's height."""
LEAST_HEIGHT = 0.22
"""Height of the larger lung over the image's height."""
CENTRE = ((0.22, 0.78), (0.25, 0.75))
"""Where the middle between the two lungs may lie: rows, columns."""
MOST_UNSURE = 0.45
"""Share of the lung area where the network is unsure (0.2 to 0.8)."""
MOST_CUT = 0.37
"""Share of the image's top or bottom edge that lungs may run off: clipped apices and bases do, cut chests more."""
PROPORTIONS = (0.74, 1.9)
"""
Width over height of the box around both lungs, as the patient is built: halves of a chest are narrower, slices wider.

Chosen on development images alone, lungs found by weights 0.3.0: 0.78 to 1.65 in 397 frontal adults with plausible
lungs (124 hannover, 121 nih_cxr14, 125 shenzhen, 27 web_other), so all of these pass; drawn masks of 566 shenzhen
adults 0.78 to 1.54. Of all development frontal adults 2 of 953 nih_cxr14 are refused for it and none of the other
sources (docs/models/gates.md): at least 99.5 % of each are kept. Of both halves of the
same pictures 259 in 804 passed the other checks, with this one 37; of the upper thirds of 90, 25 and 1. That one lung
is much smaller tells less: in 208 of the 259 only one part was found, and a collapsed lung is small as well.
"""
KNOWN_PERCENTILE = 99.5
"""Of held-out frontal adults from the sources that the gate was fitted to; the others would be refused."""
STRANGER_PERCENTILE = 99.0
"""The same of frontal adults from a source left out."""
MOST_WIDENED = 1.25
"""The limit grows no further for strangers' sake: beyond it next to nothing is refused (docs/models/gates.md)."""
LEAST_LEFT_OUT = 50
"""Fewer images have no 99th percentile to speak of."""


@dataclass(frozen=True)
class LungField:
    """The kept lungs and, where they are not plausible, why."""

    mask: npt.NDArray[np.bool_]
    implausible: str | None = None

    @property
    def area_fraction(self) -> float:
        """Lung area over image area."""
        return float(self.mask.mean())


def lung_field(probability: npt.NDArray[np.float32], aspect: float | None = None) -> LungField:
    """
    Keep the one or two largest parts of a lung probability map and judge them.

    Args:
        probability: (rows, columns) in the frame of `preprocess.squared`, whatever shape the picture had.
        aspect: width over height of that picture; without it the lungs' own proportions are not judged.
    """
    raw = probability > 0.5
    labels, count = ndimage.label(raw)
    sizes = np.asarray(ndimage.sum_labels(raw, labels, np.arange(1, count + 1)))
    kept = [int(i) + 1 for i in np.argsort(-sizes)[:2] if sizes[i] >= LEAST_PART * raw.size]
    parts = [ndimage.binary_fill_holes(labels == k) for k in kept]
    mask = np.any(parts, axis=0) if parts else np.zeros_like(raw)
    if not parts:
        return LungField(mask, "no lung")
    area = float(mask.mean())
    if not AREA[0] <= area <= AREA[1]:
        return LungField(mask, f"lung area {area:.2f} of the image")
    unsure = float(((probability > 0.2) & (probability < 0.8)).sum() / mask.sum())
    if unsure > MOST_UNSURE:
        return LungField(mask, f"{unsure:.2f} of the lung area unsure")
    cut = float(max(mask[0].mean(), mask[-1].mean()))
    if cut > MOST_CUT:
        return LungField(mask, f"lungs cut off along {cut:.2f} of the image's edge")
    pair = parts if len(parts) == 2 else _halves(parts[0])
    return LungField(mask, _unlike_two_lungs(pair) or (None if aspect is None else _misproportioned(mask, aspect)))


def _halves(part: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """Lungs that touch (retrocardiac lung counts as lung) are parted at the middle of their width."""
    columns = np.flatnonzero(part.any(0))
    middle = int(columns[0] + columns[-1] + 1) // 2
    left, right = part.copy(), part.copy()
    left[:, middle:] = False
    right[:, :middle] = False
    return [left, right]


def _unlike_two_lungs(pair: list[npt.NDArray[np.bool_]]) -> str | None:
    areas = sorted(float(p.mean()) for p in pair)
    if areas[0] < LEAST_RATIO * areas[1]:
        return f"one lung {areas[0] / areas[1]:.2f} of the other"
    rows, columns = pair[0].shape
    (r0, c0), (r1, c1) = (ndimage.center_of_mass(p) for p in pair)
    if abs(c0 - c1) / columns < LEAST_APART:
        return f"lungs {abs(c0 - c1) / columns:.2f} apart"
    if abs(r0 - r1) / rows > MOST_UNEVEN:
        return f"lungs {abs(r0 - r1) / rows:.2f} uneven"
    height = max(float(p.any(1).sum()) for p in pair) / rows
    if height < LEAST_HEIGHT:
        return f"lungs {height:.2f} high"
    middle = ((r0 + r1) / 2 / rows, (c0 + c1) / 2 / columns)
    for place, (low, high), name in zip(middle, CENTRE, ("row", "column"), strict=True):
        if not low <= place <= high:
            return f"lungs centred at {name} {place:.2f}"
    return None


def _misproportioned(mask: npt.NDArray[np.bool_], aspect: float) -> str | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    high, wide = (float(edge[-1] - edge[0] + 1) for edge in (rows, columns))
    proportion = aspect * (wide / mask.shape[1]) / (high / mask.shape[0])
    if PROPORTIONS[0] <= proportion <= PROPORTIONS[1]:
        return None
    return f"lungs {proportion:.2f} times as wide as high"


@dataclass(frozen=True)
class Familiarity:
    """
    How far an embedding lies from the training data (Lee et al. 2018, in the leading components plus the residual).

    Attributes:
        means: (classes, features) mean embedding of each class.
        components: (k, features) whitened principal directions of the within-class scatter.
        basis: (k, features) the same directions at unit length.
        residual_variance: mean squared length of what the directions leave over.
    """

    means: npt.NDArray[np.float64]
    components: npt.NDArray[np.float64]
    basis: npt.NDArray[np.float64]
    residual_variance: float

    def score(self, embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """(n,) distance to the nearest class, about 1 for a typical training image."""
        gap = np.asarray(embeddings, dtype=np.float64)[:, None, :] - self.means[None]
        inside = (gap @ self.components.T) ** 2
        over = (gap**2).sum(-1) - ((gap @ self.basis.T) ** 2).sum(-1)
        spread = inside.sum(-1) + over / self.residual_variance * self.components.shape[0] / 4
        nearest: npt.NDArray[np.float64] = np.sqrt(spread.min(1) / (1.25 * self.components.shape[0]))
        return nearest

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored beside the network's weights."""
        return {
            "gate.means": torch.from_numpy(self.means).float(),
            "gate.components": torch.from_numpy(self.components).float(),
            "gate.basis": torch.from_numpy(self.basis).float(),
            "gate.residual_variance": torch.tensor([self.residual_variance]).float(),
        }

    @classmethod
    def from_tensors(cls, stored: Mapping[str, torch.Tensor]) -> Familiarity:
        """Read back what `tensors` wrote."""
        return cls(
            means=stored["gate.means"].double().numpy(),
            components=stored["gate.components"].double().numpy(),
            basis=stored["gate.basis"].double().numpy(),
            residual_variance=float(stored["gate.residual_variance"][0]),
        )

    @classmethod
    def fit(
        cls, embeddings: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], components: int = 24
    ) -> Familiarity:
        """From the training images' (n, features) embeddings and class indices."""
        x = np.asarray(embeddings, dtype=np.float64)
        means = np.stack([x[labels == k].mean(0) for k in np.unique(labels)])
        gap = x - means[np.searchsorted(np.unique(labels), labels)]
        _, singular, directions = np.linalg.svd(gap, full_matrices=False)
        basis = directions[:components]
        deviation = singular[:components] / np.sqrt(len(x))
        over = (gap**2).sum(1) - ((gap @ basis.T) ** 2).sum(1)
        return cls(means, basis / deviation[:, None], basis, float(over.mean()))


@dataclass(frozen=True)
class LeftOut:
    """
    How unfamiliar one source is to a gate fitted without it.

    Attributes:
        known: gate scores of held-out frontal adults of the sources it was fitted to.
        stranger: of the frontal adults of the source left out.
    """

    known: npt.NDArray[np.float64]
    stranger: npt.NDArray[np.float64]

    @property
    def widening(self) -> float:
        """Times the limit of the known that lets `STRANGER_PERCENTILE` of the strangers pass."""
        return float(np.percentile(self.stranger, STRANGER_PERCENTILE) / np.percentile(self.known, KNOWN_PERCENTILE))


def left_out(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    sources: Sequence[str],
    held_out: npt.NDArray[np.floating],
    held_out_sources: Sequence[str],
) -> dict[str, LeftOut]:
    """
    Leave one source out of the gate after another; a source with too few images stays in.

    Args:
        embeddings: (n, features) of the training images, *labels* and *sources* theirs.
        held_out: (m, features) of frontal adults that nothing was fitted to, *held_out_sources* theirs.
    """
    trained, other = np.asarray(sources), np.asarray(held_out_sources)
    found = {}
    for source in np.unique(trained):
        kept, known = trained != source, other != source
        strangers = np.concatenate([embeddings[~kept], held_out[~known]])
        if min(len(strangers), int(kept.sum()), int(known.sum())) >= LEAST_LEFT_OUT:
            familiarity = Familiarity.fit(embeddings[kept], labels[kept])
            found[str(source)] = LeftOut(familiarity.score(held_out[known]), familiarity.score(strangers))
    return found


def limit_of(held_out: npt.NDArray[np.floating], sources: Mapping[str, LeftOut] | None = None) -> float:
    """
    The gate score above which a picture is refused.

    The `KNOWN_PERCENTILE` of held-out frontal adults, widened by what the strangest left-out source would have needed
    to be let in, at most by `MOST_WIDENED`. Scores of gates fitted without a source have a scale of their own, hence
    a factor and no difference.

    Args:
        held_out: (n,) gate scores of frontal adults that nothing was fitted to, with two plausible lungs.
        sources: what `left_out` found.
    """
    needed = [one.widening for one in (sources or {}).values()]
    return float(np.percentile(held_out, KNOWN_PERCENTILE)) * float(
        np.clip(max(needed, default=1.0), 1.0, MOST_WIDENED)
    )
