"""Intervals of any figure when whole patients, not images, are drawn anew: percentile and BCa bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Figure = Callable[[Rows], float]
"""A figure of the cases at some row numbers (one row may stand several times); NaN where it is not defined."""

NAN = float("nan")


@dataclass(frozen=True)
class Resampled:
    """A figure with its bootstrap interval, and all that is needed to draw the same interval again."""

    value: float
    low: float
    high: float
    method: str
    patients: int
    draws: int
    undefined: int
    """Draws in which the figure was not defined (a class was missing, say); they are left out of the interval."""
    seed: int
    level: float = 0.95


class Patients:
    """Which rows belong to which patient, kept so that drawing patients costs one pass over their rows."""

    def __init__(self, patients: npt.ArrayLike) -> None:
        """*patients*: (n,) one name or number a row; patients are numbered in the order of their sorted names."""
        _, self.number = np.unique(np.asarray(patients), return_inverse=True)
        self.rows_in_order = np.argsort(self.number, kind="stable")
        self.sizes = np.bincount(self.number)
        self.firsts = np.cumsum(self.sizes) - self.sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def rows_of(self, drawn: npt.NDArray[np.int64]) -> Rows:
        """All rows of the patients numbered *drawn* (d,), patient after patient."""
        sizes = self.sizes[drawn]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows: Rows = self.rows_in_order[np.repeat(self.firsts[drawn], sizes) + within]
        return rows


def percentile(
    figure: Figure, patients: npt.ArrayLike, *, draws: int = 1000, seed: int = 1, level: float = 0.95
) -> Resampled:
    """
    Percentile interval of a figure (Efron & Tibshirani 1993, chapter 13), patients drawn with replacement.

    Args:
        figure: what is estimated, as a function of row numbers.
        patients: (n,) the patient of each row.
    Returns:
        The figure of all rows and its interval; both limits NaN with fewer than two patients, who say nothing of how
        patients differ, and where no draw had a defined figure.
    """
    whose = Patients(patients)
    drawn = _drawn(figure, whose, draws, seed)
    low, high = _quantiles(drawn, 0.5 - level / 2, 0.5 + level / 2)
    return _resampled("bootstrap by patient", figure, whose, drawn, draws, low, high, seed, level)


def bca(figure: Figure, patients: npt.ArrayLike, *, draws: int = 2000, seed: int = 1, level: float = 0.95) -> Resampled:
    """
    Bias-corrected and accelerated interval (Efron 1987), patients drawn with replacement; made for paired differences.

    The acceleration comes from leaving out one patient at a time, so the figure is computed *draws* + patients times.
    Where every draw falls on one side of the figure, the bias correction is that of half a draw, to stay finite.

    Args:
        figure: what is estimated, as a function of row numbers; for a paired difference both methods at these rows.
        patients: (n,) the patient of each row.
    Returns:
        As `percentile`; both limits NaN also where the figure of all rows is NaN.
    """
    whose = Patients(patients)
    drawn = _drawn(figure, whose, draws, seed)
    value = _of_all(figure, whose)
    low = high = NAN
    if len(drawn) and np.isfinite(value):
        below = (np.count_nonzero(drawn < value) + np.count_nonzero(drawn == value) / 2) / len(drawn)
        bias = ndtri(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
        z = bias + ndtri([0.5 - level / 2, 0.5 + level / 2])
        # past its pole the correction would turn round: the outermost draws are as far as an interval can go
        shares = ndtr(bias + z / np.maximum(1 - _acceleration(figure, whose) * z, 1e-12))
        low, high = _quantiles(drawn, *shares)
    return _resampled("BCa bootstrap by patient", figure, whose, drawn, draws, low, high, seed, level)


def _drawn(figure: Figure, whose: Patients, draws: int, seed: int) -> Floats:
    """The defined figures among *draws* sets of as many patients as there are."""
    if len(whose) < 2:
        return np.empty(0)
    rng = np.random.default_rng(seed)
    sets = (whose.rows_of(rng.integers(len(whose), size=len(whose))) for _ in range(draws))
    values = np.array([figure(rows) for rows in sets], dtype=np.float64)
    defined: Floats = values[np.isfinite(values)]
    return defined


def _acceleration(figure: Figure, whose: Patients) -> float:
    everyone = np.arange(len(whose))
    without = np.array([figure(whose.rows_of(np.delete(everyone, i))) for i in everyone])
    without = without[np.isfinite(without)]
    distance = without.mean() - without if len(without) else np.zeros(1)
    spread = float((distance**2).sum()) ** 1.5
    return float((distance**3).sum()) / (6 * spread) if spread > 0 else 0.0


def _of_all(figure: Figure, whose: Patients) -> float:
    return float(figure(np.arange(len(whose.number)))) if len(whose) else NAN


def _quantiles(drawn: Floats, low: float, high: float) -> tuple[float, float]:
    if not len(drawn):
        return NAN, NAN
    first, last = np.quantile(drawn, (low, high))
    return float(first), float(last)


def _resampled(
    method: str,
    figure: Figure,
    whose: Patients,
    drawn: Floats,
    draws: int,
    low: float,
    high: float,
    seed: int,
    level: float,
) -> Resampled:
    undefined = draws - len(drawn)
    return Resampled(_of_all(figure, whose), low, high, method, len(whose), draws, undefined, seed, level)
