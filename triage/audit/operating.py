"""What the flag does at its operating point: shares with weights and repeated patients, net benefit, confusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.audit.bootstrap import NAN, Floats, Patients, Resampled, percentile
from triage.audit.performance import Area, Components, covariance, logit_interval, wilson

WILSON = "Wilson"
DESIGN_EFFECT = "Wilson, at the size that patients and weights leave"
WEIGHTED = "weighted, by patient"
FEW_PATTERNS = 10_000


@dataclass(frozen=True)
class Share:
    """
    A share with its interval.

    Attributes:
        hits: weighted; without weights a count.
        cases, patients: that it rests on.
        effective: how many independent, equally weighted cases would be as sure; `cases` where they are that.
    """

    value: float
    low: float
    high: float
    hits: float
    cases: int
    patients: int
    effective: float
    method: str
    level: float = 0.95


@dataclass(frozen=True)
class OperatingPoint:
    """The flag against the truth; the predictive values are at the prevalence of these cases."""

    sensitivity: Share
    specificity: Share
    ppv: Share
    npv: Share


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit (t,) at each threshold (t,): of the model and of flagging all; of flagging none it is 0."""

    threshold: Floats
    model: Floats
    flag_all: Floats


def shares(
    is_hit: npt.ArrayLike,
    group: npt.ArrayLike,
    groups: int,
    weight: npt.ArrayLike | None = None,
    patients: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> tuple[Share, ...]:
    """
    The share of hits in each group, Wilson's interval.

    Where a patient has several cases of a group, or weights differ, Wilson's formula gets the effective size p (1 - p)
    / variance, the variance linearised over patients, rounded down, and never more than the weights' own (Korn &
    Graubard, Survey Methodology 24, 1998). A share of 0 or 1 has no variance to tell by: its size is that of the
    patients' summed weights, as if each patient's cases were one.

    Args:
        is_hit: (n,).
        group: (n,) 0 ... groups - 1, or -1 to leave the case out.
        weight: (n,) at least 0; 0 leaves a case out.
        patients: (n,) the patient of each case, names or numbers; none given, each case is its own patient.
    Returns:
        A share for each group; without a case NaN with limits 0 and 1.
    """
    hit, number = np.asarray(is_hit, dtype=np.float64), np.asarray(group, dtype=np.int64)
    w = _weights(weight, len(hit))
    whose = np.arange(len(hit)) if patients is None else Patients(patients).number
    if not len(hit) == len(number) == len(whose):
        raise ValueError(f"{len(number)} groups and {len(whose)} patients for {len(hit)} cases")
    counted = (number >= 0) & (w > 0)
    hit, number, w, whose = hit[counted], number[counted], w[counted], whose[counted]

    def summed(values: npt.ArrayLike, places: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(np.bincount(places, values, groups), dtype=np.float64)

    cases, total, hits = np.bincount(number, minlength=groups), summed(w, number), summed(w * hit, number)
    value = np.divide(hits, total, out=np.full(groups, NAN), where=total > 0)
    keys, cluster = np.unique(whose * groups + number, return_inverse=True)
    of_cluster: npt.NDArray[np.int64] = (keys % groups).astype(np.int64)
    people = np.bincount(of_cluster, minlength=groups)
    score = np.bincount(cluster, w * (hit - value[number]), len(keys))
    sums = np.bincount(cluster, w, len(keys))
    with np.errstate(divide="ignore", invalid="ignore"):
        most = total**2 / summed(w**2, number)
        alone = total**2 / summed(sums**2, of_cluster)
        variance = summed(score**2, of_cluster) / total**2 * people / (people - 1)
        spread = np.minimum(value * (1 - value) / variance, most)
    plain = (people == cases) & np.isclose(most, cases, rtol=1e-9)
    effective = np.where(plain, cases, np.where((value > 0) & (value < 1) & (people > 1), spread, alone))
    return tuple(
        _share(value[g], hits[g], int(cases[g]), int(people[g]), float(effective[g]), bool(plain[g]), level)
        for g in range(groups)
    )


def share(
    is_hit: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    patients: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Share:
    """The share of hits (n,), such as of right classes (three-class accuracy); see `shares`."""
    return shares(is_hit, np.zeros(len(np.asarray(is_hit))), 1, weight, patients, level=level)[0]


def operating_point(
    is_flagged: npt.ArrayLike,
    is_positive: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    patients: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> OperatingPoint:
    """Sensitivity, specificity and predictive values of the flag (n,) against the truth (n,); see `shares`."""
    flagged, positive = np.asarray(is_flagged, dtype=bool), np.asarray(is_positive, dtype=bool)
    whose = None if patients is None else Patients(patients).number
    healthy, sick = shares(flagged == positive, positive, 2, weight, whose, level=level)
    unflagged, warned = shares(flagged == positive, flagged, 2, weight, whose, level=level)
    return OperatingPoint(sick, healthy, warned, unflagged)


def confusion(chosen: npt.ArrayLike, truth: npt.ArrayLike, classes: int, weight: npt.ArrayLike | None = None) -> Floats:
    """How many, or what weight, of each true class (row) were given each class (column): (classes, classes)."""
    found, true = np.asarray(chosen, dtype=np.int64), np.asarray(truth, dtype=np.int64)
    for name, values in (("chosen", found), ("truth", true)):
        if ((values < 0) | (values >= classes)).any():
            raise ValueError(f"{name}: a class outside 0 ... {classes - 1}")
    counts = np.bincount(true * classes + found, _weights(weight, len(found)), classes**2)
    return counts.reshape(classes, classes).astype(np.float64)


def net_benefit(
    is_flagged: npt.ArrayLike,
    is_positive: npt.ArrayLike,
    threshold: float,
    *,
    prevalence: float | None = None,
    weight: npt.ArrayLike | None = None,
    patients: npt.ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 1,
    level: float = 0.95,
) -> Resampled:
    """
    Net benefit of flagging, in true positives a case (Vickers & Elkin, Medical Decision Making 26, 2006).

    TP / n - FP / n · t / (1 - t), or at another prevalence Se · prevalence - (1 - Sp)(1 - prevalence) t / (1 - t),
    with a percentile interval, patients drawn with replacement. Patients alike in their counts are drawn by how many
    there are of each kind, the same distribution at a fraction of the time.

    Args:
        is_flagged, is_positive: (n,).
        threshold: t in (0, 1): at odds of t a false alarm costs what a found case gains. Policy, not the model's.
        prevalence: of positives where the flag shall be used; none given, that of these cases.
        weight: (n,).
        patients: (n,) the patient of each case; none given, each case is its own patient.
    Returns:
        As `bootstrap.percentile`; NaN without a case, at another prevalence without either class.
    """
    if not 0 < threshold < 1:
        raise ValueError("the threshold of the net benefit is not in (0, 1)")
    flagged, positive = np.asarray(is_flagged, dtype=bool), np.asarray(is_positive, dtype=bool)
    w = _weights(weight, len(flagged))
    columns = np.stack([w * (flagged & positive), w * (flagged & ~positive), w * positive, w * ~positive])
    if patients is not None:
        number = Patients(patients).number
        columns = np.stack([np.bincount(number, column) for column in columns])
    kinds, counts = _kinds(columns)

    def benefit(sums: Floats) -> Floats:
        return _benefit(sums, threshold / (1 - threshold), prevalence)

    people = int(counts.sum())
    value = float(benefit(counts @ kinds))
    if len(kinds) > FEW_PATTERNS:
        each = columns.T
        return percentile(
            lambda rows: float(benefit(each[rows].sum(axis=0))), np.arange(people), draws=draws, seed=seed, level=level
        )
    rng = np.random.default_rng(seed)
    # one row at a time: the table of all draws and kinds would not be small
    drawn = np.array([benefit(rng.multinomial(people, counts / people) @ kinds) for _ in range(draws * (people > 1))])
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, (0.5 - level / 2, 0.5 + level / 2)) if len(drawn) else (NAN, NAN)
    undefined = draws - len(drawn)
    return Resampled(value, float(low), float(high), "bootstrap by patient", people, draws, undefined, seed, level)


def decision_curve(
    probability: npt.ArrayLike,
    is_positive: npt.ArrayLike,
    thresholds: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
) -> DecisionCurve:
    """Net benefit at each of *thresholds* (t,) in (0, 1), a case being flagged at or above; NaN without a case."""
    p, positive = np.asarray(probability, dtype=np.float64), np.asarray(is_positive, dtype=bool)
    t = np.asarray(thresholds, dtype=np.float64)
    if not ((t > 0) & (t < 1)).all():
        raise ValueError("a threshold of the decision curve is not in (0, 1)")
    w = _weights(weight, len(p))
    order = np.argsort(p, kind="stable")
    first = np.searchsorted(p[order], t, side="left")

    def above(values: Floats) -> Floats:
        return np.concatenate([np.cumsum(values[order][::-1])[::-1], [0.0]])

    found, alarms = above(w * positive), above(w * ~positive)
    odds, total = t / (1 - t), float(w.sum()) or NAN
    return DecisionCurve(t, (found[first] - alarms[first] * odds) / total, (found[0] - alarms[0] * odds) / total)


def weighted_area(
    score: npt.ArrayLike,
    is_positive: npt.ArrayLike,
    weight: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> Area:
    """
    AUC of cases that each stand for *weight* cases, as early labels do; with equal weights, that of `performance.area`.

    A pair counts by the product of its weights. The variance takes the weights as given and sums DeLong's components,
    weighted, over patients. Limits are NaN at an area of 0 or 1 and with too few patients.

    Args:
        score: (n,).
        is_positive: (n,).
        weight: (n,) at least 0; 0 leaves a case out.
        patients: (n,) the patient of each case; none given, each case is its own patient.
    """
    w = _weights(weight, len(np.asarray(score)))
    counted = w > 0
    w, x, positive = w[counted], np.asarray(score, np.float64)[counted], np.asarray(is_positive, dtype=bool)[counted]
    whose = np.arange(len(w)) if patients is None else Patients(np.asarray(patients)[counted]).number
    m, n, people = int(positive.sum()), int((~positive).sum()), len(np.unique(whose))
    if m == 0 or n == 0 or np.isnan(x).any():
        return Area(NAN, NAN, NAN, NAN, WEIGHTED, m, n, people, level)
    above, below = _beaten(x, w, positive), _beaten(-x, w, ~positive)
    value = float(w[positive] @ above / w[positive].sum())
    # stretched by their weights, the components' plain means and sums are the weighted ones
    stretched = Components(
        np.array([value]),
        (value + (above - value) * w[positive] / w[positive].mean())[None],
        (value + (below - value) * w[~positive] / w[~positive].mean())[None],
        positive,
    )
    variance = float(covariance(stretched, whose)[0, 0])
    return Area(value, variance, *logit_interval(value, variance, level), WEIGHTED, m, n, people, level)


def _weights(weight: npt.ArrayLike | None, cases: int) -> Floats:
    w = np.ones(cases) if weight is None else np.asarray(weight, dtype=np.float64)
    if w.shape != (cases,):
        raise ValueError(f"{w.shape} weights for {cases} cases")
    if (w < 0).any() or not np.isfinite(w).all():
        raise ValueError("a weight that is negative or not finite")
    return w


def _share(value: float, hits: float, cases: int, people: int, effective: float, plain: bool, level: float) -> Share:
    if cases == 0:
        return Share(NAN, *wilson(0, 0, level), 0.0, 0, 0, 0.0, WILSON, level)
    size = int(effective + 1e-9)
    low, high = wilson(value * size, size, level)
    method = WILSON if plain else DESIGN_EFFECT
    return Share(float(value), low, high, float(hits), cases, people, effective, method, level)


def _kinds(columns: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The different columns (kinds, q) of an array (q, patients), and how many patients have each."""
    order = np.lexsort(columns)
    sorted_columns = columns[:, order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (sorted_columns[:, 1:] != sorted_columns[:, :-1]).any(axis=0)
    starts = np.flatnonzero(new)
    return sorted_columns[:, starts].T, np.diff(np.append(starts, len(order)))


def _benefit(sums: Floats, odds: float, prevalence: float | None) -> Floats:
    """Net benefit of sums (..., 4) of true alarms, false alarms, positives, negatives."""
    true, false, positives, negatives = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        if prevalence is None:
            return np.asarray((true - false * odds) / (positives + negatives))
        return np.asarray(true / positives * prevalence - false / negatives * (1 - prevalence) * odds)


def _beaten(score: Floats, weight: Floats, mine: npt.NDArray[np.bool_]) -> Floats:
    """Weighted share of the other class that each of *mine* scores above, ties by half."""
    values, place = np.unique(score, return_inverse=True)
    others = np.bincount(place[~mine], weight[~mine], len(values))
    beaten: Floats = (np.cumsum(others) - others / 2)[place[mine]] / others.sum()
    return beaten
