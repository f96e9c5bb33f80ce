"""
Evidence that a share has fallen, to be looked at every day: e-processes and e-detectors, all as natural logarithms.

What is asked of the labels: given everything before it, each is a hit with probability p0 at least while the service is
stable. So one exam a patient and day; the caller thins them. Hits may be sums of values in [0, 1], which only lowers
the evidence. A day without labels changes nothing and is no look: clocks count days with labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaln, xlog1py, xlogy

from triage.audit.bootstrap import NAN, Floats
from triage.audit.confidence_sequence import beta_binomial
from triage.audit.performance import clopper_pearson

DROPS = (0.03, 0.05, 0.1, 0.15, 0.2)


@dataclass(frozen=True)
class Delay:
    """
    How long a stated fall goes unseen, by simulation.

    Attributes:
        median: looks from the fall to the alarm; inf where fewer than half were found within `horizon`.
        found: share of runs whose fall was found within `horizon`.
        false: share of runs with an alarm before the fall, which are left out of the other two.
    """

    before: float
    after: float
    median: float
    found: float
    false: float
    horizon: int
    settled: int
    runs: int
    seed: int


@dataclass(frozen=True, eq=False)
class Below:
    """Local figure against an estimated one: upper limits (..., looks), what they must fall below, and whether."""

    high: Floats
    limit: float
    is_below: npt.NDArray[np.bool_]


def cumulative(hits: npt.ArrayLike, n: npt.ArrayLike, p0: float, *, a: float = 0.5, b: float = 0.5) -> Floats:
    """
    The e-process against H0 "p0 or more", mixed over Beta(a, b) cut off at p0, after each look.

    Under H0 it reaches log(1 / alpha) at any time with probability alpha at most (Ville). It weighs all data since the
    start, so it is slow on a fall that comes late: the detectors below are for that.

    Args:
        hits, n: (...) all hits and cases until each look.
    """
    total, count = _counts(hits, n, p0)
    misses = count - total
    at_null = xlogy(total, p0) + xlog1py(misses, -p0)
    prior = betaln(a, b) + np.log(betainc(a, b, p0))
    with np.errstate(divide="ignore"):
        mixed = betaln(a + total, b + misses) + np.log(betainc(a + total, b + misses, p0))
    # the first term of the incomplete beta's series: where that underflows, a floor that costs little
    floor = xlogy(a + total, p0) + xlog1py(b + misses, -p0) - np.log(a + total)
    found: Floats = np.maximum(mixed, floor) - prior - at_null
    return found


def of_day(hits: npt.ArrayLike, n: npt.ArrayLike, p0: npt.ArrayLike, drop: float) -> Floats:
    """
    The e-value of each day on its own: the product over its labels of the likelihood ratio of p0 - drop to p0.

    Where p0 - drop leaves less than a tenth of p0, the ratio is that of a tenth of p0.

    Args:
        hits, n: (..., days) of each day.
        p0: one for all, or (..., 1).
    """
    total, count = _counts(hits, n, p0)
    null = np.asarray(p0, dtype=np.float64)
    lower = np.maximum(null - drop, null / 10)
    found: Floats = total * np.log(lower / null) + (count - total) * np.log((1 - lower) / (1 - null))
    return found


def shiryaev_roberts(
    hits: npt.ArrayLike, n: npt.ArrayLike, p0: npt.ArrayLike, *, drops: tuple[float, ...] = DROPS
) -> Floats:
    """
    The e-detector M_t = (M_{t-1} + 1) e_t, averaged over *drops* (Shin, Ramdas & Rinaldo, NEJSDS 2, 2024).

    Stopped at M >= A, the mean number of looks to a false alarm is A at least, whatever p >= p0 was on each day.

    Args:
        hits, n: (..., days) of each day.
        p0: one for all, or (..., 1).
    Returns:
        (..., days) log M; -inf before the first label.
    """
    count = np.asarray(n, dtype=np.float64)
    found = np.full(np.broadcast_shapes(np.shape(hits), count.shape), -np.inf)
    for drop in drops:
        day = of_day(hits, n, p0, drop)
        now = day.cumsum(axis=-1)
        # M_t is the sum over starts s of e_s ... e_t; a day without labels is no start
        starts = np.where(count > 0, day - now, -np.inf)
        found = np.logaddexp(found, now + np.logaddexp.accumulate(starts, axis=-1) - np.log(len(drops)))
    return found


def recent(hits: npt.ArrayLike, n: npt.ArrayLike, p0: npt.ArrayLike, *, drops: tuple[float, ...] = DROPS) -> Floats:
    """
    The largest evidence since any one day, C_t = max(C_{t-1}, 1) e_t, over the number of *drops* it is picked from.

    On any one day of a stable service, C >= c with probability 1 / c at most, for seen backwards from that day it is a
    supermartingale's maximum; so it is no alarm, but a share of days to be looked at more closely. That needs days to
    be independent of each other, which `shiryaev_roberts` does not.

    Args, returns: as `shiryaev_roberts`.
    """
    count = np.asarray(n, dtype=np.float64)
    found = np.full(np.broadcast_shapes(np.shape(hits), count.shape), -np.inf)
    for drop in drops:
        day = of_day(hits, n, p0, drop)
        now = day.cumsum(axis=-1)
        starts = np.where(count > 0, now - day, np.inf)
        found = np.maximum(found, now - np.minimum.accumulate(starts, axis=-1) - np.log(len(drops)))
    return found


def began(hits: npt.ArrayLike, n: npt.ArrayLike, p0: float, *, drops: tuple[float, ...] = DROPS) -> int:
    """
    The day, as its place in *hits* (days,), since which evidence is largest at the last look: where a fall may start.

    The likeliest of the starts that `recent` compares, without an interval; -1 if no day has a label.
    """
    count = np.asarray(n, dtype=np.float64)
    best, at = -np.inf, -1
    for drop in drops if np.any(count > 0) else ():
        day = of_day(hits, n, p0, drop)
        since = np.where(count > 0, day[::-1].cumsum()[::-1], -np.inf)
        if since.max() > best:
            best, at = float(since.max()), int(since.argmax())
    return at


def averaged(detectors: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """
    One detector out of several, of subgroups say, as dependent as they like: the weighted mean of M, with the same A.

    Args:
        detectors: (groups, days) log M, each watched from the same day on.
        weights: (groups,) chosen beforehand; equal if none. They are made to sum to 1.
    """
    m = np.asarray(detectors, dtype=np.float64)
    w = np.ones(len(m)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != m.shape[:1] or not np.all(w > 0):
        raise ValueError(f"averaged: {w.shape} weights for {m.shape[:1]} groups, all must be above 0")
    found: Floats = np.logaddexp.reduce(m + np.log(w / w.sum())[:, None], axis=0)
    return found


def alarm_probability(looks: float, arl: float) -> float:
    """The most that a false alarm within so many looks can be likely, from E[M_t] <= t (Doob); what a year spends."""
    return min(1.0, looks / arl)


def first(is_reached: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """The first true look of (..., looks); their number where there is none."""
    reached = np.asarray(is_reached, dtype=bool)
    never = reached.shape[-1]
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1) if never else 0, never)


def below_estimate(
    hits: npt.ArrayLike,
    n: npt.ArrayLike,
    estimate: tuple[int, int],
    *,
    alpha: float = 0.05,
    tolerance: float = 0.0,
) -> Below:
    """
    Whether the local share lies below one that is itself estimated, with an error of alpha over all looks together.

    U_local(alpha / 2) < L(alpha / 2) - tolerance (Podkopaev & Ramdas, ICLR 2022): a confidence sequence above, the
    Clopper-Pearson limit below, half of alpha each. Not for a figure that a goal declares.

    Args:
        hits, n: (..., looks) all local hits and cases until each look.
        estimate: hits and cases of the other figure, external validation say; independent of the local ones.
    """
    high = beta_binomial(hits, n, alpha=alpha / 2).high
    limit = clopper_pearson(*estimate, 1 - alpha)[0] - tolerance
    return Below(high, limit, high < limit)


def delay(
    is_alarm: Callable[[Floats, Floats], npt.NDArray[np.bool_]],
    before: float,
    after: float,
    sizes: npt.ArrayLike,
    *,
    horizon: int = 365,
    settled: int = 100,
    runs: int = 400,
    seed: int = 1,
) -> Delay:
    """
    How many looks a rule takes to find a fall from *before* to *after* that comes when it has run for a while.

    Args:
        is_alarm: the rule: hits (runs, days) and cases (runs, days) of each day to (runs, days).
        sizes: (any,) labels of a day, to be drawn from; none above 0 gives NaN.
        settled: days before the fall; runs with an alarm then are counted as false and left out.
    """
    some = np.asarray(sizes, dtype=np.int64)
    some = some[some > 0]
    if not len(some):
        return Delay(before, after, NAN, NAN, NAN, horizon, settled, runs, seed)
    rng = np.random.default_rng(seed)
    n = rng.choice(some, size=(runs, settled + horizon))
    hits = rng.binomial(n, np.where(np.arange(settled + horizon) < settled, before, after))
    at = first(is_alarm(hits.astype(np.float64), n.astype(np.float64))) - settled
    waited = at[at >= 0] + 1.0
    if not len(waited):
        return Delay(before, after, NAN, NAN, 1.0, horizon, settled, runs, seed)
    waited[waited > horizon] = np.inf
    # of an even number the later one: a mean with inf would say never
    median = float(np.sort(waited)[len(waited) // 2])
    found = float(np.isfinite(waited).mean())
    return Delay(before, after, median, found, float((at < 0).mean()), horizon, settled, runs, seed)


def _counts(hits: npt.ArrayLike, n: npt.ArrayLike, p0: npt.ArrayLike) -> tuple[Floats, Floats]:
    total, count = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64))
    if not np.all((total >= 0) & (total <= count)):
        raise ValueError("e-process: hits lie outside 0 ... n")
    null = np.asarray(p0, dtype=np.float64)
    if not np.all((null > 0) & (null < 1)):
        raise ValueError("e-process: p0 lies outside (0, 1)")
    return total, count
