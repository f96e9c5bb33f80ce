"""How long labels take to come, and what early labels weigh so that those still missing do not bias the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from triage.audit.bootstrap import Floats

FLOOR = 0.02
LEAST_ARRIVALS = 20


@dataclass(frozen=True, eq=False)
class Curve:
    """
    Which share of a stratum's studies has its label by which age (Kaplan-Meier), from the ages at which labels came.

    Attributes:
        age: (k,) days from study to label, rising.
        share: (k,) share labelled at that age, before it the one before, 0 at first.
        low, high: (k,) limits at each age by the complementary log-log; NaN where no study is left waiting.
        pooled: the stratum had too few labels, the curve is that of all strata.
    """

    stratum: int
    age: Floats
    share: Floats
    low: Floats
    high: Floats
    studies: int
    arrived: int
    pooled: bool = False

    def by(self, age: npt.ArrayLike) -> Floats:
        """Share labelled by *age* (...), days."""
        steps = np.concatenate([[0.0], self.share])
        found: Floats = steps[np.searchsorted(self.age, age, side="right")]
        return found


@dataclass(frozen=True, eq=False)
class Weights:
    """
    What each labelled study stands for.

    Attributes:
        weight: (n,) 1 / share labelled at the study's age; 0 of a study that has no label or is too young.
        effective: as many equally weighted studies would say as much: (sum w)² / sum w² (Kish); 0 of none.
        old_enough: how many studies the weighted ones stand for.
        floored: labelled studies whose share lay below the floor and was raised to it: they stand for too few.
    """

    weight: Floats
    effective: float
    old_enough: int
    floored: int


def crossed(*columns: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """One number (n,) for each combination of the columns' values that occurs, such as AI class x priority x site."""
    code = np.zeros(len(np.asarray(columns[0])), dtype=np.int64)
    for column in columns:
        values, place = np.unique(np.asarray(column), return_inverse=True)
        _, code = np.unique(code * len(values) + place, return_inverse=True)
    return code.astype(np.int64)


def curves(
    delay: npt.ArrayLike,
    age: npt.ArrayLike,
    stratum: npt.ArrayLike,
    *,
    least_arrivals: int = LEAST_ARRIVALS,
    level: float = 0.95,
) -> tuple[Curve, ...]:
    """
    The label-delay curve of each stratum, in the order of their numbers.

    Args:
        delay: (n,) days from study to its first label; NaN while it has none.
        age: (n,) days from study to the as-of instant: without a label, it has waited as long.
        stratum: (n,) 0 ... s - 1. The AI's class belongs in it: what it flags is read, and labelled, first.
        least_arrivals: a stratum with fewer labels gets the curve of all.
    """
    waited, arrived, number = _waited(delay, age, stratum)
    everyone = _kaplan_meier(-1, waited, arrived, level)
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(number.max(initial=-1) + 2))
    found = []
    for s, (start, end) in enumerate(pairwise(bounds.tolist())):
        rows = order[start:end]
        labels = int(arrived[rows].sum())
        if labels < least_arrivals:
            found.append(replace(everyone, stratum=s, studies=len(rows), arrived=labels, pooled=True))
        else:
            found.append(_kaplan_meier(s, waited[rows], arrived[rows], level))
    return tuple(found)


def inverse_probability(
    delay: npt.ArrayLike,
    age: npt.ArrayLike,
    stratum: npt.ArrayLike,
    by_stratum: Sequence[Curve],
    *,
    least_age: float,
    floor: float = FLOOR,
) -> Weights:
    """
    Weigh each label by how few of its stratum had theirs at its age, for an early view of studies of *least_age* on.

    Right if, within a stratum, a label's delay does not depend on the truth; then the weighted labels of each age stand
    for all studies of that age. The floor keeps one early label from standing for a whole ward.

    Args:
        delay, age, stratum: (n,) as of `curves`.
        by_stratum: its curves.
        least_age: days; younger studies count for nothing, labelled or not.
    """
    _, arrived, number = _waited(delay, age, stratum)
    old = np.asarray(age, dtype=np.float64)
    share = np.zeros(len(old))
    for s, curve in enumerate(by_stratum):
        rows = number == s
        share[rows] = curve.by(old[rows])
    counted = arrived & (old >= least_age)
    weight = np.where(counted, 1 / np.maximum(share, floor), 0.0)
    floored = int((counted & (share < floor)).sum())
    return Weights(weight, effective_size(weight), int((old >= least_age).sum()), floored)


