"""How long studies wait in theory: first come first read, and read by AI class, for c readers or one of any habits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats

INF = float("inf")


@dataclass(frozen=True, eq=False)
class Triage:
    """
    Mean waits when k classes are read most urgent first: COVID, PNEUMONIA, NORMAL, or diseased and not.

    Attributes:
        first_come: everyone's wait without triage.
        share: (k,) of all studies in each AI class.
        by_ai: (k,) wait of each AI class; NaN where the AI never says so, inf where the readers cannot keep up.
        by_truth: (k,) wait of each true class; NaN where there is none of it.
        missed: (k,) wait of those of a true class that the AI put into a less urgent one; NaN where it misses none.
        others: wait of all that are not of the most urgent true class.
    """

    first_come: float
    share: Floats
    by_ai: Floats
    by_truth: Floats
    missed: Floats
    others: float

    @property
    def change(self) -> Floats:
        """By true class (k,): the wait with triage minus the wait without, below 0 where it helps."""
        return self.by_truth - self.first_come


def erlang_c(offered: float, readers: int) -> float:
    """Share of studies that find all readers busy (Erlang 1917), 1 if they never keep up; *offered*: work a second."""
    _check_readers(readers)
    if not offered >= 0:
        raise ValueError(f"offered work of {offered}")
    if offered >= readers:
        return 1.0
    blocked = 1.0
    for n in range(1, readers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return readers * blocked / (readers - offered * (1 - blocked))


def first_come(rate: float, mean_read: float, readers: int = 1) -> float:
    """Mean wait in M/M/c, in the unit of *mean_read*; inf where more comes than is read."""
    offered = rate * mean_read
    busy = erlang_c(offered, readers)
    return busy * mean_read / (readers - offered) if offered < readers else INF


def first_come_quantile(share: float, rate: float, mean_read: float, readers: int = 1) -> float:
    """Wait within which *share* of the studies are opened in M/M/c: those that wait at all wait exponentially long."""
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share}")
    offered = rate * mean_read
    if offered >= readers:
        return INF
    longer = erlang_c(offered, readers) / (1 - share)
    return mean_read / (readers - offered) * float(np.log(longer)) if longer > 1 else 0.0


def preemptive(rates: npt.ArrayLike, mean_read: float, readers: int = 1) -> Floats:
    """
    Mean waits (k,) in M/M/c where a more urgent study interrupts a read, which is resumed; interruptions are waiting.

    What the first k classes are to each other is hidden from all others, so together they are an M/M/c of their own,
    and class k waits W_k = (Q_k - Q_{k-1}) / rate_k, Q_k being how many of the first k wait (Little's law). Exact, as
    all reads are equally long on average (Buzen & Bondi, Operations Research 31, 1983).

    Args:
        rates: (k,) arrivals in a unit of time, most urgent class first.
    Returns:
        NaN for a class that never comes, inf for one that the readers cannot keep up with.
    """
    rate = _checked(rates)
    upto = np.cumsum(rate)
    queued = np.array([r * first_come(r, mean_read, readers) if r else 0.0 for r in upto.tolist()])
    is_met = upto * mean_read < readers
    return _by_class(np.diff(np.where(is_met, queued, 0.0), prepend=0.0), rate, is_met)


def non_preemptive(rates: npt.ArrayLike, mean_read: float, readers: int = 1) -> Floats:
    """
    Mean waits (k,) in M/M/c where a read, once begun, is finished: what readers do (Cobham 1954).

    Args:
        rates: (k,) arrivals in a unit of time, most urgent class first.
    Returns:
        As `preemptive`.
    """
    rate = _checked(rates)
    upto = np.cumsum(rate) * mean_read / readers
    turn = erlang_c(float(rate.sum()) * mean_read, readers) * mean_read / readers
    return _cobham(np.full(len(rate), turn), rate, upto)


def first_come_general(rates: npt.ArrayLike, means: npt.ArrayLike, squares: npt.ArrayLike) -> float:
    """
    Mean wait in M/G/1 (Pollaczek & Khinchine): one reader, reads of any distribution.

    Args:
        rates, means, squares: (k,) arrivals, mean read and mean squared read of each kind of study.
    """
    rate, mean, square = _checked(rates), _checked(means), _checked(squares)
    load = float(rate @ mean)
    return float(rate @ square) / 2 / (1 - load) if load < 1 else INF


def preemptive_general(rates: npt.ArrayLike, means: npt.ArrayLike, squares: npt.ArrayLike) -> Floats:
    """
    Mean waits (k,) in M/G/1 with interruption and resumption (Kleinrock, Queueing Systems 2, 1976, section 3.5).

    Args:
        rates, means, squares: (k,) arrivals, mean read and mean squared read of each class, most urgent first.
    Returns:
        As `preemptive`.
    """
    queue, stretch = _interrupted(_checked(rates), _checked(means), _checked(squares))
    waits: Floats = queue + _checked(means) * stretch
    return waits


def non_preemptive_general(rates: npt.ArrayLike, means: npt.ArrayLike, squares: npt.ArrayLike) -> Floats:
    """
    Mean waits (k,) in M/G/1 where a read, once begun, is finished (Cobham 1954).

    With more work than the reader can do the urgent classes still have a finite wait; of the first class that is not
    kept up with only as much is read as there is time left, and only that stands in a new study's way.

    Args:
        rates, means, squares: (k,) as `preemptive_general`.
    Returns:
        As `preemptive`.
    """
    rate, mean, square = _checked(rates), _checked(means), _checked(squares)
    upto = np.cumsum(rate * mean)
    before = np.concatenate([[0.0], upto[:-1]])
    served = np.minimum(rate, np.maximum(0, 1 - before) / mean)
    return _cobham(np.full(len(rate), float(served @ square) / 2), rate, upto)


def two_classes(prevalence: float, sensitivity: float, specificity: float) -> tuple[Floats, Floats]:
    """Prevalence (2,) and confusion (2, 2) of diseased and not diseased, flagged and not, for `triaged`."""
    confusion = [[sensitivity, 1 - sensitivity], [1 - specificity, specificity]]
    return np.array([prevalence, 1 - prevalence]), np.array(confusion)


def triaged(
    load: float,
    mean_read: float,
    prevalence: npt.ArrayLike,
    confusion: npt.ArrayLike,
    *,
    readers: int = 1,
    is_preemptive: bool = False,
) -> Triage:
    """
    Waits by what the AI says and by what is true, studies being read in the order of their AI class (M/M/c).

    Args:
        load: share of the readers' time that reading takes, rho.
        prevalence: (k,) share of each true class, most urgent first; adds up to 1.
        confusion: (k, k) share of true class i that the AI puts into class j; each row adds up to 1.
    """
    prior, matrix = _shares(prevalence, confusion)
    rate = load * readers / mean_read
    rule = preemptive if is_preemptive else non_preemptive
    by_ai = rule(rate * (prior @ matrix), mean_read, readers)
    everyone = first_come(rate, mean_read, readers)
    return _triage(everyone, prior, matrix, by_ai, np.broadcast_to(by_ai, matrix.shape))


def triaged_general(
    load: float,
    means: npt.ArrayLike,
    squares: npt.ArrayLike,
    prevalence: npt.ArrayLike,
    confusion: npt.ArrayLike,
    *,
    is_preemptive: bool = False,
) -> Triage:
    """
    As `triaged` for one reader (M/G/1), the reads of each true class having a distribution of their own.

    Args:
        means, squares: (k,) mean read and mean squared read of each true class.
    """
    prior, matrix = _shares(prevalence, confusion)
    mean, square = _checked(means), _checked(squares)
    joint = load / float(prior @ mean) * prior[:, None] * matrix
    rate = joint.sum(axis=0)
    # what the AI says mixes the true classes; a class it never names may have any read
    mixed_mean, mixed_square = (
        np.where(rate > 0, v @ joint / np.where(rate > 0, rate, 1), 1.0) for v in (mean, square)
    )
    if is_preemptive:
        queue, stretch = _interrupted(rate, mixed_mean, mixed_square)
        by_ai, by_both = queue + mixed_mean * stretch, queue + mean[:, None] * stretch
    else:
        by_ai = non_preemptive_general(rate, mixed_mean, mixed_square)
        by_both = np.broadcast_to(by_ai, matrix.shape)
    everyone = first_come_general(load / float(prior @ mean) * prior, mean, square)
    return _triage(everyone, prior, matrix, by_ai, by_both)


def _interrupted(rate: Floats, mean: Floats, square: Floats) -> tuple[Floats, Floats]:
    """Of each class (k,) the wait until a read begins, and how much waiting each unit of its own read then adds."""
    upto = np.cumsum(rate * mean)
    before = np.concatenate([[0.0], upto[:-1]])
    stretch = np.divide(before, 1 - before, out=np.full(len(rate), INF), where=before < 1)
    return _cobham(np.cumsum(rate * square) / 2, rate, upto), stretch


def _cobham(turn: Floats, rate: Floats, upto: Floats) -> Floats:
    """The wait for the next read to end, *turn* (k,), stretched by the classes read before and with one's own."""
    before = np.concatenate([[0.0], upto[:-1]])
    is_met = upto < 1
    room = np.where(is_met, (1 - before) * (1 - upto), 1.0)
    return _by_class(turn / room * rate, rate, is_met)


def _by_class(waiting: Floats, rate: Floats, is_met: npt.NDArray[np.bool_]) -> Floats:
    """Number waiting (k,) to the wait of one; NaN of a class that never comes, inf where it is not kept up with."""
    each = np.divide(waiting, rate, out=np.full(len(rate), NAN), where=rate > 0)
    waits: Floats = np.where(is_met | (rate == 0), each, INF)
    return waits


def _triage(everyone: float, prior: Floats, matrix: Floats, by_ai: Floats, by_both: Floats) -> Triage:
    """*by_both*: (k, k) wait of true class i in AI class j."""
    by_truth = np.array([_mean(row, w) if p else NAN for row, w, p in zip(by_both, matrix, prior, strict=True)])
    missed = np.array([_mean(row[i + 1 :], matrix[i, i + 1 :]) for i, row in enumerate(by_both)])
    others = _mean(by_truth[1:], prior[1:])
    return Triage(everyone, prior @ matrix, by_ai, by_truth, missed, others)


def _mean(values: Floats, weights: Floats) -> float:
    """Weighted mean of what has a weight; NaN of nothing."""
    some = weights > 0
    return float(values[some] @ weights[some] / weights[some].sum()) if some.any() else NAN


def _shares(prevalence: npt.ArrayLike, confusion: npt.ArrayLike) -> tuple[Floats, Floats]:
    prior, matrix = _checked(prevalence), np.asarray(confusion, dtype=np.float64)
    if matrix.shape != (len(prior), len(prior)):
        raise ValueError(f"{len(prior)} classes, confusion {matrix.shape}")
    if not (matrix >= 0).all() or not np.allclose([prior.sum(), *matrix.sum(axis=1)], 1):
        raise ValueError("prevalence and each row of the confusion must be shares that add up to 1")
    return prior, matrix


def _checked(values: npt.ArrayLike) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not (found >= 0).all():
        raise ValueError("rates, reads and shares must be one row of numbers, none below 0")
    return found


def _check_readers(readers: int) -> None:
    if readers < 1:
        raise ValueError(f"{readers} readers")
