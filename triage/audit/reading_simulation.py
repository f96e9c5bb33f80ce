"""What readers would do: a seeded simulation of c readers who take studies in one order or another."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats
from triage.audit.reading_lines import Line

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Studies:
    """
    Studies as they come: all arrays (n,), in the order of arrival.

    Attributes:
        arrived: seconds.
        read: seconds that reading takes.
        truth, ai: class codes.
    """

    arrived: Floats
    read: Floats
    truth: Codes
    ai: Codes


def drawn(
    n: int,
    *,
    load: float,
    mean_read: float,
    prevalence: npt.ArrayLike,
    confusion: npt.ArrayLike,
    readers: int = 1,
    spread: float = 1.0,
    seed: int = 1,
) -> Studies:
    """
    Draw studies of which the closed forms of `queueing` hold: Poisson arrivals, reads of one distribution.

    Args:
        load: share of the readers' time that reading takes.
        prevalence, confusion: (k,) and (k, k) as `queueing.triaged`.
        spread: squared coefficient of variation of a read (gamma distributed); 1 is exponential, 0 always the mean.
    """
    prior, matrix = np.asarray(prevalence, dtype=np.float64), np.asarray(confusion, dtype=np.float64)
    rng = np.random.default_rng(seed)
    arrived = np.cumsum(rng.exponential(mean_read / (load * readers), size=n))
    read = rng.gamma(1 / spread, mean_read * spread, size=n) if spread > 0 else np.full(n, mean_read)
    truth = rng.choice(len(prior), size=n, p=prior)
    within = np.cumsum(matrix, axis=1)[truth, :-1]
    ai = (rng.random(n)[:, None] >= within).sum(axis=1)
    return Studies(arrived, read, truth.astype(np.int64), ai.astype(np.int64))


def started(arrived: npt.ArrayLike, read: npt.ArrayLike, line: Line, *, readers: int = 1) -> Floats:
    """
    When each study is opened (n,), by readers who never rest while one waits and never interrupt a read.

    Args:
        arrived: (n,) seconds, rising.
        read: (n,) seconds that reading takes.
        line: empty; the order in which waiting studies are taken.
    """
    came, length = _in_order(arrived), np.asarray(read, dtype=np.float64)
    if length.shape != came.shape or not (length >= 0).all() or readers < 1:
        raise ValueError(f"{len(came)} studies, {length.shape} reads, {readers} readers")
    at, of, n = came.tolist(), length.tolist(), len(came)
    opened = [NAN] * n
    free, here, now = [-np.inf] * readers, 0, -np.inf
    for _ in range(n):
        # a reader who rests takes at once what has just come: never before the last opening
        now = max(free[0], now if len(line) else at[here])
        while here < n and at[here] <= now:
            line.add(here)
            here += 1
        study = line.take(now)
        opened[study] = now
        heappop(free)
        heappush(free, now + of[study])
    return np.array(opened)


def taken_at(epochs: npt.ArrayLike, arrived: npt.ArrayLike, line: Line) -> Floats:
    """
    When each study is opened (n,) if a reader opens one at each of the given instants; NaN of those left over.

    Args:
        epochs: (m,) seconds at which somebody opened something, in any order.
        arrived: (n,) seconds, rising.
        line: empty; the order in which waiting studies are taken.
    Raises:
        ValueError: nothing was waiting at one of the instants.
    """
    at = _in_order(arrived).tolist()
    opened, here = np.full(len(at), NAN), 0
    for now in np.sort(np.asarray(epochs, dtype=np.float64)).tolist():
        while here < len(at) and at[here] <= now:
            line.add(here)
            here += 1
        if not len(line):
            raise ValueError("a reader opened a study when none was waiting")
        opened[line.take(now)] = now
    return opened


def overtaking_bound(arrived: npt.ArrayLike, read: npt.ArrayLike, allowance: npt.ArrayLike, readers: int = 1) -> Floats:
    """
    By how much a study can at most be opened later under `due_dates` than under `first_come` (n,), in seconds.

    Only studies that come after it and are due before it can overtake it, those within D_own - D_other of its arrival.
    One reader: the sum of their reads. With c readers who always work, the two orders' unfinished work differs by at
    most the reads of c - 1 readers, at arrival and again at opening: (their reads + 2 (c - 1) longest read) / c.

    Args:
        arrived: (n,) seconds, rising.
        read, allowance: (n,) seconds; the due date is arrived + allowance.
    """
    came, length = _in_order(arrived), np.asarray(read, dtype=np.float64)
    allowed = np.asarray(allowance, dtype=np.float64)
    due, number = came + allowed, np.arange(len(came))
    overtaking = np.zeros(len(came))
    for urgent in np.unique(allowed):
        theirs = np.flatnonzero(allowed == urgent)
        total = np.concatenate([[0.0], np.cumsum(length[theirs])])
        before = np.searchsorted(theirs, number, side="right")
        within = np.searchsorted(due[theirs], due, side="left")
        overtaking += total[np.maximum(within, before)] - total[before]
    longest = float(length.max(initial=0.0))
    bound: Floats = (overtaking + 2 * (readers - 1) * longest) / readers
    return bound


def _in_order(arrived: npt.ArrayLike) -> Floats:
    came = np.asarray(arrived, dtype=np.float64)
    if came.ndim != 1 or not np.isfinite(came).all() or (np.diff(came) < 0).any():
        raise ValueError("studies must come in the order of their arrival, each at a known instant")
    return came
