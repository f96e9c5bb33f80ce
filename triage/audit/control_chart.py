"""
Classic control charts of a daily figure, CUSUM and EWMA, with the run lengths that their limits mean.

Run lengths by quadrature take days to be independent and standard normal while in control. One-sided or two-sided is
said at each call: FDA's AIM-CU tabulates limits of the one-sided CUSUM and charts both sides, which halves the run
length. A two-sided chart's settled delay is not given: to its sizeable shifts the other side adds next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr

from triage.audit.bootstrap import Floats, Resampled, percentile

Sides = Literal[1, 2]
DENSITY = 1 / np.sqrt(2 * np.pi)
LONGEST = 20


@dataclass(frozen=True, eq=False)
class Ewma:
    """The moving average and its limits, (days,) each, in the figure's unit; a day without cases repeats the last."""

    path: Floats
    low: Floats
    high: Floats


def standardised(mean: npt.ArrayLike, n: npt.ArrayLike, *, centre: float, sd: float) -> Floats:
    """Each day's mean (...) of n cases (...) less *centre*, in standard errors; *sd* is one case's. NaN if n is 0."""
    count = np.asarray(n, dtype=np.float64)
    far = np.asarray(mean, dtype=np.float64) - centre
    return np.where(count > 0, far * np.sqrt(count) / sd, np.nan)


def cusum(z: npt.ArrayLike, k: float) -> Floats:
    """
    S_t = max(0, S_{t-1} - z_t - k), which grows as z falls (Page 1954); for the other side give -z.

    Args:
        z: (..., days) standardised; NaN leaves S as it is.
        k: half of the fall that is looked for, in standard errors.
    """
    return reflected(np.nan_to_num(-np.asarray(z, dtype=np.float64) - k, nan=0.0))


def reflected(steps: Floats) -> Floats:
    """S_t = max(0, S_{t-1} + step_t) of steps (..., t), all at once: the walk less its lowest point so far."""
    walk = steps.cumsum(axis=-1)
    return walk - np.minimum(0, np.minimum.accumulate(walk, axis=-1))


def run_length(k: float, h: float, shift: float = 0.0, *, sides: Sides = 1) -> float:
    """
    Mean days until a CUSUM passes h, started at 0: between false alarms, or to see a *shift* that was always there.

    The integral equation by Nystrom's method (Vance, Journal of Quality Technology 18, 1986), which adds the mass at 0
    to Gauss-Legendre nodes. Two-sided: 1 / ARL is the sum of both sides' (Kemp 1961).

    Args:
        shift: in standard errors, towards the alarm.
    """
    one = float(_run_lengths(k, h, shift)[0])
    return one if sides == 1 else 1 / (1 / one + 1 / float(_run_lengths(k, h, -shift)[0]))


def settled_delay(k: float, h: float, shift: float) -> float:
    """
    Mean days from a shift to the alarm of a one-sided CUSUM that ran long without one before (R spc's xcusum.ad).

    The mean of the run lengths over where S then lies: the transition's left eigenvector.
    """
    values, vectors = np.linalg.eig(_transition(k, h, 0.0).T)
    where = vectors[:, np.argmax(values.real)].real
    return float(where @ _run_lengths(k, h, shift) / where.sum())


def limit(k: float, arl: float, *, sides: Sides = 1) -> float:
    """The h at which the in-control run length is *arl*; ValueError if k alone makes it longer."""
    return _solved(lambda h: run_length(k, h, sides=sides), arl, 1e-6, "CUSUM")


def reference_value(h: float, arl: float, *, sides: Sides = 1) -> float:
    """The k at which a CUSUM with limit h has the in-control run length *arl*."""
    return _solved(lambda k: run_length(k, h, sides=sides), arl, 0.0, "CUSUM")


