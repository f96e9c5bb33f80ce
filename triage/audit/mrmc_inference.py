"""What is tested in a reader study: whether all modalities are equal, the difference of two, the mean of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, fdtrc, ndtr, ndtri, stdtr, stdtrit

from triage.audit.bootstrap import NAN


@dataclass(frozen=True)
class Equality:
    """Test that all modalities are equal: F with df1 and df2, or chi-square with df1 where df2 is inf."""

    statistic: float
    df1: float
    df2: float
    p: float
    denominator: float


@dataclass(frozen=True)
class Gain:
    """Modality *first* less *second*: t with df, normal where that is inf."""

    first: str
    second: str
    value: float
    error: float
    df: float
    low: float
    high: float
    statistic: float
    p: float


@dataclass(frozen=True)
class Mean:
    """A modality's mean over the readers; its limits stay in [0, 1], as every figure here does."""

    modality: str
    value: float
    error: float
    df: float
    low: float
    high: float


def equality(mean_square: float, denominator: float, df1: float, df2: float) -> Equality:
    """F, or with df2 infinite chi-square = df1 times F; NaN without a positive denominator."""
    if not (denominator > 0 and df1 > 0 and df2 > 0):
        return Equality(NAN, df1, df2, NAN, denominator)
    f = mean_square / denominator
    if np.isinf(df2):
        return Equality(df1 * f, df1, df2, float(chdtrc(df1, df1 * f)), denominator)
    return Equality(f, df1, df2, float(fdtrc(df1, df2, f)), denominator)


def gain(first: str, second: str, value: float, variance: float, df: float, level: float) -> Gain:
    """NaN for all but the value, and p too, without a positive variance and df."""
    if not (variance > 0 and df > 0):
        return Gain(first, second, value, NAN, df, NAN, NAN, NAN, NAN)
    error = float(np.sqrt(variance))
    low, high = interval(value, error, df, level)
    statistic = value / error
    return Gain(first, second, value, error, df, low, high, statistic, two_sided(statistic, df))


def mean(modality: str, value: float, variance: float, df: float, level: float) -> Mean:
    """NaN for all but the value without a positive variance and df."""
    if not (variance > 0 and df > 0):
        return Mean(modality, value, NAN, df, NAN, NAN)
    error = float(np.sqrt(variance))
    low, high = interval(value, error, df, level)
    return Mean(modality, value, error, df, max(low, 0.0), min(high, 1.0))


def interval(value: float, error: float, df: float, level: float) -> tuple[float, float]:
    """By t with *df*, by the normal where that is inf."""
    tail = 0.5 + level / 2
    half = error * float(ndtri(tail) if np.isinf(df) else stdtrit(df, tail))
    return value - half, value + half


def two_sided(statistic: float, df: float) -> float:
    """The p-value of t with *df*, of the normal where that is inf."""
    return 2 * float(ndtr(-abs(statistic)) if np.isinf(df) else stdtr(df, -abs(statistic)))


def holm(p: tuple[float, ...]) -> tuple[float, ...]:
    """P-values adjusted for being *p* together (Holm 1979); a NaN stays, and still counts as one of them."""
    order = sorted((i for i, one in enumerate(p) if not np.isnan(one)), key=lambda i: p[i])
    adjusted, largest = [NAN] * len(p), 0.0
    for place, i in enumerate(order):
        largest = max(largest, (len(p) - place) * p[i])
        adjusted[i] = min(1.0, largest)
    return tuple(adjusted)
