"""Figures of the cards: those of `triage.audit` as entries, and intervals of anything else by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from triage.audit import bootstrap, performance

DRAWS = 1000


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    return performance.wilson(hits, n)


def auc(score: npt.NDArray[np.floating], is_positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks, ties counting half; NaN where one class is missing."""
    return performance.auc(score, is_positive)


def by_patient(
    patients: Sequence[str], figure: Callable[[npt.NDArray[np.int_]], float], seed: int = 1
) -> tuple[float, float]:
    """
    95 % percentile interval of *figure* (given row indices) when whole patients are drawn with replacement.

    NaN limits with fewer than two patients, or where *figure* is never defined.
    """
    drawn = bootstrap.percentile(figure, patients, draws=DRAWS, seed=seed)
    return drawn.low, drawn.high


def share(what: str, on: str, hits: int, n: int) -> dict[str, Any]:
    """A card entry for a share."""
    low, high = wilson(hits, n)
    return entry(what, on, hits / n if n else float("nan"), low, high, n, "Wilson")


def area(
    what: str,
    on: str,
    score: npt.NDArray[np.floating],
    is_positive: npt.NDArray[np.bool_],
    patients: Sequence[str],
) -> dict[str, Any]:
    """A card entry for an AUC; `interval` says so where it is 0 or 1 and an exact one takes DeLong's place."""
    found = performance.area(score, is_positive, patients)
    return entry(what, on, found.value, found.low, found.high, len(is_positive), found.method)


def entry(what: str, on: str, value: float, low: float, high: float, n: int, interval: str) -> dict[str, Any]:
    """A card entry: the figure, what it was measured on, its 95 % interval and the number of images."""
    numbers = {"value": value, "low": low, "high": high}
    rounded = {k: round(v, 4) if np.isfinite(v) else None for k, v in numbers.items()}
    return {"what": what, "on": on, **rounded, "n": n, "interval": interval}
