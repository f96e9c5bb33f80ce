"""What reordering did to waits under a randomised rollout: days with against days without, tested as drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats
from triage.audit.waits import Group, Waits, restricted, span, summary

BINS = 500
"""Steps of equal share on which medians of redrawn arms are found; the median itself is exact."""
DOUBLINGS, HALVINGS = 20, 12
"""Steps outwards, after which a limit is given up as infinite, and steps back to the limit."""


@dataclass(frozen=True)
class Effect:
    """A difference in seconds, with reordering minus without: below 0 where it shortens waits."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, eq=False)
class Observed:
    """
    One group's waits in the two arms.

    Attributes:
        units_with, units_without: days (or sessions) of each arm on which a study of the group came.
        mean: NaN while a study is unread.
        restricted_mean: unread studies included, by pseudo-observations of both arms' curve (`waits.restricted`).
        median: by Kaplan-Meier; its interval is a bootstrap of days, the p-value a permutation like the others'.
    """

    kind: str
    name: str
    reordered: Waits
    unchanged: Waits
    units_with: int
    units_without: int
    mean: Effect
    median: Effect
    restricted_mean: Effect


@dataclass(frozen=True, eq=False)
class _Trial:
    """Units 0 ... u - 1: whether each was reordered (u,), and (draws, u) of what might have been drawn instead."""

    number: npt.NDArray[np.int64]
    is_reordered: npt.NDArray[np.bool_]
    redrawn: npt.NDArray[np.bool_]


def observed(
    arrived: npt.ArrayLike,
    opened: npt.ArrayLike,
    unit: npt.ArrayLike,
    is_reordered: npt.ArrayLike,
    *,
    as_of: float,
    groups: Sequence[Group],
    horizon: float,
    block: npt.ArrayLike | None = None,
    limit: npt.ArrayLike | None = None,
    draws: int = 2000,
    seed: int = 1,
    level: float = 0.95,
) -> tuple[Observed, ...]:
    """
    The effect of reordering on each group's waits, by the randomisation itself.

    The arms are drawn anew by whole units, each as often reordered as it was (within blocks, if it was drawn so), and
    the difference over its standard error is held against those of the redrawn arms: exact if reordering changes no
    wait, and right on average for many units if it changes waits by different amounts (Wu & Ding, JASA 116, 2021). The
    interval holds the shifts of all reordered waits that this test does not refute. A study belongs to the unit in
    which it came, also if it is opened in the next one; the queue that a unit leaves to the next blurs the difference,
    so units should end when the queue is short.

    Args:
        arrived, opened: (n,) seconds; NaN while unread.
        unit: (n,) the day or session in which the study came.
        is_reordered: (n,) whether that unit was drawn to be reordered; the AI being down changes nothing.
        as_of: the instant the log ends.
        groups: as of `waits.groups`.
        horizon: seconds at which restricted means stop counting.
        block: (n,) within what the units were drawn, such as weeks; one for each unit. None, all together.
        limit: seconds, one for all or (n,): the longest wait aimed at.
    Returns:
        One comparison a group; NaN effects where an arm has fewer than two units of it.
    Raises:
        ValueError: a unit is in both arms, or in two blocks.
    """
    spent = span(arrived, opened, as_of=as_of)
    if not spent.counts.all():
        raise ValueError("a study without an instant of arrival, or opened before it")
    trial = _trial(unit, is_reordered, block, draws, seed)
    if len(trial.number) != len(spent.wait):
        raise ValueError(f"{len(trial.number)} units for {len(spent.wait)} studies")
    limits = None if limit is None else np.broadcast_to(np.asarray(limit), spent.wait.shape)
    found = []
    for group in groups:
        rows, number = group.rows, trial.number[group.rows]
        wait, followed = spent.wait[rows], spent.followed[rows]
        is_with = trial.is_reordered[number]
        bound = None if limits is None else limits[rows]
        reordered, unchanged = (
            summary(wait[of_arm], followed[of_arm], horizon=horizon, limit=None if bound is None else bound[of_arm])
            for of_arm in (is_with, ~is_with)
        )
        present = np.unique(number)
        with_it = int(trial.is_reordered[present].sum())
        whole, unread = restricted(wait, followed, horizon), np.isnan(wait)
        of_medians = reordered.median - unchanged.median
        found.append(
            Observed(
                group.kind,
                group.name,
                reordered,
                unchanged,
                with_it,
                len(present) - with_it,
                mean=_of_means(wait, number, trial, level),
                median=_of_medians(of_medians, np.where(unread, followed, wait), unread, number, trial, seed, level),
                restricted_mean=_of_means(whole, number, trial, level),
            )
        )
    return tuple(found)


