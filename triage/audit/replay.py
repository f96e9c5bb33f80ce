"""What a site's own readers would have done first come first read: the same arrivals and openings, another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats, Resampled, percentile
from triage.audit.reading_lines import ReadingList
from triage.audit.reading_simulation import taken_at
from triage.audit.waits import Group, Span, Waits, restricted, span, summary
from triage.domain.order import RequestedPriority
from triage.domain.priority import PriorityPolicy


@dataclass(frozen=True)
class Moved:
    """
    Places that a group's studies stand before (above 0) or behind (below 0) their places in the other order.

    A study's place is its number among all openings; studies unread in either order have none and are left out.
    """

    mean: float
    forward: int
    back: int
    furthest_forward: int
    furthest_back: int


@dataclass(frozen=True, eq=False)
class Replayed:
    """
    One group's real waits beside those it would have had.

    Attributes:
        saving: mean of the paired savings, other wait minus real wait, of studies read in both orders; seconds.
        restricted_saving: difference of the restricted mean waits, unread studies included (Kaplan-Meier); seconds.
    """

    kind: str
    name: str
    real: Waits
    other: Waits
    read_in_both: int
    saving: Resampled
    restricted_saving: Resampled
    moved: Moved


def first_come(arrived: npt.ArrayLike, opened: npt.ArrayLike) -> Floats:
    """
    When each study would have been opened (n,) had each real opening gone to the one waiting longest.

    The r-th opening goes to the r-th arrival, which has always come by then. Where studies are unread, those that came
    last stay so.

    Args:
        arrived, opened: (n,) seconds; NaN while unread.
    """
    came, real = _log(arrived, opened)
    epochs = np.sort(real[~np.isnan(real)])
    instead = np.full(len(came), NAN)
    instead[np.argsort(came, kind="stable")[: len(epochs)]] = epochs
    return instead


def clinical_order(
    arrived: npt.ArrayLike, opened: npt.ArrayLike, priority: Sequence[RequestedPriority], policy: PriorityPolicy
) -> Floats:
    """
    When each study would have been opened (n,) in the product's reading order without any AI.

    Against this order the AI gets no credit for what the ordering physicians' own STAT and urgent did.

    Args:
        arrived, opened: (n,) seconds; NaN while unread.
        priority: (n,) what was ordered.
    """
    came, real = _log(arrived, opened)
    order = np.argsort(came, kind="stable")
    line = ReadingList(came[order], [priority[i] for i in order], np.full(len(came), NAN), policy)
    instead = np.empty(len(came))
    instead[order] = taken_at(real[~np.isnan(real)], came[order], line)
    return instead


def replayed(
    arrived: npt.ArrayLike,
    opened: npt.ArrayLike,
    instead: npt.ArrayLike,
    *,
    as_of: float,
    day: npt.ArrayLike,
    groups: Sequence[Group],
    horizon: float,
    limit: npt.ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 1,
    level: float = 0.95,
) -> tuple[Replayed, ...]:
    """
    Compare, study by study, the real order with another one of the same openings.

    Nothing but the order differs: when a reader was free, and how long each study took to read, is the site's own, so a
    report comes as much sooner as its study is opened. Over all studies the savings add up to nothing; what one class
    wins, others wait. A day's studies share their queue, so whole days are drawn anew for the intervals.

    Args:
        arrived, opened: (n,) seconds; NaN while unread. The wait counts from the arrival of the images, so the time the
            AI takes is part of it.
        instead: (n,) as of `first_come` or `clinical_order`.
        as_of: the instant the log ends.
        day: (n,) the site's day on which the study came, any number or name.
        groups: as of `waits.groups`.
        horizon: seconds at which restricted means stop counting.
        limit: seconds, one for all or (n,): the longest wait aimed at.
    Returns:
        One comparison a group. Intervals are NaN with fewer than two days, and where the figure itself is.
    """
    came, real = _log(arrived, opened)
    _, other = _log(arrived, instead)
    if not np.array_equal(np.sort(other), np.sort(real), equal_nan=True):
        raise ValueError("the other order has other openings than the real one")
    days, limits = np.asarray(day), None if limit is None else np.broadcast_to(np.asarray(limit), came.shape)
    if days.shape != came.shape:
        raise ValueError(f"{days.shape} days for {len(came)} studies")
    spans = span(came, real, as_of=as_of), span(came, other, as_of=as_of)
    ranks = _places(came, other) - _places(came, real)
    found = []
    for group in groups:
        rows = group.rows
        ours, theirs = (_waits(s, rows, horizon, limits) for s in spans)
        paired = spans[1].wait[rows] - spans[0].wait[rows]
        both = ~np.isnan(paired)
        shorter = np.subtract(*(restricted(s.wait[rows], s.followed[rows], horizon) for s in reversed(spans)))
        saving = by_day(paired[both], days[rows][both], draws=draws, seed=seed, level=level)
        of_all = by_day(shorter, days[rows], draws=draws, seed=seed, level=level)
        moved = _moved(ranks[rows])
        found.append(Replayed(group.kind, group.name, ours, theirs, int(both.sum()), saving, of_all, moved))
    return tuple(found)


def by_day(
    values: npt.ArrayLike, day: npt.ArrayLike, *, draws: int = 1000, seed: int = 1, level: float = 0.95
) -> Resampled:
    """
    The mean of *values* (n,) and its percentile interval, whole days drawn with replacement.

    Args:
        day: (n,) the day of each value.
    """
    value, (_, number) = np.asarray(values, dtype=np.float64), np.unique(np.asarray(day), return_inverse=True)
    total, count = np.bincount(number, weights=value), np.bincount(number)
    found = percentile(
        lambda rows: float(total[rows].sum() / count[rows].sum()),
        np.arange(len(count)),
        draws=draws,
        seed=seed,
        level=level,
    )
    return replace(found, method="bootstrap by day")


def _log(arrived: npt.ArrayLike, opened: npt.ArrayLike) -> tuple[Floats, Floats]:
    came, real = np.asarray(arrived, dtype=np.float64), np.asarray(opened, dtype=np.float64)
    if came.shape != real.shape or came.ndim != 1 or not np.isfinite(came).all() or np.isinf(real).any():
        raise ValueError("a log has an instant of arrival for each study, and one of opening or NaN")
    early = int((real < came).sum())
    if early:
        raise ValueError(f"{early} studies opened before they came")
    return came, real


def _waits(spent: Span, rows: npt.NDArray[np.bool_], horizon: float, limits: Floats | None) -> Waits:
    return summary(
        spent.wait[rows], spent.followed[rows], horizon=horizon, limit=None if limits is None else limits[rows]
    )


def _places(arrived: Floats, opened: Floats) -> Floats:
    """The number (n,) of each study among all openings, ties in order of arrival; NaN of those unread."""
    place = np.full(len(opened), NAN)
    order = np.lexsort((arrived, opened))
    order = order[~np.isnan(opened[order])]
    place[order] = np.arange(len(order))
    return place


def _moved(ranks: Floats) -> Moved:
    known = ranks[~np.isnan(ranks)]
    if not len(known):
        return Moved(NAN, 0, 0, 0, 0)
    forward, back = int((known > 0).sum()), int((known < 0).sum())
    return Moved(float(known.mean()), forward, back, max(0, int(known.max())), max(0, -int(known.min())))
