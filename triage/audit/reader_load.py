"""How busy readers are by hour of the day, and whether the load stays what it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit
from scipy.stats import chi2, rankdata, spearmanr

from triage.audit.bootstrap import NAN, Floats

HOURS = 24


@dataclass(frozen=True, eq=False)
class Loads:
    """
    How busy the readers are by hour of the day: waits in a queue mean little if load is not what it is said to be.

    Attributes:
        studies: (24,) that came in a day's hour, mean over days.
        load: (24,) work that came, in shares of what the readers on duty can do (rho); NaN with none on duty.
        low, high: (24,) limits of the load by Student's t over days.
        overall: rho of the whole day.
        p_hours: that all hours have the same load (Friedman's test, days as blocks): small means rho goes by the hour.
        p_trend: that the daily load has no trend (Spearman): small means the readers fall behind, or catch up.
    """

    studies: Floats
    load: Floats
    low: Floats
    high: Floats
    overall: float
    p_hours: float
    p_trend: float
    days: int

    @property
    def overloaded(self) -> tuple[int, ...]:
        """Hours in which more comes than is read, so that a queue grows whatever the order."""
        return tuple(int(h) for h in np.flatnonzero(self.load >= 1))


def load_by_hour(
    read: npt.ArrayLike, hour: npt.ArrayLike, day: npt.ArrayLike, readers: npt.ArrayLike, *, level: float = 0.95
) -> Loads:
    """
    Load of each hour of the day, and whether it is the same in all of them and over the days.

    Args:
        read: (n,) seconds that reading took.
        hour: (n,) 0 ... 23, the site's hour at which the study came.
        day: (n,) the site's day, a number that rises; days on which nothing came are loads of 0.
        readers: readers on duty, one number or (24,).
    """
    length, at, when = (np.asarray(v) for v in (read, hour, day))
    on_duty = np.broadcast_to(np.asarray(readers, dtype=np.float64), (HOURS,))
    if not len(length) == len(at) == len(when) or (len(at) and (at.min() < 0 or at.max() >= HOURS)):
        raise ValueError("one hour of 0 ... 23 and one day for each read")
    if not (length >= 0).all() or (on_duty < 0).any():
        raise ValueError("a read, or a number of readers, below 0")
    first = int(when.min()) if len(when) else 0
    days = int(when.max()) - first + 1 if len(when) else 0
    cell = (when.astype(np.int64) - first) * HOURS + at.astype(np.int64)
    work = np.bincount(cell, weights=length, minlength=days * HOURS).reshape(days, HOURS) / 3600
    count = np.bincount(cell, minlength=days * HOURS).reshape(days, HOURS)
    staffed = on_duty > 0
    load = np.divide(work, on_duty, out=np.full(work.shape, NAN), where=staffed)
    mean = load.mean(axis=0) if days else np.full(HOURS, NAN)
    half = np.full(HOURS, NAN)
    if days > 1:
        half = stdtrit(days - 1, 0.5 + level / 2) * load.std(axis=0, ddof=1) / np.sqrt(days)
    overall = float(work.sum() / (days * on_duty.sum())) if days and staffed.any() else NAN
    studies = count.mean(axis=0) if days else np.full(HOURS, NAN)
    p_hours, p_trend = _friedman(load[:, staffed]), _trend(work.sum(axis=1))
    return Loads(studies, mean, mean - half, mean + half, overall, p_hours, p_trend, days)


def _friedman(load: Floats) -> float:
    """p of Friedman's test over (days, hours) with ties; NaN with fewer than 2 of either, 1 if all are tied."""
    days, hours = load.shape
    if days < 2 or hours < 2:
        return NAN
    ranks = rankdata(load, axis=1)
    spread = float(((ranks - (hours + 1) / 2) ** 2).sum()) / (hours - 1)
    between = float(((ranks.sum(axis=0) - days * (hours + 1) / 2) ** 2).sum())
    return float(chi2.sf(between / spread, hours - 1)) if spread else 1.0


def _trend(daily: Floats) -> float:
    """p of Spearman's correlation of the daily work with time; NaN with fewer than 3 days or no variation."""
    if len(daily) < 3 or np.ptp(daily) == 0:
        return NAN
    return float(spearmanr(np.arange(len(daily)), daily).pvalue)