def _trial(
    unit: npt.ArrayLike, is_reordered: npt.ArrayLike, block: npt.ArrayLike | None, draws: int, seed: int
) -> _Trial:
    units, first, number = np.unique(np.asarray(unit), return_index=True, return_inverse=True)
    arm = np.asarray(is_reordered, dtype=bool)
    blocks = np.zeros(len(number)) if block is None else np.asarray(block)
    if not arm.shape == blocks.shape == number.shape:
        raise ValueError(f"{len(number)} units, {arm.shape} arms, {blocks.shape} blocks")
    if (arm[first][number] != arm).any() or (blocks[first][number] != blocks).any():
        raise ValueError("a unit in both arms, or in two blocks")
    rng = np.random.default_rng(seed)
    redrawn = np.empty((draws, len(units)), dtype=bool)
    for each in np.unique(blocks[first]):
        within = np.flatnonzero(blocks[first] == each)
        redrawn[:, within] = rng.permuted(np.tile(arm[first][within], (draws, 1)), axis=1)
    return _Trial(number.astype(np.int64), arm[first], redrawn)


def _of_means(value: Floats, number: npt.NDArray[np.int64], trial: _Trial, level: float) -> Effect:
    """The difference of the arms' means, p by redrawn arms, and the shifts that they do not refute."""
    units = len(trial.is_reordered)
    count = np.bincount(number, minlength=units).astype(np.float64)
    arms = np.concatenate([trial.is_reordered[None], trial.redrawn]).astype(np.float64)
    if _too_few(count, trial) or np.isnan(value).any():
        return Effect(NAN, NAN, NAN, NAN)
    total = np.bincount(number, weights=value - value.mean(), minlength=units).astype(np.float64)
    reordered = count * trial.is_reordered

    def p(shift: float) -> float:
        difference, error = _differences(arms, total - shift * reordered, count)
        return _share_as_far(_over(difference, error))

    difference, error = (float(v[0]) for v in _differences(arms[:1], total, count))
    low, high = (_limit(p, difference, sign * error, 1 - level) for sign in (-1, 1))
    return Effect(difference, low, high, p(0.0))


def _differences(arms: Floats, total: Floats, count: Floats) -> tuple[Floats, Floats]:
    """
    Difference of two arms' means (d,) and its standard error, by how much units differ (a ratio's, linearised).

    Args:
        arms: (d, u) 1 for units of the first arm, 0 of the second.
        total, count: (u,) sum and number of the values of each unit.
    """
    columns = np.column_stack([total, count, total**2, total * count, count**2, count > 0])
    of_first = arms @ columns
    means, variances = [], []
    for sums in (of_first, columns.sum(axis=0) - of_first):
        s, n, ss, sn, nn, units = sums.T
        mean = np.divide(s, n, out=np.full(len(s), NAN), where=units > 1.5)
        spread = np.maximum(ss - 2 * mean * sn + mean**2 * nn, 0)
        means.append(mean)
        variances.append(spread / np.maximum(n, 1) ** 2 * units / np.maximum(units - 1, 1))
    return means[0] - means[1], np.sqrt(variances[0] + variances[1])


def _over(difference: Floats, error: Floats) -> Floats:
    """The studentised difference; infinite where there is a difference and no error, 0 where there is neither."""
    certain: Floats = np.where(difference == 0, 0.0, np.inf)
    return np.divide(difference, error, out=certain, where=(error > 0) | np.isnan(error))


