"""Whether probabilities mean what they say: Brier score, intercept and slope, reliability bins, calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtr

from triage.audit.bootstrap import NAN, Floats
from triage.audit.performance import wilson

ITERATIONS = 100


@dataclass(frozen=True)
class Calibration:
    """
    Two logistic regressions of the outcome on the logit of the probability (Cox 1958; Steyerberg 2019, chapter 15).

    `intercept` is calibration in the large, fitted with the slope held at 1 (0 is right, above 0 too few predicted);
    `slope` is fitted with an intercept of its own (1 is right, below 1 too extreme). Standard errors are the model's:
    with several cases a patient, resample patients instead.
    """

    intercept: float
    intercept_se: float
    slope: float
    slope_se: float


@dataclass(frozen=True)
class Bin:
    """Cases whose probability lies in [low, high): how many, what was predicted, what was seen with its interval."""

    low: float
    high: float
    n: int
    predicted: float
    observed: float
    observed_low: float
    observed_high: float


@dataclass(frozen=True)
class CalibrationError:
    """
    How far predicted and seen shares lie apart, over bins of equal counts, weighted by cases.

    Attributes:
        plain: mean absolute distance (ECE). Above 0 by chance alone, the more so the fewer cases: not to be reported
            without the other two.
        debiased: `plain` less its bias as the bins' binomial noise has it, 2 plain - E|distance + noise|: in closed
            form what Kumar et al. draw at random. Takes away about four tenths of the bias of a perfectly calibrated
            score, nearly all of it where the distances exceed the noise. May lie a little below 0.
        root_mean_square: root of the mean squared distance less its bias, s (1 - s) / (n - 1) for a bin of n cases
            with share s (Kumar, Liang & Ma, NeurIPS 2019, section 4). Unbiased before the root; 0 where what remains
            is negative.
        bins: how many bins held cases.
    """

    plain: float
    debiased: float
    root_mean_square: float
    bins: int


def brier(probability: npt.ArrayLike, outcome: npt.ArrayLike) -> float:
    """Mean squared distance of the probability (cases,) and the outcome (cases,), 0 or 1; NaN without a case."""
    p, y = _pair(probability, outcome)
    return float(((p - y) ** 2).mean()) if len(p) else NAN


def calibration(probability: npt.ArrayLike, outcome: npt.ArrayLike, *, nearest: float = 1e-6) -> Calibration:
    """
    Calibration in the large and slope.

    Without both outcomes everything is NaN. Where some probability parts the outcomes completely, or all
    probabilities are equal, no slope is the likeliest: slope NaN; as where it is too steep for floating point.

    Args:
        probability: (cases,) of the outcome.
        outcome: (cases,) 0 or 1.
        nearest: probabilities nearer than this to 0 or 1 are moved there, as their logit would be infinite.
    """
    p, y = _pair(probability, outcome)
    if not 0 < y.sum() < len(y) or np.isnan(p).any():
        return Calibration(NAN, NAN, NAN, NAN)
    x = logit(np.clip(p, nearest, 1 - nearest))
    return Calibration(*_intercept(x, y), *_slope(x, y))


def reliability(
    probability: npt.ArrayLike, outcome: npt.ArrayLike, bins: int = 10, *, of_equal: Literal["width", "count"] = "width"
) -> tuple[Bin, ...]:
    """
    The points of a reliability diagram, with counts and Wilson intervals.

    Args:
        probability: (cases,) of the outcome, in [0, 1].
        outcome: (cases,) 0 or 1.
        of_equal: width: bins share [0, 1] evenly, empty ones have NaN shares; count: quantiles of the probabilities
            are the edges, equal probabilities stay together, so ties leave fewer bins; none without a case.
    """
    p, y = _pair(probability, outcome)
    edges = np.linspace(0, 1, bins + 1) if of_equal == "width" else _quantiles(p, bins)
    counts, predicted, observed = _binned(p, y, edges)
    return tuple(
        Bin(float(low), float(high), int(n), float(mean), float(share), *wilson(round(n * share) if n else 0, int(n)))
        for low, high, n, mean, share in zip(edges[:-1], edges[1:], counts, predicted, observed, strict=True)
    )


def calibration_error(probability: npt.ArrayLike, outcome: npt.ArrayLike, bins: int = 15) -> CalibrationError:
    """Distance of predicted and seen shares over at most *bins* bins of equal counts; NaN without a case."""
    p, y = _pair(probability, outcome)
    counts, predicted, observed = _binned(p, y, _quantiles(p, bins))
    held = counts > 0
    if not held.any():
        return CalibrationError(NAN, NAN, NAN, 0)
    n, distance, share = counts[held], np.abs(predicted[held] - observed[held]), observed[held]
    weight = n / n.sum()
    # a bin of one case says nothing of its noise: none is taken off
    variance = np.where(n > 1, share * (1 - share) / np.maximum(n - 1, 1), 0.0)
    plain = float(weight @ distance)
    debiased = 2 * plain - float(weight @ _mean_absolute(distance, np.sqrt(variance)))
    squared = float(weight @ (distance**2 - variance))
    return CalibrationError(plain, debiased, float(np.sqrt(max(squared, 0.0))), int(held.sum()))


def _pair(probability: npt.ArrayLike, outcome: npt.ArrayLike) -> tuple[Floats, Floats]:
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if p.shape != y.shape:
        raise ValueError(f"{p.shape} probabilities for {y.shape} outcomes")
    return p, y


def _quantiles(p: Floats, bins: int) -> Floats:
    edges: Floats = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1))) if len(p) else np.empty(0)
    return np.repeat(edges, 2) if len(edges) == 1 else edges


def _binned(p: Floats, y: Floats, edges: Floats) -> tuple[Floats, Floats, Floats]:
    """Counts, mean probabilities and shares of each bin [edge, next edge), the last one closed; NaN where empty."""
    bins = max(len(edges) - 1, 0)
    place = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, max(bins - 1, 0))
    if bins == 0:
        return np.empty(0), np.empty(0), np.empty(0)
    counts = np.bincount(place, minlength=bins).astype(np.float64)
    some = np.where(counts > 0, counts, NAN)
    return counts, np.bincount(place, p, bins) / some, np.bincount(place, y, bins) / some


def _mean_absolute(mean: Floats, sd: Floats) -> Floats:
    """Mean of |X| for normal X (the folded normal distribution)."""
    ratio = np.divide(mean, sd, out=np.full_like(mean, np.inf), where=sd > 0)
    found: Floats = sd * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + mean * (1 - 2 * ndtr(-ratio))
    return found


def _intercept(x: Floats, y: Floats) -> tuple[float, float]:
    """What to add to the logits so that as many are expected as were seen, and its standard error."""
    middle = float(logit(y.mean()))
    # at these ends every case is expected less, or more, than the share seen
    low, high = middle - float(x.max()), middle - float(x.min())
    found = float(brentq(lambda b: float((expit(b + x) - y).sum()), low - 1e-6, high + 1e-6, xtol=1e-13))
    p = expit(found + x)
    information = float((p * (1 - p)).sum())
    return found, information**-0.5 if information > 0 else NAN


def _slope(x: Floats, y: Floats) -> tuple[float, float]:
    """
    Slope of a logistic regression and its standard error, by Newton's method.

    A step that would lose likelihood is halved. NaN where there is no likeliest slope, or none in floating point.
    """
    yes, no = x[y == 1], x[y == 0]
    if not (yes.min() < no.max() and no.min() < yes.max()):
        return NAN, NAN
    # in its own spread, so that a narrow range of logits far from 0 leaves both columns apart
    spread = float(x.std())
    columns = np.column_stack([np.ones(len(x)), (x - x.mean()) / spread])
    at, reached = np.zeros(2), _log_likelihood(np.zeros(len(x)), y)
    try:
        for _ in range(ITERATIONS):
            p = expit(columns @ at)
            step = np.linalg.solve(_information(columns, p), columns.T @ (y - p))
            while (likelihood := _log_likelihood(columns @ (at + step), y)) < reached - 1e-9 * abs(reached):
                step /= 2
            at, reached = at + step, likelihood
            if np.abs(step).max() < 1e-12 * max(1.0, float(np.abs(at).max())):
                break
        variance = np.linalg.inv(_information(columns, expit(columns @ at)))[1, 1]
    except np.linalg.LinAlgError:
        return NAN, NAN
    return float(at[1]) / spread, float(np.sqrt(variance)) / spread if variance > 0 else NAN


def _information(columns: Floats, p: Floats) -> Floats:
    return columns.T @ (columns * (p * (1 - p))[:, None])


def _log_likelihood(linear: Floats, y: Floats) -> float:
    return float((y * linear - np.logaddexp(0, linear)).sum())
