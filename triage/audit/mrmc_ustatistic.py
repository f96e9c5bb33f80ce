"""The variance of a mean AUC over readers and cases together, as iMRMC gives it, for any design."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from triage.audit.bootstrap import NAN, Floats
from triage.audit.mrmc_covariance import APART, kernels, products
from triage.audit.mrmc_inference import interval, two_sided
from triage.audit.ratings import Ratings


class Estimator(StrEnum):
    """Of the moments: over distinct readers and cases, or over all, as if those drawn were the population."""

    U_STATISTIC = "U-statistic"
    V_STATISTIC = "V-statistic"


@dataclass(frozen=True)
class MeanArea:
    """
    A mean AUC, or the difference *first* less *second* of two, over random readers and random cases.

    Attributes:
        second: None where it is the mean of one modality, tested against 0.5 as in iMRMC; a difference against 0.
        df: Gallas's (BDG; Obuchowski, Gallas & Hillis, Academic Radiology 19, 2012); t has its whole part, as in iMRMC.
    """

    first: str
    second: str | None
    value: float
    variance: float
    df: float
    low: float
    high: float
    p: float


FACTORS = {"reader": ((0, 1, 2, 3), 3), "positive": ((0, 1, 4, 5), 5), "negative": ((0, 2, 4, 6), 6)}
"""Of the moments M1 to M8 (Gallas 2006): the places of those that share the factor, and of the one sharing only it."""
UNSHARE = np.kron([[1.0, 0.0], [-1.0, 1.0]], APART)
"""From sums over kernels that share at least so much, the reader first, to sums over those that share just that."""


@dataclass(frozen=True, eq=False)
class _Moments:
    """By pairs of modalities (t, t): covariance of the means, the factors' components; freedom of each factor (t,)."""

    covariance: Floats
    components: tuple[Floats, ...]
    freedom: tuple[Floats, ...]


def mean_areas(ratings: Ratings, estimator: Estimator, *, level: float = 0.95) -> tuple[MeanArea, ...]:
    """
    The mean AUC of each modality, then the difference of each two (Gallas, Academic Radiology 13, 2006).

    With missing readings a reader counts by the pairs of cases he read. NaN without two readers, two positives and two
    negatives, and where the variance is estimated below 0: seldom when every reader read the same cases in every
    modality, but in 37 of 100 studies of which three readings in ten were missing at random, as these moments move
    with the level of the areas. Obuchowski and Rockette's analysis with DeLong's covariance does not.
    """
    success, made = kernels(ratings)
    t, r = ratings.score.shape[:2]
    per_modality = (kernel.reshape(t, r, -1).sum(axis=(1, 2)) for kernel in (success, made))
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.divide(*per_modality)
        found = _moments(_sums(products(success), t, r), _sums(products(made), t, r), estimator)
    names = ratings.modalities
    means = [_mean_area(names[m], None, area[m], [m], found, level) for m in range(t)]
    differences = [
        _mean_area(names[a], names[b], area[a] - area[b], [a, b], found, level) for a, b in combinations(range(t), 2)
    ]
    return (*means, *differences)


def _sums(product: Floats, t: int, r: int) -> Floats:
    """(8, t, t): over kernels of the same reader, then over those of any two."""
    by_reader = product.reshape(4, t, r, t, r)
    return np.concatenate([np.einsum("imrnr->imn", by_reader), by_reader.sum(axis=(2, 4))])


def _moments(success: Floats, made: Floats, estimator: Estimator) -> _Moments:
    apart = np.tensordot(UNSHARE, made, 1)
    coefficient = apart / made[-1]
    plain = success / made
    if estimator is Estimator.U_STATISTIC:
        covariance = plain[-1] - np.tensordot(UNSHARE[-1], success, 1) / apart[-1]
    else:
        covariance = np.where(apart == 0, 0.0, coefficient * plain).sum(axis=0) - plain[-1]
    return _Moments(
        covariance,
        tuple(plain[only] - plain[-1] for _, only in FACTORS.values()),
        tuple(np.round(1 / np.diagonal(coefficient[list(shared)].sum(axis=0)) - 1) for shared, _ in FACTORS.values()),
    )


def _mean_area(first: str, second: str | None, value: float, of: list[int], found: _Moments, level: float) -> MeanArea:
    sign = np.array([1.0, -1.0][: len(of)])
    variance, *components = (
        float(sign @ each[np.ix_(of, of)] @ sign) for each in (found.covariance, *found.components)
    )
    freedom = [float(each[of].min()) for each in found.freedom]
    if not (variance > 0 and min(freedom) > 0):
        return MeanArea(first, second, float(value), variance, NAN, NAN, NAN, NAN)
    spread = sum(component**2 / n**3 for component, n in zip(components, freedom, strict=True))
    # never less than the scarcest factor has (Gaylor & Hopper, Technometrics 11, 1969), as in iMRMC
    df = max(variance**2 / spread, min(freedom)) if spread > 0 else np.inf
    error, whole = float(np.sqrt(variance)), float(np.floor(df))
    low, high = interval(float(value), error, whole, level)
    statistic = (value - (0.0 if second else 0.5)) / error
    return MeanArea(first, second, float(value), variance, df, low, high, two_sided(float(statistic), whole))
