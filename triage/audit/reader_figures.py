"""What readers achieved in each modality: mean, SD and range, pooled ROC points, and the paper's table beside them."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.special import stdtrit

from triage.audit.bootstrap import NAN, Floats
from triage.audit.performance import auc
from triage.audit.ratings import Ratings
from triage.audit.reader_table import WITH, WITHOUT, Flags

ACCURACY, HAND_TILL = "accuracy", "Hand-Till M"


def area_of(name: str) -> str:
    """The name of a class's figure."""
    return f"AUC {name} against rest"


@dataclass(frozen=True)
class Spread:
    """
    One figure in one modality over the readers who have it.

    Attributes:
        sd: of the readers, n - 1 below; NaN for one reader.
        low, high: the least and the most of any reader.
    """

    figure: str
    modality: str
    mean: float
    sd: float
    low: float
    high: float
    readers: int


@dataclass(frozen=True, eq=False)
class PooledRoc:
    """
    ROC points of all readers' scores put together, as the paper draws them.

    That takes the readers to use the scale alike: `area` is not the mean of their areas, and has no interval here, as
    readings of one case are not independent.

    Attributes:
        points: (n, 2) false positive rate and sensitivity, from (0, 0) to (1, 1).
    """

    figure: str
    modality: str
    points: Floats
    area: float
    readings: int


@dataclass(frozen=True)
class PaperRow:
    """One line of the paper's table of readers (Nishio et al.): mean and SD over its readers."""

    figure: str
    modality: str
    mean: float
    sd: float


PAPER_READERS = 8
PAPER = (
    PaperRow(ACCURACY, WITHOUT, 0.696, 0.031),
    PaperRow(area_of("normal"), WITHOUT, 0.889, 0.027),
    PaperRow(area_of("pneumonia"), WITHOUT, 0.844, 0.046),
    PaperRow(area_of("covid"), WITHOUT, 0.716, 0.028),
    PaperRow(area_of("normal"), WITH, 0.903, 0.028),
    PaperRow(area_of("pneumonia"), WITH, 0.883, 0.055),
    PaperRow(area_of("covid"), WITH, 0.762, 0.029),
)
PAPER_P = MappingProxyType({area_of("covid"): 0.0038})
"""The p-value printed for a gain; of which analysis is not said where we read it (AUDIT.md 2.1)."""


def spreads(figure: str, value: Floats, modalities: tuple[str, ...]) -> tuple[Spread, ...]:
    """
    Mean, SD and range over the readers in each modality.

    Args:
        value: (modalities, readers); a reader without the figure has NaN and is left out.
    """
    return tuple(_spread(figure, name, row[np.isfinite(row)]) for name, row in zip(modalities, value, strict=True))


def pooled_roc(figure: str, ratings: Ratings) -> tuple[PooledRoc, ...]:
    """The ROC points of each modality; without any, and area NaN, where a class is missing among its readings."""
    found = []
    for name, score, read in zip(ratings.modalities, ratings.score, ratings.is_read, strict=True):
        positive = np.broadcast_to(ratings.is_positive, read.shape)[read]
        points = _points(score[read], positive)
        found.append(PooledRoc(figure, name, points, auc(score[read], positive), len(positive)))
    return tuple(found)


def beside_paper(ours: tuple[Spread, ...]) -> tuple[tuple[PaperRow, Spread | None], ...]:
    """Each line of the paper with ours of the same name: other readers, other cases, so nothing is tested."""
    found = {(spread.figure, spread.modality): spread for spread in ours}
    return tuple((row, found.get((row.figure, row.modality))) for row in PAPER)


def implied_sd(gain: float, p: float, readers: int) -> float:
    """The SD of the readers' own gains by which a paired t over *readers* would have given a two-sided *p*."""
    return float(abs(gain) * np.sqrt(readers) / stdtrit(readers - 1, 1 - p / 2))


def _spread(figure: str, modality: str, known: Floats) -> Spread:
    n = len(known)
    if not n:
        return Spread(figure, modality, NAN, NAN, NAN, NAN, 0)
    sd = float(known.std(ddof=1)) if n > 1 else NAN
    return Spread(figure, modality, float(known.mean()), sd, float(known.min()), float(known.max()), n)


def _points(score: Floats, positive: Flags) -> Floats:
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return np.empty((0, 2))
    order = np.argsort(-score, kind="stable")
    # one point where the score changes, so that ties make a slope
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    true, false = np.cumsum(positive[order])[last] / m, np.cumsum(~positive[order])[last] / n
    return np.vstack([np.zeros((1, 2)), np.column_stack([false, true])])