def effective_size(weight: Floats) -> float:
    """How many equally weighted cases would say as much as *weight* (n,) (Kish 1965); 0 of nothing."""
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def mature_age(by_stratum: Sequence[Curve], share: float = 0.99, *, within: float | None = None) -> float:
    """
    The age at which *share* of the labels have come in every stratum, the slowest one's; inf if one never got there.

    One age for all: were each stratum taken from its own age on, the youngest of the cohort would be those read first.

    Args:
        within: days after which no label is waited for any more (studies never verified); the share is then of those
            that come by it. Without it, of all studies.
    """
    ages = [0.0]
    for curve in by_stratum:
        goal = share * (1.0 if within is None else float(curve.by(within)))
        reached = np.flatnonzero(curve.share >= goal - 1e-12)
        ages.append(float(curve.age[reached[0]]) if len(reached) and goal > 0 else float("inf"))
    return max(ages)


def is_mature(age: npt.ArrayLike, by_stratum: Sequence[Curve], share: float = 0.99) -> npt.NDArray[np.bool_]:
    """Which studies (n,) are of the mature cohort, the primary analysis: as old as `mature_age`, labelled or not."""
    old: npt.NDArray[np.bool_] = np.asarray(age, dtype=np.float64) >= mature_age(by_stratum, share)
    return old


def thinned(curve: Curve, most: int = 200) -> Curve:
    """The curve with at most *most* of its points, even in their order and the last one kept: for a figure."""
    if len(curve.age) <= most:
        return curve
    kept = np.unique(np.linspace(0, len(curve.age) - 1, most).round().astype(np.intp))
    return replace(curve, age=curve.age[kept], share=curve.share[kept], low=curve.low[kept], high=curve.high[kept])


def _waited(
    delay: npt.ArrayLike, age: npt.ArrayLike, stratum: npt.ArrayLike
) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Days waited (n,), whether for a label that came, and the stratum."""
    days, old = np.asarray(delay, dtype=np.float64), np.asarray(age, dtype=np.float64)
    number = np.asarray(stratum, dtype=np.int64)
    if not days.shape == old.shape == number.shape:
        raise ValueError(f"{days.shape} delays, {old.shape} ages, {number.shape} strata")
    if not (old >= 0).all() or (days < 0).any():
        raise ValueError("a study younger than nothing, or labelled before it was made")
    if (number < 0).any():
        raise ValueError("a stratum below 0")
    if (days > old).any():
        raise ValueError("a label that came after the as-of instant")
    arrived = ~np.isnan(days)
    return np.where(arrived, days, old), arrived, number


def _kaplan_meier(stratum: int, waited: Floats, arrived: npt.NDArray[np.bool_], level: float) -> Curve:
    """A label at the age at which another study's waiting ends still finds that study waiting."""
    age, labels = np.unique(waited[arrived], return_counts=True)
    waiting = len(waited) - np.searchsorted(np.sort(waited), age, side="left")
    unlabelled: Floats = np.cumprod(1 - labels / waiting, dtype=np.float64)
    left = waiting > labels
    # Greenwood's sum; its term is infinite where the last one waiting got a label
    terms = np.divide(labels, waiting * (waiting - labels), out=np.full(len(age), np.nan), where=left)
    logs = np.log(unlabelled, out=np.full(len(age), np.nan), where=left)
    half = ndtri(0.5 + level / 2) * np.sqrt(np.cumsum(terms)) / np.abs(logs)
    low, high = 1 - unlabelled ** np.exp(-half), 1 - unlabelled ** np.exp(half)
    return Curve(stratum, age, 1 - unlabelled, low, high, len(waited), int(arrived.sum()))