def _share_as_far(statistic: Floats) -> float:
    """p of the first among all (d,), the first included; one that is not defined counts as further out."""
    distance = np.nan_to_num(np.abs(statistic), nan=np.inf)
    return float((distance >= distance[0] * (1 - 1e-9)).mean())


def _limit(p: Callable[[float], float], middle: float, step: float, alpha: float) -> float:
    """The last shift on one side of *middle* that is not refuted."""
    if step == 0:
        return middle
    inside, outside = middle, middle + step
    for _ in range(DOUBLINGS):
        if p(outside) <= alpha:
            break
        inside, outside = outside, middle + 2 * (outside - middle)
    else:
        return float(np.copysign(np.inf, step))
    for _ in range(HALVINGS):
        between = (inside + outside) / 2
        inside, outside = (between, outside) if p(between) > alpha else (inside, between)
    return inside


def _of_medians(
    value: float,
    known: Floats,
    unread: npt.NDArray[np.bool_],
    number: npt.NDArray[np.int64],
    trial: _Trial,
    seed: int,
    level: float,
) -> Effect:
    """The difference of the arms' medians, p by redrawn arms, limits by drawing each arm's units with replacement."""
    units = len(trial.is_reordered)
    if _too_few(np.bincount(number, minlength=units), trial) or np.isnan(value):
        return Effect(NAN, NAN, NAN, NAN)
    edges = np.unique(np.quantile(known, np.arange(1, BINS + 1) / BINS, method="inverted_cdf"))
    cell = number * len(edges) + np.searchsorted(edges, known)
    ended, opened = (
        np.bincount(rows, minlength=units * len(edges)).reshape(units, -1).astype(np.float64)
        for rows in (cell, cell[~unread])
    )
    arms = np.concatenate([trial.is_reordered[None], trial.redrawn]).astype(np.float64)
    redrawn = _medians(arms, ended, opened, edges) - _medians(1 - arms, ended, opened, edges)
    rng = np.random.default_rng(seed)
    drawn = [_medians(_resampled(arm, len(trial.redrawn), rng), ended, opened, edges) for arm in (arms[0], 1 - arms[0])]
    between = drawn[0] - drawn[1]
    between = between[~np.isnan(between)]
    tail = 0.5 - level / 2
    low, high = np.quantile(between, (tail, 1 - tail)) if len(between) else (NAN, NAN)
    return Effect(value, float(low), float(high), _share_as_far(redrawn))


def _medians(weights: Floats, ended: Floats, opened: Floats, edges: Floats) -> Floats:
    """
    Kaplan-Meier median (d,) of units weighed anew, to the edge above; NaN where half are not known to be opened.

    Args:
        weights: (d, u).
        ended, opened: (u, b) studies of each unit whose wait ended between two edges, and those of them opened.
        edges: (b,) seconds.
    """
    leaving = weights @ ended
    waiting = np.cumsum(leaving[:, ::-1], axis=1)[:, ::-1]
    hazard = np.divide(weights @ opened, waiting, out=np.zeros(waiting.shape), where=waiting > 0)
    is_past = np.cumprod(1 - hazard, axis=1) <= 0.5 + 1e-12
    return np.where(is_past.any(axis=1), edges[is_past.argmax(axis=1)], NAN)


def _resampled(arm: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """How often each unit of *arm* (u,) is drawn, (draws, u)."""
    of_arm = np.flatnonzero(arm)
    weights = np.zeros((draws, len(arm)))
    weights[:, of_arm] = rng.multinomial(len(of_arm), np.full(len(of_arm), 1 / len(of_arm)), size=draws)
    return weights


def _too_few(count: npt.NDArray[np.generic], trial: _Trial) -> bool:
    present = np.asarray(count) > 0
    return min(int((present & arm).sum()) for arm in (trial.is_reordered, ~trial.is_reordered)) < 2
