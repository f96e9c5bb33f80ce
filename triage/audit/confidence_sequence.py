"""Intervals that hold at every look together, however often one looks: of shares, bounded values, AUC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, expit

from triage.audit.bootstrap import Floats
from triage.audit.performance import components, covariance

GRID = 1000
NEWTON = 100


@dataclass(frozen=True, eq=False)
class Limits:
    """Lower and upper limits (..., looks); the truth is outside at any look with probability alpha at most."""

    low: Floats
    high: Floats

    def narrowed(self) -> Limits:
        """The intersection of all looks so far, which holds as well; low above high says that the truth has moved."""
        return Limits(np.maximum.accumulate(self.low, axis=-1), np.minimum.accumulate(self.high, axis=-1))


def empirical_bernstein(values: npt.ArrayLike, *, alpha: float = 0.05, largest_bet: float = 0.5) -> Limits:
    """
    Of the mean of values in [0, 1] (Waudby-Smith & Ramdas, JRSS B 86, 2024, theorem 2), both sides at alpha / 2.

    Args:
        values: (..., n) in the order they came; each with the same mean given those before it.
        largest_bet: c, below 1.
    Returns:
        (..., n), after each value.
    """
    x = _bounded(values)
    return Limits(_bernstein_low(x, alpha, largest_bet), 1 - _bernstein_low(1 - x, alpha, largest_bet))


def betting(values: npt.ArrayLike, *, alpha: float = 0.05, largest_bet: float = 0.5) -> Limits:
    """
    As `empirical_bernstein` and narrower: the means no hedged bettor got rich against (same paper, theorem 3).

    A bettor's capital falls, or its rival's rises, as the mean bet against grows, so the means that are left form an
    interval. It is looked for on a grid of thousandths and rounded outwards; the time taken is 1000 n.

    Args:
        values: (n,) in [0, 1].
        largest_bet: at most this part of the capital is staked, below 1.
    """
    x = _bounded(values)
    bets = np.sqrt(2 * np.log(2 / alpha) / _weighted_time(_variance_before(x)))
    dear = np.zeros((2, len(x)), dtype=np.intp)
    for mean in np.arange(1, GRID) / GRID:  # no bet is lost at 0 and 1: they stay until their neighbours have gone
        up = np.log1p(np.minimum(bets, largest_bet / mean) * (x - mean)).cumsum()
        down = np.log1p(-np.minimum(bets, largest_bet / (1 - mean)) * (x - mean)).cumsum()
        dear += np.stack([up, down]) > np.log(2 / alpha)
    return Limits(dear[0] / GRID, 1 - dear[1] / GRID)


def beta_binomial(
    hits: npt.ArrayLike, n: npt.ArrayLike, *, alpha: float = 0.05, a: float = 0.5, b: float = 0.5
) -> Limits:
    """
    Of a share: the p with B(a + hits, b + misses) / B(a, b) < p^hits (1 - p)^misses / alpha, mixed over Beta(a, b).

    Robbins' mixture (Annals of Mathematical Statistics 41, 1970) in closed form. Holds as well for sums of values in
    [0, 1], whose likelihood ratio is at most the one of 0 and 1 with their mean.

    Args:
        hits: (...) all hits until each look.
        n: (...) all cases until then; (0, 1) of none.
    """
    total, count = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64))
    if not np.all((total >= 0) & (total <= count)):
        raise ValueError("confidence sequence: hits lie outside 0 ... n")
    level = betaln(a + total, b + count - total) - betaln(a, b) + np.log(alpha)
    return Limits(_share_low(total, count, level), 1 - _share_low(count - total, count, level))


def asymptotic(
    values: npt.ArrayLike, variances: npt.ArrayLike, *, alpha: float = 0.05, narrowest_at: float = 50
) -> Limits:
    """
    Of the mean of estimates with their own variances, such as AUCs of disjoint batches.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, Annals of Statistics 52, 2024, theorem 2.2 and equation (24); the
    variances are averaged. It holds as the first look grows late, not exactly: give no verdict on the first few.

    Args:
        values: (t,) estimates of disjoint cases, in order; never of windows that overlap.
        variances: (t,) of each.
        narrowest_at: after so many estimates the interval is as narrow as can be; to be chosen beforehand.
    """
    x, spread = np.asarray(values, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if x.shape != spread.shape:
        raise ValueError(f"confidence sequence: {spread.shape} variances for {x.shape} estimates")
    t = np.arange(1, len(x) + 1)
    unlikely = -2 * np.log(alpha)
    rho2 = (unlikely + np.log(unlikely) + 1) / narrowest_at
    grown = t * rho2 + 1
    half = np.sqrt(spread.cumsum() / t) * np.sqrt(2 * grown / (t**2 * rho2) * np.log(np.sqrt(grown) / alpha))
    middle = x.cumsum() / t
    return Limits(np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1))


def batch_areas(
    score: npt.ArrayLike, is_positive: npt.ArrayLike, *, each: int = 10, patients: npt.ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """
    AUCs of disjoint batches with their variances (DeLong, Obuchowski), for `asymptotic`.

    A batch closes with the case that gives it *each* cases of the scarcer class. That depends on the classes alone, so
    no AUC is biased by it. Cases after the last closed batch wait. Variances of 0, where a batch is ranked without a
    fault, stay: in the average they are as right as the large ones.

    Args:
        score, is_positive, patients: (n,) in the order labels came.
        each: at least 2; with patients at least that many of different ones, or the variance is NaN.
    """
    x, positive = np.asarray(score, dtype=np.float64), np.asarray(is_positive, dtype=bool)
    whose = None if patients is None else np.asarray(patients)
    values, variances = [], []
    for rows in _batches(positive, each):
        found = components(x[rows], positive[rows])
        values.append(float(found.area[0]))
        variances.append(float(covariance(found, None if whose is None else whose[rows])[0, 0]))
    return np.array(values, dtype=np.float64), np.array(variances, dtype=np.float64)


def pairs(
    score: npt.ArrayLike, is_positive: npt.ArrayLike, *, negatives_each: int = 1
) -> tuple[Floats, npt.NDArray[np.intp]]:
    """
    Each positive with negatives of its own, none used twice: independent values in [0, 1] whose mean is the AUC.

    They make the AUC a stream for `betting` and `empirical_bernstein`, exact at any size.

    Args:
        score, is_positive: (n,) in the order labels came; the k-th positive meets the k-th lot of negatives.
        negatives_each: negatives a positive, more where they abound.
    Returns:
        (pairs,) the share of its negatives below each positive, ties counting half; (pairs,) the row that completed it.
    """
    if negatives_each < 1:
        raise ValueError(f"pairs: {negatives_each} negatives for each positive")
    x, positive = np.asarray(score, dtype=np.float64), np.asarray(is_positive, dtype=bool)
    above, below = np.flatnonzero(positive), np.flatnonzero(~positive)
    count = min(len(above), len(below) // negatives_each)
    lots = below[: count * negatives_each].reshape(count, negatives_each)
    mine, theirs = x[above[:count]][:, None], x[lots]
    in_order: Floats = ((mine > theirs) + (mine == theirs) / 2).mean(axis=1)
    return in_order, np.maximum(above[:count], lots[:, -1])


def _bounded(values: npt.ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if not np.all((x >= 0) & (x <= 1)):
        raise ValueError("confidence sequence: a value lies outside [0, 1]")
    return x


def _variance_before(x: Floats) -> Floats:
    """The variance guessed before each value, a quarter before the first."""
    t = np.arange(1, x.shape[-1] + 1)
    mean = (0.5 + x.cumsum(axis=-1)) / (t + 1)
    after = (0.25 + ((x - mean) ** 2).cumsum(axis=-1)) / (t + 1)
    return np.concatenate([np.full_like(x[..., :1], 0.25), after[..., :-1]], axis=-1)


def _weighted_time(variance: Floats) -> Floats:
    t = np.arange(1, variance.shape[-1] + 1)
    weighted: Floats = t * np.log(1 + t) * variance
    return weighted


def _bernstein_low(x: Floats, alpha: float, largest_bet: float) -> Floats:
    bet = np.minimum(largest_bet, np.sqrt(2 * np.log(2 / alpha) / _weighted_time(_variance_before(x))))
    mean_before = np.zeros_like(x)
    mean_before[..., 1:] = (x.cumsum(axis=-1) / np.arange(1, x.shape[-1] + 1))[..., :-1]
    cost = (x - mean_before) ** 2 * (-np.log1p(-bet) - bet)
    staked = bet.cumsum(axis=-1)
    middle, half = (bet * x).cumsum(axis=-1) / staked, (np.log(2 / alpha) + cost.cumsum(axis=-1)) / staked
    low: Floats = np.clip(middle - half, 0, 1)
    return low


def _share_low(hits: Floats, n: Floats, level: Floats) -> Floats:
    """
    The p below hits / n with hits ln p + (n - hits) ln(1 - p) = *level*; 0 without hits.

    In u = logit p the left side is concave, and at u = level / hits it is too low, so Newton's steps climb towards the
    root from there and never pass it.
    """
    some = hits > 0
    s, total, wanted = hits[some], n[some], level[some]
    u = wanted / s
    climbs = np.ones(len(u), dtype=bool)
    for _ in range(NEWTON):
        step = (wanted - s * u + total * np.logaddexp(0, u)) / (s - total * expit(u))
        # each stops on its own, so that its last digit does not depend on its neighbours
        climbs &= step > 1e-13 * np.maximum(1, np.abs(u))
        if not climbs.any():
            break
        u = np.where(climbs, u + step, u)
    found = np.zeros_like(hits)
    found[some] = expit(u)
    return found


def _batches(positive: npt.NDArray[np.bool_], each: int) -> list[slice]:
    if each < 2:
        raise ValueError(f"batches: {each} of the scarcer class, at least 2 are needed")
    above, below = positive.cumsum(), (~positive).cumsum()
    found: list[slice] = []
    start = had_above = had_below = 0
    while True:
        reached = np.searchsorted(above, had_above + each), np.searchsorted(below, had_below + each)
        end = int(max(reached)) + 1
        if end > len(positive):
            return found
        found.append(slice(start, end))
        start, had_above, had_below = end, int(above[end - 1]), int(below[end - 1])