def run_length_as_estimated(
    z: npt.ArrayLike, k: float, h: float, *, sides: Sides = 1, draws: int = 200, seed: int = 1
) -> Resampled:
    """
    The run length that the chart truly has, with its uncertainty: centre and spread came from these days only.

    Each draw of days is taken for the truth, against which the chart's centre and spread are off.

    Args:
        z: (days,) baseline, in units of the chart's sd, from its centre; NaN days are left out.
    """
    known = np.asarray(z, dtype=np.float64)
    known = known[np.isfinite(known)]

    def figure(rows: npt.NDArray[np.intp]) -> float:
        centre, sd = float(known[rows].mean()), float(known[rows].std(ddof=1)) if len(rows) > 1 else 0.0
        return run_length(k / sd, h / sd, -centre / sd, sides=sides) if sd > 0 else float("nan")

    return percentile(figure, np.arange(len(known)), draws=draws, seed=seed)


def ewma(mean: npt.ArrayLike, n: npt.ArrayLike, *, centre: float, sd: float, weight: float = 0.1, width: float) -> Ewma:
    """
    z_t = l x_t + (1 - l) z_{t-1}, limits *width* of its standard errors from the centre (Lucas & Saccucci 1990).

    The variance is carried along, l^2 sd^2 / n_t + (1 - l)^2 of the day before, so days may differ in size; of equal
    days it is sd^2 / n l / (2 - l) (1 - (1 - l)^(2 t)). `ewma_width` is for limits that have settled: in the first
    1 / l days these are narrower, and false alarms a little more frequent.

    Args:
        mean, n: (days,) of each day; sd is one case's.
    """
    x, count = np.asarray(mean, dtype=np.float64), np.asarray(n, dtype=np.float64)
    path, variance = np.empty(len(x)), np.empty(len(x))
    at, spread = centre, 0.0
    for day, (value, size) in enumerate(zip(x, count, strict=True)):
        if size > 0:
            at = weight * value + (1 - weight) * at
            spread = weight**2 * sd**2 / size + (1 - weight) ** 2 * spread
        path[day], variance[day] = at, spread
    half = width * np.sqrt(variance)
    return Ewma(path, centre - half, centre + half)


def ewma_run_length(weight: float, width: float, shift: float = 0.0) -> float:
    """Mean days until a two-sided EWMA leaves settled limits; days are standard normal (Crowder, Technometrics 29)."""
    edge = width * np.sqrt(weight / (2 - weight))
    node, share = _nodes(-edge, edge, ceil(2 * width / np.sqrt(weight)))
    start = np.concatenate([[0.0], node])
    move = (node - (1 - weight) * start[:, None]) / weight - shift
    transition = np.exp(-(move**2) / 2) * DENSITY / weight * share
    lengths = np.linalg.solve(np.eye(len(node)) - transition[1:], np.ones(len(node)))
    return float(1 + transition[0] @ lengths)


def ewma_width(weight: float, arl: float) -> float:
    """The width, in standard errors, at which the two-sided in-control run length is *arl*."""
    return _solved(lambda width: ewma_run_length(weight, width), arl, 1e-6, "EWMA")


def _nodes(low: float, high: float, more: int) -> tuple[Floats, Floats]:
    node, share = np.polynomial.legendre.leggauss(30 + 2 * more)
    return low + (node + 1) * (high - low) / 2, share * (high - low) / 2


def _transition(k: float, h: float, shift: float) -> Floats:
    """From 0 and each node to 0 and about each node, without an alarm between."""
    node, share = _nodes(0, h, ceil(h))
    start = np.concatenate([[0.0], node])
    move = node + k - start[:, None] - shift
    return np.column_stack([ndtr(k - start - shift), np.exp(-(move**2) / 2) * DENSITY * share])


def _run_lengths(k: float, h: float, shift: float) -> Floats:
    stays = _transition(k, h, shift)
    return np.asarray(np.linalg.solve(np.eye(len(stays)) - stays, np.ones(len(stays))), dtype=np.float64)


def _solved(length: Callable[[float], float], arl: float, lowest: float, chart: str) -> float:
    """Where the run length, which grows with its argument, is *arl*."""
    if length(lowest) > arl:
        raise ValueError(f"{chart}: no limit makes a run length as short as {arl}")
    high = 1.0
    while length(high) < arl:
        high *= 1.5
        if high > LONGEST:
            raise ValueError(f"{chart}: a run length of {arl} is too long to be computed")
    return float(brentq(lambda at: length(at) - arl, lowest, high, xtol=1e-13))
