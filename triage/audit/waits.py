"""The waits of groups of studies, those still unread included: quantiles, share past a limit, restricted mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats
from triage.audit.label_delay import Curve, curves, thinned

Mask = npt.NDArray[np.bool_]
UNKNOWN = -1
"""Code of a study that the AI has no class for (down, failed, timed out, not eligible), or that has no true class."""


@dataclass(frozen=True, eq=False)
class Group:
    """Studies that are looked at together: those whose row in *rows* (n,) is True."""

    kind: str
    """all | AI class | true class"""
    name: str
    rows: Mask


@dataclass(frozen=True, eq=False)
class Span:
    """
    Time from one instant to another, of studies that had the first.

    Attributes:
        wait: (n,) seconds; NaN where the second has not come yet, and in rows that do not count.
        followed: (n,) seconds for which it could have been seen to come.
        counts: (n,) whether the study had the first instant, and not the second before it.
        reversed: how many had the second before the first, as when a study is opened before the AI has a result.
    """

    wait: Floats
    followed: Floats
    counts: Mask
    reversed: int


@dataclass(frozen=True, eq=False)
class Waits:
    """
    What a table says of the waits of a group, in seconds.

    Attributes:
        unread: studies whose wait has not ended; they count with the time they have waited (Kaplan-Meier).
        mean: NaN while one is unread.
        restricted_mean: mean of the wait or *horizon*, whichever is shorter; NaN if no study was followed that long.
        median, p90, p99: wait within which that share are opened; NaN with fewer than 2, 10, 100 studies, which have
            none beyond it, and where so many are unread that it is not known.
        longest: the longest anyone waited or, with *longest_is_unread*, still waits.
        past_limit: share that waits longer than its limit; NaN without one, and where that is not known yet.
        curve: share opened by each wait, at most 200 points: for a figure.
    """

    studies: int
    unread: int
    mean: float
    restricted_mean: float
    horizon: float
    median: float
    p90: float
    p99: float
    longest: float
    longest_is_unread: bool
    past_limit: float
    curve: Curve


def span(since: npt.ArrayLike, until: npt.ArrayLike, *, as_of: float) -> Span:
    """
    Time between two instants of each study: ordered to stored, stored to AI result, AI result to opened, or any other.

    Args:
        since, until: (n,) seconds since any fixed instant; NaN where it has not happened.
        as_of: the instant the log ends; nothing in it may be later.
    """
    start, end = np.asarray(since, dtype=np.float64), np.asarray(until, dtype=np.float64)
    if start.shape != end.shape or start.ndim != 1:
        raise ValueError(f"{start.shape} first instants, {end.shape} second ones")
    if (start > as_of).any() or (end > as_of).any():
        raise ValueError("an instant after the end of the log")
    is_reversed = end < start
    counts = ~np.isnan(start) & ~is_reversed
    return Span(np.where(counts, end - start, NAN), as_of - start, counts, int(is_reversed.sum()))


def summary(
    wait: npt.ArrayLike, followed: npt.ArrayLike, *, horizon: float, limit: npt.ArrayLike | None = None
) -> Waits:
    """
    Put the waits of one group into figures.

    Args:
        wait: (n,) seconds from arrival to opening; NaN while unread.
        followed: (n,) seconds from arrival to the end of the log.
        horizon: seconds at which the restricted mean stops counting.
        limit: seconds, one for all or (n,): the site's longest wait aimed at for this study.
    """
    waited, age = np.asarray(wait, dtype=np.float64), np.asarray(followed, dtype=np.float64)
    unread = np.isnan(waited)
    known = np.where(unread, age, waited)
    curve = _curve(waited, age)
    longest = int(known.argmax()) if len(known) else -1
    return Waits(
        studies=len(waited),
        unread=int(unread.sum()),
        mean=float(waited.mean()) if len(waited) else NAN,
        restricted_mean=float(restricted(waited, age, horizon).mean()) if len(waited) else NAN,
        horizon=horizon,
        median=_quantile(curve, 0.5),
        p90=_quantile(curve, 0.9),
        p99=_quantile(curve, 0.99),
        longest=float(known[longest]) if len(known) else NAN,
        longest_is_unread=bool(unread[longest]) if len(known) else False,
        past_limit=NAN if limit is None else _past(waited, age, np.asarray(limit, dtype=np.float64)),
        curve=thinned(curve),
    )


def restricted(wait: npt.ArrayLike, followed: npt.ArrayLike, horizon: float) -> Floats:
    """
    Numbers (n,) whose mean is the restricted mean wait, the area under the Kaplan-Meier curve of waiting to *horizon*.

    With nobody unread they are min(wait, horizon). Otherwise they are the infinitesimal jackknife's pseudo-observations
    (Jaeckel 1972; Andersen, Hansen & Klein, Lifetime Data Analysis 10, 2004): the restricted mean plus n times its
    derivative in the weight of each study. So days can be drawn anew, or swapped between arms, without a new curve.

    Args:
        wait, followed: (n,) as `summary`.
    Returns:
        All NaN where the last that was seen of anyone, before the horizon, is a study still unread.
    """
    waited, age = np.asarray(wait, dtype=np.float64), np.asarray(followed, dtype=np.float64)
    is_open = np.isnan(waited)
    if not is_open.any():
        plain: Floats = np.minimum(waited, horizon)
        return plain
    known = np.where(is_open, age, waited)
    curve = _curve(waited, age)
    at, unopened = curve.age[curve.age < horizon], 1 - curve.share[curve.age < horizon]
    if known.max() < horizon and (not len(unopened) or unopened[-1] > 1e-12):
        return np.full(len(waited), NAN)
    # area under the curve from each opening on, and from 0
    pieces = np.diff(at, append=horizon) * unopened
    left = np.cumsum(pieces[::-1])[::-1]
    whole = (float(at[0]) + float(left[0])) if len(at) else horizon
    place = np.searchsorted(at, known, side="right") - 1
    waiting = len(known) - np.searchsorted(np.sort(known), at, side="left")
    opened = ~is_open & (place >= 0) & (known < horizon)
    events = np.bincount(place[opened], minlength=len(at))
    rest = waiting - events
    by_opening = np.divide(left, rest, out=np.zeros(len(at)), where=rest > 0)
    by_waiting = np.concatenate([[0.0], np.cumsum(by_opening * events / waiting)])
    own = np.where(opened, by_opening[place] if len(at) else 0.0, 0.0)
    return whole + len(known) * (by_waiting[place + 1] - own)


def groups(ai: npt.ArrayLike, truth: npt.ArrayLike, names: Sequence[str], *, disease: int) -> tuple[Group, ...]:
    """
    All studies, each AI class, each true class, and of the disease those that the AI missed or did not look at.

    Studies that the AI did not look at are a class of their own and never left out: its downtime is part of its effect.

    Args:
        ai, truth: (n,) class codes 0 ... k - 1, or UNKNOWN.
        names: (k,) of the classes.
        disease: code of the class that triage is for.
    """
    said, true = np.asarray(ai, dtype=np.int64), np.asarray(truth, dtype=np.int64)
    if said.shape != true.shape or said.ndim != 1:
        raise ValueError(f"{said.shape} AI classes, {true.shape} true ones")
    if any(len(v) and (v.min() < UNKNOWN or v.max() >= len(names)) for v in (said, true)):
        raise ValueError(f"a class code outside {UNKNOWN} ... {len(names) - 1}")
    is_diseased = true == disease
    return (
        Group("all", "all studies", np.ones(len(said), dtype=bool)),
        *(Group("AI class", name, said == k) for k, name in enumerate(names)),
        Group("AI class", "not assessed", said == UNKNOWN),
        *(Group("true class", name, true == k) for k, name in enumerate(names)),
        Group("true class", f"{names[disease]} missed", is_diseased & (said != disease) & (said != UNKNOWN)),
        Group("true class", f"{names[disease]} not assessed", is_diseased & (said == UNKNOWN)),
    )


def _curve(wait: Floats, followed: Floats) -> Curve:
    """The Kaplan-Meier curve of opening, which is that of labels coming."""
    found = curves(wait, followed, np.zeros(len(wait), dtype=np.int64), least_arrivals=0)
    nothing = np.empty(0)
    return found[0] if found else Curve(0, nothing, nothing, nothing, nothing, studies=0, arrived=0)


def _quantile(curve: Curve, share: float) -> float:
    reached = np.flatnonzero(curve.share >= share - 1e-12)
    # fewer than 1 / (1 - share) studies have none beyond the quantile
    is_enough = curve.studies * (1 - share) >= 1 - 1e-9
    return float(curve.age[reached[0]]) if len(reached) and is_enough else NAN


def _past(wait: Floats, followed: Floats, limit: Floats) -> float:
    """Waits and limits as a ratio, so that studies of different limits share one curve."""
    if not ((limit > 0) & np.isfinite(limit)).all():
        raise ValueError("a limit must be a finite number of seconds above 0")
    curve = _curve(wait / limit, followed / limit)
    longest = np.max(np.where(np.isnan(wait), followed, wait) / limit, initial=0.0)
    # nobody was followed to the limit, and some still wait: what they will do is not known
    is_known = longest >= 1 or (len(curve.share) and curve.share[-1] >= 1 - 1e-12)
    return 1 - float(curve.by(1.0)) if is_known else NAN
