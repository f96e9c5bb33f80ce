"""Figures with their uncertainty: Wilson intervals for shares, bootstrap by patient for everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

DRAWS = 1000
Z = 1.959963984540054


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p, denominator = hits / n, 1 + Z**2 / n
    middle = (p + Z**2 / (2 * n)) / denominator
    half = Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)) / denominator
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def auc(score: npt.NDArray[np.floating], is_positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks, ties counting half; NaN where one class is missing."""
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def by_patient(
    patients: Sequence[str], figure: Callable[[npt.NDArray[np.int_]], float], seed: int = 1
) -> tuple[float, float]:
    """95 % percentile interval of *figure* (given row indices) when whole patients are drawn with replacement."""
    rng = np.random.default_rng(seed)
    names, inverse = np.unique(np.asarray(patients), return_inverse=True)
    rows = [np.flatnonzero(inverse == i) for i in range(len(names))]
    values = [
        figure(np.concatenate([rows[i] for i in rng.integers(len(names), size=len(names))])) for _ in range(DRAWS)
    ]
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def share(what: str, on: str, hits: int, n: int) -> dict[str, Any]:
    """A card entry for a share."""
    low, high = wilson(hits, n)
    return entry(what, on, hits / n if n else float("nan"), low, high, n, "Wilson")


def entry(what: str, on: str, value: float, low: float, high: float, n: int, interval: str) -> dict[str, Any]:
    """A card entry: the figure, what it was measured on, its 95 % interval and the number of images."""
    numbers = {"value": value, "low": low, "high": high}
    rounded = {k: round(v, 4) if np.isfinite(v) else None for k, v in numbers.items()}
    return {"what": what, "on": on, **rounded, "n": n, "interval": interval}
